"""musk1 and elephant: read as their makers describe them, damaged files refused, folds without leaks."""

import numpy as np
import pytest

from bag_parts import fold_parts
from table_bags import read_table_bags
from wsi_kd.core.errors import BadInput


def write_musk(folder, text):
    (folder / "mil").mkdir()
    (folder / "mil" / "misvm_musk1.data").write_text(text)


def test_shapes_of_a_molecule_are_gathered_in_the_order_of_the_file(tmp_path):
    write_musk(tmp_path, "a,a_1,1,2,1.\nb,b_1,3,4,0.\na,a_2,5,6,1.\n")
    bags = read_table_bags("musk1", data=tmp_path)
    assert bags.slide_ids == ("a", "b")
    assert bags.features.tolist() == [[1.0, 2.0], [5.0, 6.0], [3.0, 4.0]]
    assert bags.offsets.tolist() == [0, 2, 3]
    assert bags.labels.tolist() == [1, 0]
    assert bags.tile_labels.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,a_1,1,2,1.\na,a_2,1,2,0.\n", "bag a is labeled 0 and 1"),
        ("a,a_1,1,2,1.\nb,b_1,1,0.\n", "lines of different lengths"),
        ("a,a_1,x,2,1.\n", "no numbers"),
        ("", "expected lines of comma-separated values"),
        ("a,a_1,1,2,7.\n", "bag a is labeled 7"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, text, fault):
    write_musk(tmp_path, text)
    with pytest.raises(BadInput, match=fault):
        read_table_bags("musk1", data=tmp_path)


def test_an_absent_table_is_told_with_the_remedy(tmp_path):
    with pytest.raises(BadInput, match=r"elephant\.csv: cannot be read.*--data"):
        read_table_bags("elephant", data=tmp_path)
    with pytest.raises(BadInput, match=r"unknown table of bags 'musk2'.*did you mean 'musk1'"):
        read_table_bags("musk2", data=tmp_path)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "bags", "positives", "instances", "features"),
    [("musk1", 92, 47, 476, 166), ("elephant", 200, 100, 1391, 230)],
)
def test_the_tables_are_those_of_the_literature(shared_data, name, bags, positives, instances, features):
    found = read_table_bags(name, data=shared_data)
    assert (len(found.labels), int(found.labels.sum())) == (bags, positives)
    assert found.features.shape == (instances, features)
    assert np.isfinite(found.features).all()
    tested = []
    for fold in range(10):
        parts = fold_parts(found, found.slide_ids, folds=10, seed=1, fold=fold)
        three = [set(part.slide_ids) for part in (parts.train, parts.val, parts.scored)]
        assert len(set.union(*three)) == sum(map(len, three)) == bags
        assert abs(parts.scored.labels.mean() - positives / bags) < 0.1
        tested += parts.scored.slide_ids
    assert sorted(tested) == sorted(found.slide_ids)
