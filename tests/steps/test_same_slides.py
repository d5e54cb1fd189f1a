"""Copies of one slide file under several ids: a leak where they stand in two parts, else told."""

from pathlib import Path

import numpy as np
import pytest

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.same_slides import read_fingerprints, refuse_copies_across_parts, same_files
from wsi_kd.steps.split import run_split
from wsi_kd.steps.status import write_status

IDS = [f"{label}{number}" for label in "np" for number in range(4)]


def row(slide_id: str, cases: dict[str, str]) -> SlideRow:
    label = {"n": "normal", "p": "tumor"}[slide_id[0]]
    case_id = cases.get(slide_id, f"case_{slide_id}")
    return SlideRow(slide_id, Path(f"{slide_id}.svs"), label, case_id, "", None, None, "")


def write_run(folder: Path, fingerprints: dict[str, str | None], *, failed: str = "") -> Path:
    """Features with these fingerprints (others: each its own; None: none, as of other programs)."""
    header = {**stamp("features", {}), "tile_level0_px": 512.0, "tile_px": 256}
    statuses = []
    for slide_id in IDS:
        told = fingerprints.get(slide_id, f"of {slide_id}")
        own = {} if told is None else {"fingerprint": told}
        arrays = np.ones((1, 2), np.float16), np.zeros((1, 2), np.int64), np.zeros(1, np.int8)
        write_features(folder / f"{slide_id}.h5", FeatureFile(slide_id, *arrays, {**header, **own}))
        kind = SlideStatus.EMPTY if slide_id == failed else SlideStatus.OK
        statuses.append(StatusRow(slide_id, kind, "", "embed", 1, 1.0, 0.5, "vendor", 1.0))
    write_status(folder / "chunk-0.csv", statuses, stamp("status", {}))
    return folder


def split(folder: Path, **cases: str):
    return run_split(
        Manifest(tuple(row(slide_id, cases) for slide_id in IDS), ("normal", "tumor")),
        status_paths=[folder / "chunk-0.csv"],
        splits_path=folder / "splits.csv",
        status_path=folder / "status.csv",
        settings=parse_settings({"split": {"folds": 3}}, where="test"),
        features_dir=folder,
    )


def test_a_copy_under_another_case_stops_the_split(tmp_path):
    folder = write_run(tmp_path, {"p0": "same", "p3": "same"})
    told = r"fold \d leaks: the same slide file under several ids .*: p0 \(\w+\) = p3 \(\w+\); keep one"
    with pytest.raises(BadInput, match=told):
        split(folder)
    assert not (folder / "splits.csv").exists()


def test_a_copy_of_one_case_is_told_and_stays_in_its_part(tmp_path, caplog):
    folder = write_run(tmp_path, {"p0": "same", "p3": "same"})
    folds = split(folder, p0="patient", p3="patient").folds
    assert len(folds) == 3
    assert all(len({"p0", "p3"} & set(part)) != 1 for fold in folds for part in fold)
    assert "counts more than once: p0 = p3" in caplog.text


@pytest.mark.parametrize("prints", [{}, {"p0": None, "p3": None}], ids=["each its own", "none"])
def test_slides_of_their_own_are_split_without_a_word(tmp_path, caplog, prints):
    assert len(split(write_run(tmp_path, prints)).folds) == 3
    assert "same slide file" not in caplog.text


def test_a_copy_that_failed_leaks_nothing(tmp_path):
    assert len(split(write_run(tmp_path, {"p0": "same", "p3": "same"}, failed="p3")).folds) == 3


def test_each_group_is_named_once_with_its_parts(tmp_path):
    folder = write_run(tmp_path, {"n0": "x", "p1": "y", "p0": "x", "n1": "x"})
    assert same_files(read_fingerprints(IDS, folder)) == [("n0", "n1", "p0")]
    folds = [Fold(("n0", "n1", "p0"), ("a",), ("b",)), Fold(("n0",), ("n1",), ("b",))]
    refuse_copies_across_parts(folds[:1], [("n0", "n1", "p0")])
    told = r"fold 1 leaks: .*: n0 \(train\) = n1 \(val\); keep"
    with pytest.raises(BadInput, match=told):
        refuse_copies_across_parts(folds, [("n0", "n1", "p0")])
