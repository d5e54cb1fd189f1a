"""G16: slides of one case in two parts of a fold are an error, whoever made the split."""

from pathlib import Path

import pytest

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.split import run_split
from wsi_kd.steps.status import write_status

PARTS = ("train", "val", "test")
PART_OF = {f"{label}{index}": PARTS[index] for label in "np" for index in range(3)} | {"p9": "test"}
"""p9 is the second slide of p0's case: p0 is trained on, p9 tested."""


def rows(*, with_column):
    return tuple(
        SlideRow(
            slide_id,
            Path(f"{slide_id}.svs"),
            {"n": "normal", "p": "tumor"}[slide_id[0]],
            "patient_7" if slide_id in {"p0", "p9"} else f"case_{slide_id}",
            part if with_column else "",
            None,
            None,
            "",
        )
        for slide_id, part in PART_OF.items()
    )


def table(folder):
    lines = [f"{slide_id},{part}" for slide_id, part in PART_OF.items()]
    (folder / "given.csv").write_text("\n".join(["slide_id,fold_0", *lines]))
    return {"given": str(folder / "given.csv")}


def clam_folder(folder):
    columns = [[slide for slide, part in PART_OF.items() if part == name] for name in PARTS]
    lines = [",train,val,test"]
    for index in range(max(map(len, columns))):
        lines.append(",".join([str(index), *(one[index] if index < len(one) else "" for one in columns)]))
    (folder / "clam").mkdir()
    (folder / "clam" / "splits_0.csv").write_text("\n".join(lines))
    return {"given": str(folder / "clam")}


@pytest.mark.parametrize("excluded", [False, True], ids=["usable", "a_failed_slide_counts_too"])
@pytest.mark.parametrize("given", [table, clam_folder, None], ids=["table", "clam", "column"])
def test_a_patient_in_two_parts_stops_the_split(tmp_path, given, excluded):
    chosen = rows(with_column=given is None)
    statuses = [
        StatusRow(row.slide_id, SlideStatus.OK, "", "embed", 7, 1.5, 0.5, "vendor", 2.0) for row in chosen
    ]
    if excluded:
        statuses[-1] = statuses[-1]._replace(status=SlideStatus.EMPTY, reason="no tissue")
    write_status(tmp_path / "chunk-0.csv", statuses, stamp("status", {}))
    told = (
        r"fold 0 leaks: cases in more than one part: patient_7 \(train and test\); keep all slides of a case"
    )
    with pytest.raises(BadInput, match=told):
        run_split(
            Manifest(chosen, ("normal", "tumor")),
            status_paths=[tmp_path / "chunk-0.csv"],
            splits_path=tmp_path / "splits.csv",
            status_path=tmp_path / "status.csv",
            settings=parse_settings({"split": given(tmp_path) if given else {}}, where="test"),
        )
    assert not (tmp_path / "splits.csv").exists()
