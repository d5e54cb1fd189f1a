import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_kd.bags.given_splits import given_files
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.bags.splits import (
    Fold,
    check_folds,
    column_fold,
    count_folds,
    draw_folds,
    given_folds,
    plan_folds,
)
from wsi_kd.core.errors import BadInput


def slide(slide_id: str, label: str, case_id: str = "") -> SlideRow:
    return SlideRow(slide_id, Path(f"{slide_id}.svs"), label, case_id or slide_id, "", None, None, "")


def cohort(per_class: dict[str, int], slides_per_case: int = 1) -> list[SlideRow]:
    return [
        slide(f"{label}{case}_{number}", label, f"{label}{case}")
        for label, cases in per_class.items()
        for case in range(cases)
        for number in range(slides_per_case)
    ]


@st.composite
def cohorts(draw):
    """Cases of one label each, one to four slides a case, at least as many cases of each class as folds."""
    folds = draw(st.integers(3, 6))
    rows = []
    for label in ("n", "p", "q")[: draw(st.integers(2, 3))]:
        for case in range(draw(st.integers(folds, 20))):
            slides = range(draw(st.integers(1, 4)))
            rows += [slide(f"{label}{case}.{number}", label, f"{label}{case}") for number in slides]
    return rows, folds, draw(st.integers(0, 1000))


@given(cohorts())
@settings(max_examples=60, deadline=None)
def test_drawn_folds_are_a_fair_patient_wise_partition(drawn):
    rows, folds, seed = drawn
    case_of = {row.slide_id: row.case_id for row in rows}
    label_of_case = {row.case_id: row.label for row in rows}
    planned = draw_folds(rows, folds=folds, seed=seed)
    assert len(planned) == folds
    for fold in planned:
        assert sorted(fold.train + fold.val + fold.test) == sorted(case_of)
        parts = [{case_of[slide_id] for slide_id in part} for part in fold]
        assert not any(first & second for first, second in combinations(parts, 2))
    tested = [sorted({case_of[slide_id] for slide_id in fold.test}) for fold in planned]
    assert sorted(case_id for part in tested for case_id in part) == sorted(label_of_case)
    assert [fold.val for fold in planned] == [planned[(i + 1) % folds].test for i in range(folds)]
    for label in set(label_of_case.values()):
        counts = [sum(label_of_case[case_id] == label for case_id in part) for part in tested]
        assert max(counts) - min(counts) <= 1
        assert min(counts) >= 1


@given(cohorts(), st.randoms())
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_does_not_matter(drawn, shuffler: random.Random):
    rows, folds, seed = drawn
    shuffled = rows.copy()
    shuffler.shuffle(shuffled)
    assert draw_folds(shuffled, folds=folds, seed=seed) == draw_folds(rows, folds=folds, seed=seed)


