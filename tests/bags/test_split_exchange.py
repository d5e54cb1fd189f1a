"""Splits and labels of CLAM, Patho-Bench and STAMP, in and out, by the command line."""

import csv
import json
from pathlib import Path

import pytest

from wsi_kd.bags.given_splits import given_slide_ids, read_given_parts
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.bags.splits import draw_folds, plan_folds
from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput

CASES = 12


@pytest.fixture
def labels(tmp_path) -> Path:
    """Twelve cases, the first two with two slides."""
    rows = [
        (f"p{i}", f"s{i}_{k}", "tumor" if i % 2 else "normal")
        for i in range(CASES)
        for k in range(1 + (i < 2))
    ]
    with (tmp_path / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("case_id", "slide_id", "label"), *rows])
    return tmp_path / "labels.csv"


@pytest.fixture
def splits(labels, tmp_path) -> Path:
    """A run's table of three drawn folds."""
    rows = read_manifest(labels, slides_dir=None, classes=(), with_slides=False).rows
    folds = draw_folds(rows, folds=3, seed=0)
    table = []
    for row in rows:
        parts = [next(n for n, ids in f._asdict().items() if row.slide_id in ids) for f in folds]
        table.append((row.slide_id, row.case_id, row.label, *parts))
    with (tmp_path / "splits.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([("slide_id", "case_id", "label", "fold_0", "fold_1", "fold_2"), *table])
    return tmp_path / "splits.csv"


def read(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle, delimiter=delimiter))


def folds_of(path: Path) -> list[tuple[str, ...]]:
    return [(row["slide_id"], row["fold_0"], row["fold_1"], row["fold_2"]) for row in read(path)]


def imported(source: Path, labels: Path, out: Path, *more: str) -> int:
    return run(["splits", "import", str(source), "--manifest", str(labels), "--out", str(out), *more])


def test_clam_out_and_in_again_as_lists_or_as_marks(splits, labels, tmp_path):
    assert run(["splits", "export", str(splits), "--to", "clam", "--out", str(tmp_path / "clam")]) == 0
    names = sorted(path.name for path in (tmp_path / "clam").iterdir())
    assert names == [
        "labels.csv",
        *(f"splits_{i}{kind}.csv" for i in range(3) for kind in ("", "_bool", "_descriptor")),
    ]
    first = read(tmp_path / "clam/splits_0.csv")
    assert list(first[0]) == ["", "train", "val", "test"]
    counted = read(tmp_path / "clam/splits_0_descriptor.csv")
    assert sum(int(row[part]) for row in counted for part in ("train", "val", "test")) == 14
    assert imported(tmp_path / "clam", labels, tmp_path / "back.csv") == 0
    assert folds_of(tmp_path / "back.csv") == folds_of(splits)
    for index in range(3):
        (tmp_path / f"clam/splits_{index}.csv").unlink()
    assert imported(tmp_path / "clam", labels, tmp_path / "marks.csv") == 0
    assert folds_of(tmp_path / "marks.csv") == folds_of(splits)
    assert read(tmp_path / "clam/labels.csv") == read(labels)


def test_patho_bench_out_and_in_again(splits, labels, tmp_path):
    out = tmp_path / "bench"
    assert (
        run(["splits", "export", str(splits), "--to", "patho_bench", "--task", "site", "--out", str(out)])
        == 0
    )
    table = read(out / "k=all.tsv", "\t")
    assert list(table[0]) == ["case_id", "slide_id", "site", "fold_0", "fold_1", "fold_2"]
    (out / "k=all.tsv").rename(out / "folds.tsv")
    assert imported(out / "folds.tsv", labels, tmp_path / "back.csv") == 0
    assert folds_of(tmp_path / "back.csv") == folds_of(splits)


def test_a_table_by_case_gives_every_slide_its_cases_part(splits, labels, tmp_path):
    cases = {row["case_id"]: [row[f"fold_{i}"] for i in range(3)] for row in read(splits)}
    rows = "".join(f"{case}\t{chr(9).join(parts)}\n" for case, parts in cases.items())
    (tmp_path / "cases.tsv").write_text(f"case_id\tfold_0\tfold_1\tfold_2\n{rows}")
    assert imported(tmp_path / "cases.tsv", labels, tmp_path / "back.csv") == 0
    assert folds_of(tmp_path / "back.csv") == folds_of(splits)


