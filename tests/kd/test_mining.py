"""Hard positive mining: what is hidden, what may never be, and the released code's kept indices."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from wsi_kd.kd.mining import mine_hard_positives

PAPER = {"threshold": 0.5, "drop_probability": 1.0, "max_drop_fraction": 1.0, "symmetric": False}


def kept(logits, offsets, labels, **rule):
    logits = torch.as_tensor(logits)
    keep = mine_hard_positives(
        logits if logits.ndim == 2 else logits[:, None],
        torch.tensor(offsets),
        torch.tensor(labels),
        generator=torch.Generator().manual_seed(0),
        **{**PAPER, **rule},
    )
    return keep.nonzero().flatten().tolist()


def test_the_papers_rule_keeps_up_to_the_threshold_in_positive_bags_only():
    logits = [-1.0, 0.0, 1.0, 2.0, 3.0, -2.0]
    assert kept(logits, [0, 4, 6], [1, 0]) == [0, 1, 4, 5]
    assert kept(logits, [0, 4, 6], [0, 1]) == [0, 1, 2, 3, 5]
    assert kept(logits, [0, 4, 6], [0, 0]) == [0, 1, 2, 3, 4, 5]


def test_symmetric_mining_treats_all_bags_alike():
    logits = [-1.0, 0.0, 1.0, 2.0, 3.0, -2.0]
    assert kept(logits, [0, 4, 6], [1, 0], symmetric=True) == [0, 1, 5]
    assert kept(logits, [0, 4, 6], [0, 1], symmetric=True) == [0, 1, 5]


def test_with_several_classes_the_bags_own_is_asked_and_any_in_negative_bags():
    logits = [[2.0, -1.0], [-1.0, 2.0], [3.0, 3.0], [-1.0, -2.0]] * 3
    offsets, labels = [0, 4, 8, 12], [1, 2, 0]
    assert kept(logits, offsets, labels) == [1, 3, 4, 7, 8, 9, 10, 11]
    assert kept(logits, offsets, labels, symmetric=True) == [1, 3, 4, 7, 11]


def test_where_all_would_be_hidden_the_most_positive_stays():
    assert kept([1.0, 3.0, 2.0, 5.0], [0, 3, 4], [1, 1]) == [1, 3]


def test_the_cap_spares_the_least_positive():
    logits = [4.0, 1.0, 3.0, 2.0]
    assert kept(logits, [0, 4], [1], max_drop_fraction=0.5) == [1, 3]
    assert kept(logits, [0, 4], [1], max_drop_fraction=0.25) == [1, 2, 3]
    assert kept(logits, [0, 4], [1], max_drop_fraction=0.0) == [0, 1, 2, 3]


def test_the_threshold_is_compared_in_logit_space():
    edge = math.log(0.9 / 0.1)
    assert kept([edge - 1e-3, edge + 1e-3, 0.0], [0, 3], [1], threshold=0.9) == [0, 2]


def test_the_drop_probability_is_met_and_repeats_with_the_seed():
    logits, offsets, labels = torch.ones(20_000), [0, 20_000], [1]
    hidden = 20_000 - len(kept(logits, offsets, labels, drop_probability=0.3))
    assert hidden == pytest.approx(6_000, abs=4 * math.sqrt(20_000 * 0.3 * 0.7))
    again = kept(logits, offsets, labels, drop_probability=0.3)
    assert again == kept(logits, offsets, labels, drop_probability=0.3)


@pytest.mark.parametrize(
    "rule", [{}, {"symmetric": True}, {"max_drop_fraction": 0.9}, {"drop_probability": 0.9}]
)
def test_every_bag_keeps_its_share(rule):
    sizes = torch.tensor([1, 2, 3, 50, 400])
    offsets = [0, *sizes.cumsum(0).tolist()]
    share = rule.get("max_drop_fraction", 1.0)
    for seed in range(5):
        logits = torch.randn(456, generator=torch.Generator().manual_seed(seed)) + 2.0
        chosen = torch.tensor(kept(logits, offsets, [1, 1, 1, 1, 1], **rule))
        for start, end in pairwise(offsets):
            count = int(((chosen >= start) & (chosen < end)).sum())
            assert count >= max(1, math.ceil((1.0 - share) * (end - start) - 1e-9))


@pytest.mark.shared_data
@pytest.mark.parametrize(("rule", "threshold"), [("thr50", 0.50), ("thr02", 0.02)])
def test_keeps_the_indices_of_the_released_rule(shared_reference, rule, threshold):
    with np.load(shared_reference / "weno_attention_single_steps.npz", allow_pickle=False) as numbers:
        read = {key: numbers[key] for key in numbers.files if key.startswith("hpm.")}
    for bag in (0, 2, 5):
        probability = torch.from_numpy(read[f"hpm.bag{bag}.student_prob"])
        expected = sorted(read[f"hpm.bag{bag}.{rule}.kept"].tolist())
        assert kept(probability.logit(), [0, len(probability)], [1], threshold=threshold) == expected