@given(st.lists(st.sampled_from(["n", "p", "np"]), min_size=30, max_size=40), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_cases_with_slides_of_both_classes_never_leak(kinds, seed):
    rows = [
        slide(f"{case}.{number}", label, f"c{case}")
        for case, kind in enumerate(kinds)
        for number, label in enumerate(kind)
    ]
    rows += cohort({"n": 3, "p": 3})
    for fold in draw_folds(rows, folds=3, seed=seed):
        check_folds([fold], rows, ["n", "p"])


FROZEN_TEST_PARTS = [("n0_0", "p0_0"), ("n2_0", "p1_0"), ("n1_0", "p2_0")]


def test_the_draw_is_this_one_on_every_machine():
    planned = draw_folds(cohort({"n": 3, "p": 3}), folds=3, seed=0)
    assert [fold.test for fold in planned] == FROZEN_TEST_PARTS
    assert planned[0].val == FROZEN_TEST_PARTS[1]
    assert planned[0].train == FROZEN_TEST_PARTS[2]


def test_seeds_draw_different_folds():
    rows = cohort({"n": 20, "p": 20})
    drawn = {tuple(draw_folds(rows, folds=5, seed=seed)) for seed in range(10)}
    assert len(drawn) == 10


def test_each_case_is_as_likely_in_each_part():
    rows = cohort({"n": 7, "p": 5})
    places = Counter(
        index
        for seed in range(600)
        for index, fold in enumerate(draw_folds(rows, folds=3, seed=seed))
        if "p0_0" in fold.test
    )
    # Binomial(600, 1/3): mean 200, standard deviation 11.5
    assert all(abs(places[index] - 200) < 46 for index in range(3))


def test_large_cases_are_spread():
    rows = [slide(f"n{c}.{i}", "n", f"n{c}") for c in range(9) for i in range(10 if c < 3 else 1)]
    rows += cohort({"p": 9})
    for fold in draw_folds(rows, folds=3, seed=1):
        assert len(fold.test) == 15  # ten of one large case, two small ones, three positives


def test_too_few_cases_tells_counts_and_remedy():
    with pytest.raises(
        BadInput, match=r"split\.folds is 5, .*usable cases are: n 9, p 4; set it to 4 or fewer"
    ):
        draw_folds(cohort({"n": 9, "p": 4}, 3), folds=5, seed=0)
    with pytest.raises(BadInput, match=r"n 9, p 2; add cases \(3 at least\)"):
        draw_folds(cohort({"n": 9, "p": 2}), folds=5, seed=0)
    with pytest.raises(BadInput, match="need at least 3"):
        draw_folds(cohort({"n": 9, "p": 9}), folds=2, seed=0)


ROWS = [slide(f"{label}{number}", label, f"case_{label}{number}") for label in "np" for number in range(3)]
GOOD = Fold(train=("n0", "p0"), val=("n1", "p1"), test=("n2", "p2"))


def test_check_names_leaking_cases():
    rows = [*ROWS, slide("n3", "n", "case_n0"), slide("n4", "n", "case_n0")]
    check_folds([GOOD], rows, ["n", "p"])
    leaking = GOOD._replace(val=("n1", "n4", "p1"), test=("n2", "n3", "p2"))
    with pytest.raises(BadInput, match=r"fold 1 leaks: .*: case_n0 \(train and val and test\);"):
        check_folds([GOOD, leaking], rows, ["n", "p"])


def test_check_names_parts_without_a_class():
    poor = Fold(train=("n0",), val=("n1", "p1"), test=())
    expected = r"fold 1 has no p among the 1 of train, fold 1 has no n and no p among the 0 of test;"
    with pytest.raises(BadInput, match=expected):
        check_folds([GOOD, poor], ROWS, ["n", "p"])


def test_excluded_slides_do_not_count_as_a_class_but_do_leak():
    with pytest.raises(BadInput, match="fold 0 has no p among the 1 of train"):
        check_folds([GOOD], ROWS, ["n", "p"], excluded=["p0"])
    rows = [*ROWS, slide("x", "n", "case_n0")]
    with pytest.raises(BadInput, match=r"case_n0 \(train and test\)"):
        check_folds([GOOD._replace(test=("n2", "p2", "x"))], rows, ["n", "p"], excluded=["x"])


def test_column_split_is_one_fold_and_leaves_out_empty_cells():
    parts = {"n0": "train", "n1": "val", "n2": "test", "p0": "train", "p1": "val", "p2": "test"}
    rows = [row._replace(split=parts[row.slide_id]) for row in ROWS] + [slide("n3", "n")]
    assert column_fold(rows) == [GOOD]
    assert plan_folds(rows, folds=5, seed=0, given=None) == [GOOD]
    assert count_folds(rows, folds=5, given=None) == 1


def test_excluded_slides_take_no_part():
    rows = cohort({"n": 6, "p": 6})
    planned = plan_folds(rows, folds=3, seed=0, given=None, excluded=["n0_0", "p1_0"])
    for fold in planned:
        assert len(fold.train + fold.val + fold.test) == 10
        assert not {"n0_0", "p1_0"} & set(fold.train + fold.val + fold.test)
    assert count_folds(rows, folds=3, given=None) == 3


def write_clam(folder: Path, *folds: str) -> Path:
    folder.mkdir()
    for index, text in enumerate(folds):
        (folder / f"splits_{index}.csv").write_text(text)
        (folder / f"splits_{index}_bool.csv").write_text(",train,val,test\nn0,True,False,False\n")
    return folder


CLAM = ",train,val,test\n0,n0,n1,n2.svs\n1,p0,p1,p2\n"


def test_clam_folder_with_columns_of_different_length(tmp_path):
    longer = ",train,val,test\n0,n2,n1,n0\n1,p0,p1,p2\n2,x,,\n"
    rows = [*ROWS, slide("x", "n")]
    folder = write_clam(tmp_path / "clam", CLAM, longer)
    second = Fold(train=("n2", "p0", "x"), val=("n1", "p1"), test=("n0", "p2"))
    assert given_folds(folder, rows) == [GOOD, second]
    assert plan_folds(rows, folds=7, seed=0, given=folder) == [GOOD, second]
    assert count_folds(rows, folds=7, given=folder) == 2
    assert [file.name for file in given_files(folder)] == ["splits_0.csv", "splits_1.csv"]


TABLE = """slide_id,case_id,fold_0,fold_1
n0,a,train,
n1,b,val,train
n2,c,test,val
p0,d,train,test
p1,e,val,excluded
p2,f,test,
"""


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_one_table_of_folds(tmp_path, suffix):
    path = tmp_path / f"folds.{suffix}"
    path.write_text(TABLE if suffix == "csv" else TABLE.replace(",", "\t"))
    assert given_folds(path, ROWS) == [GOOD, Fold(train=("n1",), val=("n2",), test=("p0",))]
    assert count_folds(ROWS, folds=7, given=path) == 2
    assert given_files(path) == [path]
    with pytest.raises(BadInput, match="fold 1 has no p among the 1 of train"):
        plan_folds(ROWS, folds=7, seed=0, given=path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CLAM + "2,n9,,\n", r"1 slide ids that the manifest does not hold: 'n9'$"),
        (CLAM + "2,case_1.svs,,\n", r"'case_1\.svs' \(did you mean 'case_1x'\?\)"),
        (CLAM + "2,,,n0\n", r"slides named more than once: n0;"),
        (CLAM + "2,n0,,\n", r"slides named more than once: n0;"),
        (",train,test\n0,n0,n1\n", r"no column val; expected train,val,test"),
    ],
)
def test_faults_of_clam_files(tmp_path, text, expected):
    with pytest.raises(BadInput, match=expected) as caught:
        given_folds(write_clam(tmp_path / "clam", text), [*ROWS, slide("case_1x", "n")])
    assert "splits_0.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "slide_id,fold_0\nn0,training\n",
            r"line 2, column fold_0: unknown part 'training'.*did you mean 'train'",
        ),
        ("slide_id,fold_0\nn0,train\nn0,test\n", r"slides named more than once: n0"),
        ("slide_id,fold_1,fold_2\nn0,train,train\n", r"numbered from 0 without gaps; missing: fold_0$"),
        (
            "slide,fold_0\nn0,train\n",
            r"expected the columns slide_id,fold_0,fold_1,\.\.\.; found 'slide', 'fold_0'",
        ),
        ("slide_id,part\nn0,train\n", r"expected the columns slide_id,fold_0"),
        ("slide_id,fold_0\nunknown,train\n", r"'unknown'"),
    ],
)
def test_faults_of_fold_tables(tmp_path, text, expected):
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=expected):
        given_folds(path, ROWS)


