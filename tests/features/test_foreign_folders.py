"""Which layout a folder has, and the same slide read out of each of them."""

import h5py
import numpy as np
import pytest
from given_features import (
    LEVEL0_PX,
    draw_coords,
    draw_features,
    write_clam,
    write_clam_pt,
    write_slide2vec,
    write_stamp,
    write_torchmil,
    write_trident,
)

from wsi_kd.core.errors import BadInput
from wsi_kd.features.foreign import read_foreign_features, read_foreign_slide
from wsi_kd.features.foreign_checks import feature_faults
from wsi_kd.features.foreign_folders import files_of, find_foreign
from wsi_kd.features.foreign_header import grid_step
from wsi_kd.features.store import write_features

FEATURES = draw_features(1)
LABELS = np.array([[1]] * 3 + [[0]] * 9)
WRITERS = {
    "trident": lambda folder: write_trident(folder, "s1", FEATURES),
    "clam": lambda folder: write_clam(folder, "s1", FEATURES, patch_size=256),
    "clam_pt": lambda folder: write_clam_pt(folder, "s1", FEATURES),
    "stamp": lambda folder: write_stamp(folder, "s1", FEATURES),
    "torchmil": lambda folder: write_torchmil(folder, "s1", FEATURES, labels=LABELS),
    "slide2vec": lambda folder: write_slide2vec(folder, "s1", FEATURES),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_a_layout_is_seen_and_read(tmp_path, layout):
    path = WRITERS[layout](tmp_path)
    found = find_foreign(tmp_path)
    assert (found.layout, list(found.slides)) == (layout, ["s1"])
    assert found.slides["s1"].path == path
    slide = read_foreign_slide(found.slides["s1"], slide_mpp=0.25)
    tolerance = 2e-3 if layout == "stamp" else 0.0  # STAMP keeps float16
    assert np.abs(slide.features - FEATURES).max() <= tolerance
    coords = np.zeros((12, 2), np.int64) if layout == "clam_pt" else draw_coords()
    assert np.array_equal(slide.coords, coords)
    assert slide.header["tile_level0_px"] == (0.0 if layout == "clam_pt" else LEVEL0_PX)
    assert (slide.header["slide_mpp"], slide.header["mpp_source"]) == (0.25, "override")
    expected = [1] * 3 + [0] * 9 if layout == "torchmil" else [-1] * 12
    assert slide.tile_labels.tolist() == expected


@pytest.mark.parametrize(
    ("layout", "encoder", "tile_px", "tile_mpp"),
    [
        ("trident", "given:uni_v1", 256, 0.5),
        ("clam", "given:unknown", 256, 0.0),
        ("clam_pt", "given:unknown", 0, 0.0),
        ("stamp", "given:ctranspath", 224, 128 / 224),
        ("torchmil", "given:unknown", 0, 0.0),
        ("slide2vec", "given:virchow2", 256, 0.5),
    ],
)
def test_what_a_layout_tells_of_encoder_and_tiles(tmp_path, layout, encoder, tile_px, tile_mpp):
    WRITERS[layout](tmp_path)
    header = read_foreign_slide(find_foreign(tmp_path).slides["s1"], slide_mpp=0.25).header
    assert header["encoder"] == encoder
    assert (header["tile_px"], header["tile_mpp"]) == (tile_px, pytest.approx(tile_mpp))
    assert "elses" not in str(header)


def test_resolution_without_a_manifest_is_as_good_as_the_file(tmp_path):
    trident = read_foreign_features(write_trident(tmp_path / "a", "s", FEATURES)).header
    assert (trident["slide_mpp"], trident["mpp_source"]) == (0.25, "objective")
    slide2vec = read_foreign_features(write_slide2vec(tmp_path / "b", "s", FEATURES, ending="pt")).header
    assert (slide2vec["slide_mpp"], slide2vec["mpp_source"]) == (0.25, "foreign")
    clam = read_foreign_features(write_clam(tmp_path / "c", "s", FEATURES)).header
    assert (clam["slide_mpp"], clam["mpp_source"]) == (0.0, "")


def test_slide2vecs_rows_follow_their_index(tmp_path):
    path = write_slide2vec(tmp_path, "s", FEATURES)
    np.savez_compressed(path, features=FEATURES, tile_index=np.arange(12)[::-1])
    assert np.array_equal(read_foreign_features(path).coords, draw_coords()[::-1])
    np.savez_compressed(path, features=FEATURES, tile_index=np.arange(1, 13))
    with pytest.raises(BadInput, match="beyond the 12 positions"):
        read_foreign_features(path)


def test_a_slide_without_tiles_is_empty_and_no_fault(tmp_path):
    empty = read_foreign_features(write_trident(tmp_path, "s", FEATURES[:0]))
    assert (empty.header["status"], empty.features.shape) == ("empty", (0, 6))
    place = tmp_path / "other" / "tile_embeddings"
    place.mkdir(parents=True)
    (place / "t.meta.json").write_text('{"num_tiles": 0, "feature_dim": 6}')
    found = find_foreign(tmp_path / "other")
    assert read_foreign_slide(found.slides["t"]).header["status"] == "empty"


def test_the_files_of_a_slide_are_all_it_is_read_from(tmp_path):
    for layout, count in {"trident": 1, "clam": 2, "torchmil": 3, "slide2vec": 4}.items():
        WRITERS[layout](tmp_path / layout)
        assert len(files_of(find_foreign(tmp_path / layout).slides["s1"])) == count, layout


def test_the_usual_step_of_a_grid():
    assert grid_step(draw_coords()) == LEVEL0_PX
    assert grid_step(np.array([[0, 0], [0, 300], [0, 600]])) == 300.0  # one column
    assert grid_step(np.array([[7, 7]])) == 0.0


def test_folders_that_cannot_be_told_apart_are_named(tmp_path):
    write_trident(tmp_path, "s", FEATURES)
    other = tmp_path / "10x_256px_0px_overlap" / "features_conch"
    other.mkdir(parents=True)
    (tmp_path / "20x_256px_0px_overlap/features_uni_v1/s.h5").rename(other / "s.h5")
    write_trident(tmp_path, "s", FEATURES)
    with pytest.raises(BadInput, match=r"holds 2 sets of features: 10x.*features_conch, 20x"):
        find_foreign(tmp_path)
    assert find_foreign(other).slides["s"].told["target_magnification"] == 10.0


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("auto", "no features in any known layout"),
        ("stamp", "layout stamp"),
        ("tridnet", "did you mean 'trident'"),
    ],
)
def test_nothing_there_is_one_line(tmp_path, layout, told):
    with pytest.raises(BadInput, match=told):
        find_foreign(tmp_path, layout)