def test_stamp_out_and_in_again_with_a_val_of_its_own(splits, labels, tmp_path, capsys):
    out = tmp_path / "stamp"
    assert run(["splits", "export", str(splits), "--to", "stamp", "--out", str(out)]) == 0
    assert read(out / "slides.csv")[0] == {"PATIENT": "p0", "FILENAME": "s0_0.h5"}
    assert len(read(out / "clini.csv")) == CASES
    told = json.loads((out / "splits.json").read_text())["splits"]
    assert {len(split["train_patients"]) + len(split["test_patients"]) for split in told} == {CASES}
    assert imported(out / "splits.json", labels, tmp_path / "back.csv") == 2
    assert "no val part in fold 0, 1, 2" in capsys.readouterr().err
    assert imported(out / "splits.json", labels, tmp_path / "back.csv", "--val-share", "0.25") == 0
    back = read(tmp_path / "back.csv")
    case_parts: dict[str, set[str]] = {}
    for row, before in zip(back, read(splits), strict=True):
        assert (row["fold_0"] == "test") == (before["fold_0"] == "test")
        case_parts.setdefault(row["case_id"], set()).add(row["fold_0"])
    assert all(len(parts) == 1 for parts in case_parts.values())
    assert sum(parts == {"val"} for parts in case_parts.values()) == 2


def test_a_leak_fails_with_the_cases(splits, labels, tmp_path, capsys):
    table = read(splits)
    other = "train" if table[0]["fold_1"] != "train" else "test"
    table[0]["fold_1"] = other
    with splits.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    assert imported(splits, labels, tmp_path / "back.csv") == 2
    said = capsys.readouterr().err
    assert "fold 1 leaks: cases in more than one part: p0 (" in said
    assert not (tmp_path / "back.csv").exists()
    both = {"splits": [{"train_patients": ["p0", "p1"], "test_patients": ["p1"]}]}
    (tmp_path / "splits.json").write_text(json.dumps(both))
    assert imported(tmp_path / "splits.json", labels, tmp_path / "back.csv") == 2
    assert "p1 (test and train)" in capsys.readouterr().err


def test_slides_that_do_not_fit_are_named(splits, labels, tmp_path, capsys):
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join(line for line in lines if "s11_0" not in line) + "\np99,s99,tumor\n")
    assert imported(splits, labels, tmp_path / "back.csv") == 2
    assert "1 ids that the manifest does not hold: s11_0; add them" in capsys.readouterr().err
    assert imported(splits, labels, tmp_path / "back.csv", "--allow-unknown") == 0
    said = capsys.readouterr().err
    assert "left out, not in the manifest: s11_0" in said
    assert "in no part of any fold: s99" in said
    assert ("s99", "excluded", "excluded", "excluded") in folds_of(tmp_path / "back.csv")


def test_marks_other_than_true_and_false_are_refused(tmp_path):
    (tmp_path / "splits_0_bool.csv").write_text(",train,val,test\na,True,False,False\nb,yes,False,False\n")
    with pytest.raises(BadInput, match="line 3: 'yes'; expected True or False"):
        read_given_parts(tmp_path, {"a", "b"})
    (tmp_path / "splits_0_bool.csv").write_text(",train,val,test\na.svs,True,False,False\nb,False,1,0\n")
    assert read_given_parts(tmp_path, {"a", "b"}) == [{"a": "train", "b": "val"}]
    assert given_slide_ids(tmp_path) == ["a", "b"]


def test_a_manifest_of_stamps_two_tables(tmp_path, capsys):
    (tmp_path / "clini.csv").write_text("PATIENT,isMSIH\nP1,yes\nP2,no\nP3,\n")
    (tmp_path / "tables.csv").write_text("PATIENT,FILENAME\nP1,a.h5\nP1,deep/b.svs\nP2,c.h5\n")
    command = ["manifest", "import", str(tmp_path / "clini.csv"), "--target", "isMSIH"]
    out = ["--out", str(tmp_path / "slides.csv"), "--slide-table", str(tmp_path / "tables.csv")]
    assert run([*command, *out, "--rename", "yes=msi", "--rename", "no=mss"]) == 0
    assert [tuple(row.values()) for row in read(tmp_path / "slides.csv")] == [
        ("a", "msi", "P1"),
        ("b", "msi", "P1"),
        ("c", "mss", "P2"),
    ]
    (tmp_path / "tables.csv").write_text("PATIENT,FILENAME\nP1,a.h5\nP3,d.h5\n")
    assert run([*command, *out]) == 2
    assert "no isMSIH of 1 patients" in capsys.readouterr().err


