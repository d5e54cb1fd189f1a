import csv
import json
from pathlib import Path

import pytest

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.split import SplitRow, read_splits, run_split
from wsi_kd.steps.status import read_status, write_status

FAILED = {"n1": SlideStatus.EMPTY, "p2": SlideStatus.MISSING_MPP, "p3": SlideStatus.MISSING_MPP}
IDS = [f"{label}{number}" for label in "pn" for number in range(8)]


def slide(slide_id: str) -> SlideRow:
    label = {"n": "normal", "p": "tumor"}[slide_id[0]]
    return SlideRow(slide_id, Path(f"{slide_id}.svs"), label, f"case {slide_id}", "", None, None, "")


MANIFEST = Manifest(tuple(slide(slide_id) for slide_id in IDS), ("normal", "tumor"))


def status(slide_id: str) -> StatusRow:
    kind = FAILED.get(slide_id, SlideStatus.OK)
    return StatusRow(slide_id, kind, "" if kind == "ok" else "why, so", "embed", 7, 1.5, 0.5, "vendor", 2.0)


def write_statuses(folder: Path, *chunks: list[str]) -> list[Path]:
    paths = [folder / f"chunk-{number}.csv" for number in range(len(chunks))]
    for path, slide_ids in zip(paths, chunks, strict=True):
        write_status(path, [status(slide_id) for slide_id in slide_ids], stamp("status", {}))
    return paths


def run(folder: Path, status_paths: list[Path], **split):
    return run_split(
        MANIFEST,
        status_paths=status_paths,
        splits_path=folder / "splits.csv",
        status_path=folder / "status.csv",
        settings=parse_settings({"split": {"folds": 3, **split}}, where="test"),
    )


@pytest.fixture
def status_paths(tmp_path):
    return write_statuses(tmp_path, IDS[9:][::-1], IDS[:9])


def test_every_slide_has_one_status_in_the_manifests_order(tmp_path, status_paths):
    run(tmp_path, status_paths)
    assert read_status(tmp_path / "status.csv") == [status(slide_id) for slide_id in IDS]


def test_splits_name_every_slide_and_exclude_failed_ones(tmp_path, status_paths, caplog):
    run(tmp_path, status_paths)
    with (tmp_path / "splits.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["slide_id"] for row in rows] == IDS
    assert list(rows[0]) == ["slide_id", "case_id", "label", "fold_0", "fold_1", "fold_2"]
    for row in rows:
        parts = sorted(row[f"fold_{fold}"] for fold in range(3))
        expected = ["excluded"] * 3 if row["slide_id"] in FAILED else ["test", "train", "val"]
        assert parts == expected
    assert caplog.messages == ["split: 3 of 16 slides are excluded: 1 empty, 2 missing_mpp"]


def test_round_trip_with_class_order(tmp_path, status_paths):
    written = run(tmp_path, status_paths)
    read = read_splits(tmp_path / "splits.csv")
    assert read == written
    assert read.classes == ("normal", "tumor")
    assert len(read.folds) == 3
    assert read.rows[0] == SplitRow("p0", "case p0", "tumor")
    assert sum(len(part) for part in read.folds[1]) == 13


def test_splits_do_not_depend_on_how_slides_were_chunked(tmp_path, status_paths):
    first = run(tmp_path, status_paths)
    content = (tmp_path / "splits.csv").read_bytes()
    others = write_statuses(tmp_path, *[[slide_id] for slide_id in IDS])
    assert run(tmp_path, others) == first
    assert (tmp_path / "splits.csv").read_bytes() == content


def test_own_splits_can_be_given_again(tmp_path, status_paths):
    first = run(tmp_path, status_paths)
    (tmp_path / "kept.csv").write_bytes((tmp_path / "splits.csv").read_bytes())
    assert run(tmp_path, status_paths, given=str(tmp_path / "kept.csv")) == first


def test_slides_that_given_splits_leave_out_are_told(tmp_path, status_paths, caplog):
    parts = {"0": "train", "4": "val", "5": "test"}
    lines = [f"{slide_id},{parts.get(slide_id[1], '')}" for slide_id in IDS]
    (tmp_path / "given.csv").write_text("\n".join(["slide_id,fold_0", *lines]))
    assert run(tmp_path, status_paths, given=str(tmp_path / "given.csv")).folds == (
        (("n0", "p0"), ("n4", "p4"), ("n5", "p5")),
    )
    told = "split: 7 usable slides stand in no part of the given splits: p1, p6, p7, n2, n3, n6, n7"
    assert caplog.messages[1:] == [told]


def test_sidecar_tells_settings_and_schema(tmp_path, status_paths):
    run(tmp_path, status_paths, seed=4)
    header = json.loads((tmp_path / "splits.csv.meta.json").read_text())
    assert header["kind"] == "splits"
    assert header["schema_version"] == 1
    assert header["settings"] == {"split": {"folds": 3, "seed": 4, "given": None}}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([IDS[:9], IDS[11:]], r"slides without a status: n1, n2; run anew: wsi-kd embed"),
        ([IDS[:9], IDS[8:]], r"slides with more than one status: n0"),
        ([IDS, ["p99"]], r"slides that the manifest does not hold: p99"),
    ],
)
def test_status_tables_that_do_not_fit(tmp_path, chunks, expected):
    with pytest.raises(BadInput, match=expected):
        run(tmp_path, write_statuses(tmp_path, *chunks))
    assert not (tmp_path / "splits.csv").exists()


def test_too_few_usable_cases_keep_the_status_table_and_say_why(tmp_path, status_paths, caplog):
    with pytest.raises(BadInput, match=r"usable cases are: normal 7, tumor 6; set it to 6 or fewer"):
        run(tmp_path, status_paths, folds=7)
    assert "2 missing_mpp" in caplog.text
    assert len(read_status(tmp_path / "status.csv")) == 16
    assert not (tmp_path / "splits.csv").exists()


def test_changed_or_foreign_splits_are_refused(tmp_path, status_paths):
    run(tmp_path, status_paths)
    path = tmp_path / "splits.csv"
    path.write_text(path.read_text().replace("test", "train", 1))
    with pytest.raises(BadInput, match=r"changed or damaged .*wsi-kd split"):
        read_splits(path)
    publish_table(path, ["slide_id"], [["a"]], stamp=stamp("status", {}))
    with pytest.raises(BadInput, match="holds 'status', expected 'splits'"):
        read_splits(path)
    with pytest.raises(BadInput, match=r"no such file; make it with: wsi-kd split"):
        read_splits(tmp_path / "absent.csv")
