from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsi_kd.bags.datasets import load_bags
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, write_features

HEADER = {
    "status": "ok",
    "reason": "",
    "encoder": "e",
    "encoder_settings": {"input_px": 224},
    "weights_hash": "w",
    "feature_dim": 4,
    "tile_px": 256,
    "tile_mpp": 0.5,
    "overlap_px": 0,
    "tile_level0_px": 256.0,
    "slide_mpp": 0.5,
}


def row(slide_id: str, label: str = "n") -> SlideRow:
    return SlideRow(slide_id, Path(f"{slide_id}.svs"), label, slide_id, "", None, None, "")


def write(folder: Path, slide_id: str, tiles: int, **changes: Any) -> np.ndarray:
    header = {**stamp("features", {}), **HEADER, **{k: v for k, v in changes.items() if k in HEADER}}
    rng = np.random.default_rng(len(slide_id) * 100 + tiles)
    features = rng.normal(size=(tiles, header["feature_dim"])).astype(changes.get("dtype", "float16"))
    coords = np.arange(2 * tiles, dtype=np.int64).reshape(tiles, 2)
    labels = np.full(tiles, tiles % 3 - 1, dtype=np.int8)
    name = changes.get("name", slide_id)
    write_features(folder / f"{name}.h5", FeatureFile(slide_id, features, coords, labels, header))
    return features


def test_bags_lie_end_to_end_in_the_order_of_rows(tmp_path):
    arrays = {
        slide_id: write(tmp_path, slide_id, tiles) for slide_id, tiles in (("a", 3), ("b", 1), ("c", 5))
    }
    bags = load_bags(tmp_path, [row("c", "p"), row("a"), row("b", "p")], ["n", "p"])
    assert bags.slide_ids == ("c", "a", "b")
    assert bags.offsets.tolist() == [0, 5, 8, 9]
    assert bags.labels.tolist() == [1, 0, 1]
    assert bags.features.dtype == np.float16
    np.testing.assert_array_equal(bags.features, np.concatenate([arrays["c"], arrays["a"], arrays["b"]]))
    assert bags.tile_labels.tolist() == [1] * 5 + [-1] * 3 + [0]
    assert bags.coords[5].tolist() == [0, 1]
    assert bags.header["slide_id"] == "c"
    np.testing.assert_array_equal(bags.select(["b"]).features, arrays["b"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"feature_dim": 6}, r"b \(feature_dim 6 instead of 4, dimension 6 instead of 4\)"),
        ({"encoder": "other"}, r"b \(encoder other instead of e\)"),
        ({"encoder_settings": {"input_px": 96}}, r"b \(encoder_settings \{'input_px': 96\} instead of"),
        ({"weights_hash": "v"}, r"b \(weights_hash v instead of w\)"),
        ({"tile_px": 128}, r"b \(tile_px 128 instead of 256\)"),
        ({"tile_mpp": 1.0}, r"b \(tile_mpp 1\.0 instead of 0\.5\)"),
        ({"overlap_px": 8}, r"b \(overlap_px 8 instead of 0\)"),
        ({"dtype": "float32"}, r"b \(dtype float32 instead of float16\)"),
    ],
)
def test_unlike_features_are_refused_by_slide(tmp_path, changes, expected):
    write(tmp_path, "a", 3)
    write(tmp_path, "c", 3)
    write(tmp_path, "b", 2, **changes)
    write(tmp_path, "d", 2, **changes)
    with pytest.raises(
        BadInput, match=rf"2 slides have other features than a: {expected}.*, d \(.*wsi-kd embed"
    ):
        load_bags(tmp_path, [row("a"), row("b"), row("c"), row("d")], ["n"])


def test_slides_with_another_resolution_go_together(tmp_path):
    write(tmp_path, "a", 3)
    write(tmp_path, "b", 2, slide_mpp=0.25, tile_level0_px=512.0)
    assert load_bags(tmp_path, [row("a"), row("b")], ["n"]).offsets.tolist() == [0, 3, 5]


def test_missing_files_are_listed(tmp_path):
    write(tmp_path, "a", 3)
    with pytest.raises(BadInput, match=r"no feature files of: b, c; make them with: wsi-kd embed"):
        load_bags(tmp_path, [row("a"), row("b"), row("c")], ["n"])
    with pytest.raises(BadInput, match="no slides to load"):
        load_bags(tmp_path, [], ["n"])


def test_odd_files_are_refused_by_name(tmp_path):
    write(tmp_path, "a", 0)
    with pytest.raises(BadInput, match=r"a\.h5: a slide with status ok but without tiles"):
        load_bags(tmp_path, [row("a")], ["n"])
    write(tmp_path, "a", 0, status="empty")
    with pytest.raises(BadInput, match=r"a\.h5: this slide ended as empty; split anew"):
        load_bags(tmp_path, [row("a")], ["n"])
    write(tmp_path, "other", 2, name="a")
    with pytest.raises(BadInput, match=r"a\.h5: holds the slide 'other'"):
        load_bags(tmp_path, [row("a")], ["n"])


def test_nan_is_refused_by_name(tmp_path):
    header = {**stamp("features", {}), **HEADER}
    features = np.array([[1, 2, 3, 4], [1, np.nan, 3, 4]], dtype=np.float16)
    coords, labels = np.zeros((2, 2), dtype=np.int64), np.zeros(2, dtype=np.int8)
    write_features(tmp_path / "a.h5", FeatureFile("a", features, coords, labels, header))
    with pytest.raises(BadInput, match=r"a\.h5: .*not finite"):
        load_bags(tmp_path, [row("a")], ["n"])


def test_select_names_slides_without_a_bag(tmp_path):
    write(tmp_path, "a", 3)
    with pytest.raises(BadInput, match="no bags for these slides: x, y"):
        load_bags(tmp_path, [row("a")], ["n"]).select(["x", "a", "y"])
