"""Label, macro and thumbnail: read only where OpenSlide opens the slide, in true colors, never too large."""

from pathlib import Path

import numpy as np
import openslide
import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides import associated
from wsi_kd.slides.associated import associated_names, read_associated
from wsi_kd.slides.reader import open_slide

NAME = "wsi/CMU-1-Small-Region.svs"


@pytest.mark.shared_data
def test_images_are_those_of_openslide(shared_data: Path, monkeypatch) -> None:
    path = shared_data / NAME
    with open_slide(path, background="white") as reader:
        assert associated_names(reader) == ("label", "macro", "thumbnail")
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.associated_images["macro"].convert("RGB"))
    assert np.array_equal(read_associated(path, "macro"), expected)
    monkeypatch.setattr(associated, "MAX_EDGE_PX", 100)
    small = read_associated(path, "macro")
    assert max(small.shape) == 100
    assert abs(small.mean() - expected.mean()) < 1


@pytest.mark.shared_data
def test_an_image_that_is_not_there(shared_data: Path) -> None:
    with pytest.raises(SlideProblem, match=r"holds no image '\.\./label'"):
        read_associated(shared_data / NAME, "../label")


def test_other_readers_name_none(synthetic_slide) -> None:
    with open_slide(synthetic_slide("tumor").path, background="white") as reader:
        assert associated_names(reader) == ()
        reader.associated = {"label": (10, 10)}
        assert associated_names(reader) == ("label",)
        reader.format = "tiff/ome"
        assert associated_names(reader) == ()
