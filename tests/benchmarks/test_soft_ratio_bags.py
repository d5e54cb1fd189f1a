"""The soft-ratio benchmark's parts, its linear student, and what its tables say."""

import numpy as np
import pytest
import torch

from bag_parts import make_bags
from soft_ratio_bags import SHARES, Outcome, bag_means, deal, linear, table


def bags(positive=20, negative=10):
    count = positive + negative
    generator = np.random.default_rng(0)
    return make_bags(
        generator.normal(size=(2 * count, 3)).astype(np.float32),
        sizes=[2] * count,
        labels=np.array([1] * positive + [0] * negative, dtype=np.int64),
        tile_labels=np.full(2 * count, -1, np.int8),
    )


def test_every_bag_is_in_one_part_and_every_part_has_its_share_of_both_classes():
    dealt = deal(bags(), seed=3)
    names = [name for part in dealt.values() for name in part.slide_ids]
    assert sorted(names) == sorted(bags().slide_ids)
    assert [int((part.labels == 1).sum()) for part in dealt.values()] == [6, 2, 6, 2, 4]
    assert [int((part.labels == 0).sum()) for part in dealt.values()] == [3, 1, 3, 1, 2]
    assert list(dealt) == list(SHARES)
    assert deal(bags(), seed=4)["test"].slide_ids != dealt["test"].slide_ids


def test_mean_of_a_bag_is_that_of_its_instances():
    some = bags(2, 1)
    torch.testing.assert_close(
        bag_means(some)[1], torch.from_numpy(some.features[2:4].astype(np.float64)).mean(dim=0)
    )


def test_linear_student_follows_the_teacher_at_one_and_the_labels_near_zero():
    inputs = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]).double()
    means = {"train": inputs, "test": torch.tensor([[-3.0], [3.0]]).double()}
    labels = torch.tensor([0, 0, 1, 1])
    teacher = torch.tensor([9.0, 9.0, -9.0, -9.0])  # always wrong
    told = linear(1.0, means, teacher=teacher, labels=labels)
    assert told[0] > 0 > told[1]
    told = linear(0.05, means, teacher=teacher, labels=labels)
    assert told[0] < 0 < told[1]


def test_table_says_what_the_suggestion_lost_to_the_best_ratio():
    ratios = ("1", "0.8", "0.6", "0.4", "0.2", "0.05")
    first = {ratio: 0.70 for ratio in ratios} | {"0.6": 0.80, "0.4": 0.796}
    second = {ratio: 0.70 for ratio in ratios} | {"0.6": 0.90, "0.4": 0.896}
    runs = [Outcome({"small MIL": one, "linear": second}, 0.4, 0.75) for one in (first, second)]
    found = table("drawn", runs).splitlines()
    assert found[2].startswith("| small MIL | 0.700 | 0.700 | 0.850 | 0.846 |")
    assert found[2].endswith("| 0.846 | 0.004 ± 0.000 (0.6) | yes |")
    runs[0] = runs[0]._replace(suggested=1.0)
    assert table("drawn", runs).splitlines()[2].endswith("| 0.798 | 0.052 ± 0.048 (0.6) | no |")
    assert "Teacher 0.750. Suggested, seed by seed: 1, 0.4." in table("drawn", runs)


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_repeatable(seed):
    assert deal(bags(), seed=seed)["train"].slide_ids == deal(bags(), seed=seed)["train"].slide_ids