def test_faults_that_form_alone_does_not_show(tmp_path):
    features = FEATURES.copy()
    features[3:5] = 0
    slide = read_foreign_features(write_trident(tmp_path, "s", features, level0_width=1024))
    slide.coords[0] = (-1, 0)
    slide.coords[2] = slide.coords[1]
    assert feature_faults(slide) == (
        "2 of 12 tiles are all zeros: a write that was cut off?",
        "1 tiles begin left of or above the slide",
        "5 tiles begin beyond the slide's 1024x4096 px",
        "1 positions occur more than once",
    )
    assert feature_faults(read_foreign_features(write_trident(tmp_path, "t", FEATURES))) == ()


@pytest.mark.parametrize(
    ("name", "content"),
    [("features/s.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"), ("coords/s.npy", b"no array")],
)
def test_damaged_numpy_files_are_one_line(tmp_path, name, content):
    path = write_torchmil(tmp_path, "s", FEATURES, labels=None)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=r"s.npy: not readable"):
        read_foreign_features(path)


def test_labels_of_torchmil_are_0_1_or_unknown(tmp_path):
    path = write_torchmil(tmp_path, "s", FEATURES, labels=np.full(12, 2))
    with pytest.raises(BadInput, match="other than -1, 0 and 1"):
        read_foreign_features(path)
    np.save(tmp_path / "inst_labels/s.npy", np.zeros(11))
    with pytest.raises(BadInput, match="12 features but 11 instance labels"):
        read_foreign_features(path)


def test_a_runs_results_are_found_above_their_features(tmp_path):
    write_features(
        tmp_path / "run/features/s.h5", read_foreign_features(write_trident(tmp_path, "s", FEATURES))
    )
    found = find_foreign(tmp_path / "run")
    assert (found.layout, list(found.slides)) == ("wsi_kd", ["s"])


def test_odd_attributes_are_read_or_left_out(tmp_path):
    odd = {
        "encoder": np.bytes_(b"uni"),
        "overlap": np.float64("nan"),
        "list": [1, 2],
        "patch_size_level0": 511.6,
    }
    path = write_trident(tmp_path, "s", FEATURES, **odd)
    with h5py.File(path, "r+") as file:
        del file["features"].attrs["encoder"]
    header = read_foreign_features(path).header
    assert (header["encoder"], header["overlap_px"]) == ("given:uni", 0)
    assert header["tile_level0_px"] == 511.6
    assert {"list", "savetodir"} & set(header["foreign"]) == set()
    assert header["foreign"]["overlap"] == 0  # told by the folder's name


@pytest.mark.parametrize("content", ["[" * 100_000, "{", b"\xff".decode("latin-1")])
def test_a_damaged_sidecar_is_one_line(tmp_path, content):
    path = write_slide2vec(tmp_path, "s", FEATURES)
    path.with_name("s.meta.json").write_text(content, encoding="latin-1")
    with pytest.raises(BadInput, match=r"s.meta.json: not readable"):
        read_foreign_features(path)