def test_a_manifest_finds_its_slides_and_names_those_it_does_not(labels, tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    for name in ("s0_0.svs", "s1_0.ome.tif"):
        (tmp_path / "scans" / name).touch()
    command = ["manifest", "import", str(labels), "--slides-dir", str(tmp_path / "scans")]
    assert run([*command, "--out", str(tmp_path / "slides.csv")]) == 2
    assert "no file of 12 of 14 slides: s0_1, s1_1, s2_0" in capsys.readouterr().err
    assert run([*command, "--out", str(tmp_path / "slides.csv"), "--allow-missing"]) == 0
    sheet = read_manifest(tmp_path / "slides.csv", slides_dir=None, classes=())
    assert [(row.slide_id, row.path.name) for row in sheet.rows] == [
        ("s0_0", "s0_0.svs"),
        ("s1_0", "s1_0.ome.tif"),
    ]


@pytest.mark.shared_data
def test_camelyon16s_labels_become_a_manifest(shared_data, tmp_path):
    source = shared_data / "tables/label_c16.csv"
    command = [
        "manifest",
        "import",
        str(source),
        "--columns",
        "slide_id,label",
        "--out",
        str(tmp_path / "c16.csv"),
    ]
    assert run([*command, "--rename", "0=normal", "--rename", "1=tumor"]) == 0
    sheet = read_manifest(
        tmp_path / "c16.csv", slides_dir=None, classes=("normal", "tumor"), with_slides=False
    )
    counts = {name: sum(row.label == name for row in sheet.rows) for name in sheet.classes}
    assert counts == {"normal": 239, "tumor": 159}
    assert all(row.label == "tumor" for row in sheet.rows if row.slide_id.startswith("tumor_"))
    assert all(row.label == "normal" for row in sheet.rows if row.slide_id.startswith("normal_"))


def test_a_given_table_of_train_and_test_alone_says_what_to_do(labels, tmp_path, capsys):
    rows = read_manifest(labels, slides_dir=None, classes=(), with_slides=False).rows
    table = "".join(f"{row.slide_id}\t{'test' if row.case_id < 'p4' else 'train'}\n" for row in rows)
    (tmp_path / "bench.tsv").write_text(f"slide_id\tfold_0\n{table}")
    with pytest.raises(BadInput, match=r"no val part in fold 0; .*wsi-kd splits import --val-share 0.2"):
        plan_folds(rows, folds=3, seed=0, given=tmp_path / "bench.tsv")
    assert imported(tmp_path / "bench.tsv", labels, tmp_path / "given.csv", "--val-share", "0.2") == 0
    (fold,) = plan_folds(rows, folds=3, seed=0, given=tmp_path / "given.csv")
    assert [len(part) for part in fold] == [4, 2, 8]


def test_each_fold_draws_a_val_of_its_own_and_a_seed_repeats_it(labels, tmp_path):
    cases = [f"p{i}" for i in range(CASES)]
    same = {"train_patients": cases[4:], "test_patients": cases[:4]}
    (tmp_path / "s.json").write_text(json.dumps({"splits": [same] * 3}))
    tables = []
    for name, seed in (("a.csv", "0"), ("b.csv", "0"), ("c.csv", "1")):
        assert (
            imported(tmp_path / "s.json", labels, tmp_path / name, "--val-share", "0.3", "--seed", seed) == 0
        )
        tables.append(folds_of(tmp_path / name))
    assert tables[0] == tables[1] != tables[2]
    parts = list(zip(*tables[0], strict=True))[1:]
    assert len(set(parts)) == 3


@pytest.mark.parametrize(
    "text", ['{"splits": [{"train_patients": "p0", "test_patients": "p1"}]}', "[" * 100_000, '{"splits": 3}']
)
def test_what_is_no_list_of_patients_is_refused(labels, tmp_path, capsys, text):
    (tmp_path / "s.json").write_text(text)
    assert imported(tmp_path / "s.json", labels, tmp_path / "out.csv") == 2
    assert "expected STAMP's" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_unknown_slides_of_clam_are_named_with_the_remedy(splits, labels, tmp_path, capsys):
    assert run(["splits", "export", str(splits), "--to", "clam", "--out", str(tmp_path / "clam")]) == 0
    path = tmp_path / "clam/splits_0.csv"
    path.write_text(path.read_text().replace("s5_0", "s99"))
    assert imported(tmp_path / "clam", labels, tmp_path / "out.csv") == 2
    assert "s99; add them, or leave them out with --allow-unknown" in capsys.readouterr().err


def test_a_patient_with_two_labels_and_a_slide_named_twice_are_refused(tmp_path, capsys):
    (tmp_path / "clini.csv").write_text("PATIENT,label\nP1,a\nP1,b\nP2,b\n")
    (tmp_path / "tables.csv").write_text("PATIENT,FILENAME\nP1,a.h5\nP2,c.h5\n")
    command = ["manifest", "import", str(tmp_path / "clini.csv"), "--out", str(tmp_path / "out.csv")]
    stamp = ["--slide-table", str(tmp_path / "tables.csv")]
    assert run([*command, *stamp]) == 2
    assert "line 3, column label: 'b', but 'a' in a line before" in capsys.readouterr().err
    (tmp_path / "clini.csv").write_text("PATIENT,label\nP1,a\nP1,a\nP2,b\n")
    assert run([*command, *stamp]) == 0
    (tmp_path / "tables.csv").write_text("PATIENT,FILENAME\nP1,a.h5\nP2,A.svs\n")
    assert run([*command, *stamp]) == 2
    assert "'a' (line 2), 'A' (line 3)" in capsys.readouterr().err
