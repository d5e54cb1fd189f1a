"""Projector and encoder that do not fit are refused before the first job."""

import pytest

from wsi_kd.cli.plan import read_plan
from wsi_kd.core.errors import BadInput

PIXELS = {"encoder": "pixels", "input_px": 32}


@pytest.fixture
def run(tmp_path):
    rows = [f"s{index},s{index}.tif,{'normal' if index % 2 else 'tumor'},p{index}" for index in range(10)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide_id,path,label,case_id", *rows]) + "\n")
    for index in range(10):
        (tmp_path / f"s{index}.tif").touch()
    return {"manifest": str(tmp_path / "slides.csv"), "results_dir": str(tmp_path / "out")}


@pytest.mark.parametrize(
    ("embed", "train", "told"),
    [
        (PIXELS, {}, "projector linear cannot read what embed.encoder pixels makes"),
        (
            {},
            {"projector": "resnet18"},
            "resnet18 cannot read what embed.encoder stain_texture makes",
        ),
    ],
)
def test_a_projector_that_cannot_read_the_encoder_is_refused_in_the_plan(run, embed, train, told):
    with pytest.raises(BadInput, match=told):
        read_plan({"run": run, "embed": embed, "train": train})


def test_an_image_projector_on_pixels_is_planned(run):
    plan = read_plan({"run": run, "embed": PIXELS, "train": {"projector": "cnn_small"}})
    assert '"projector":"cnn_small"' in plan.train_settings("weno", 0)
    assert '"input_px":32' in plan.step_settings("embed")