def test_folder_without_splits_and_with_a_gap(tmp_path):
    with pytest.raises(BadInput, match=r"no splits_0\.csv"):
        count_folds(ROWS, folds=3, given=tmp_path)
    (tmp_path / "splits_1.csv").write_text(CLAM)
    with pytest.raises(BadInput, match=r"missing: splits_0\.csv"):
        count_folds(ROWS, folds=3, given=tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        count_folds(ROWS, folds=3, given=tmp_path / "absent.csv")


def test_given_leak_fails_and_names_the_case(tmp_path):
    rows = [row._replace(case_id="Patient 7") if row.slide_id in {"n0", "n2"} else row for row in ROWS]
    with pytest.raises(BadInput, match=r"fold 0 leaks: .*Patient 7 \(train and test\)"):
        plan_folds(rows, folds=3, seed=0, given=write_clam(tmp_path / "clam", CLAM))


def test_a_test_part_of_slides_without_label_need_not_hold_every_class():
    rows = [row._replace(split=("train", "val", "test")[index % 3]) for index, row in enumerate(ROWS)]
    test = {row.slide_id for row in rows if row.split == "test"}
    bare = [row._replace(label="") if row.slide_id in test else row for row in rows]
    (fold,) = plan_folds(bare, folds=3, seed=0, given=None)
    assert set(fold.test) == test
    val = [row._replace(label="") if row.split == "val" else row for row in rows]
    with pytest.raises(BadInput, match=r"fold 0 has no .* among the .* of val"):
        plan_folds(val, folds=3, seed=0, given=None)
