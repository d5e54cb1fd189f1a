"""Soft labels: hand-worked values of every mode, limits, and the released code's numbers."""

import math

import numpy as np
import pytest
import torch

from wsi_kd.kd.pseudo_labels import AttentionRange, attention_range, log_odds, pseudo_labels

MODES = ["minmax_global", "minmax_bag", "expmax", "attention_evidence", "evidence"]
ATTENTION = torch.tensor([0.0, 1.0, 2.0, 1.0, 4.0, -3.0])
EVIDENCE = torch.tensor([0.0, math.log(3.0), 0.0, -math.log(3.0), 0.0, 5.0])
OFFSETS = torch.tensor([0, 3, 5, 6])
LABELS = torch.tensor([1, 1, 0])


def labels_of(mode, *, attention=ATTENTION, evidence=EVIDENCE, floor=0.0, global_range=None):
    labels = pseudo_labels(
        mode,
        attention_logits=attention,
        evidence=torch.stack([-evidence / 2, evidence / 2], dim=1),
        offsets=OFFSETS,
        bag_labels=LABELS,
        floor=floor,
        global_range=global_range,
    )
    assert labels.shape == (6, 1)
    return labels[:, 0]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("minmax_global", [3 / 7, 4 / 7, 5 / 7, 4 / 7, 1.0, 0.0]),
        ("minmax_bag", [0.0, 0.5, 1.0, 0.0, 1.0, 0.0]),
        ("expmax", [math.exp(-2), math.exp(-1), 1.0, math.exp(-3), 1.0, 0.0]),
        ("attention_evidence", [math.exp(-2) / 2, math.exp(-1) * 0.75, 0.5, math.exp(-3) / 4, 0.5, 0.0]),
        ("evidence", [0.5, 0.75, 0.5, 0.25, 0.5, 0.0]),
    ],
)
def test_hand_worked_labels(mode, expected):
    torch.testing.assert_close(labels_of(mode), torch.tensor(expected), atol=1.1e-5, rtol=0)


def test_a_given_range_replaces_the_range_of_these_bags():
    given = AttentionRange(torch.tensor(-6.0), torch.tensor(4.0))
    torch.testing.assert_close(
        labels_of("minmax_global", global_range=given),
        torch.tensor([0.6, 0.7, 0.8, 0.7, 1.0, 0.0]),
        atol=1.1e-5,
        rtol=0,
    )
    union = attention_range(ATTENTION[:3]).union(ATTENTION[3:])
    assert (union.low.item(), union.high.item()) == (-3.0, 4.0)


@pytest.mark.parametrize("mode", MODES)
def test_negative_bags_get_exactly_zero_and_all_labels_are_probabilities(mode):
    labels = labels_of(mode)
    assert labels[5].item() == 0.0
    assert ((labels >= 0) & (labels < 1)).all()
    assert (labels[:5] > 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.0, 1e30, -1e30])
def test_equal_scores_give_no_nan(mode, value):
    same = torch.full((6,), value)
    labels = labels_of(mode, attention=same, evidence=same)
    assert labels.isfinite().all()
    assert labels[5].item() == 0.0


def test_the_floor_lifts_labels_of_positive_bags_alone():
    raised = labels_of("evidence", floor=0.2)
    torch.testing.assert_close(raised, torch.tensor([0.6, 0.8, 0.6, 0.4, 0.6, 0.0]), atol=1.1e-5, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_a_floor_of_one_is_the_label_of_the_bag(mode):
    expected = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(labels_of(mode, floor=1.0), expected, atol=1.1e-5, rtol=0)


def test_labels_carry_no_gradient():
    attention = ATTENTION.clone().requires_grad_()
    assert not labels_of("expmax", attention=attention).requires_grad


def three_classes(mode, *, attention=ATTENTION, labels=(2, 1, 0)):
    """Evidence that gives the bags' own classes the log odds of `EVIDENCE`, the others sharing one half."""
    of_bag = torch.tensor(labels).repeat_interleave(OFFSETS.diff())
    evidence = torch.full((6, 3), -math.log(2.0)).scatter(1, of_bag[:, None], EVIDENCE[:, None])
    return pseudo_labels(
        mode,
        attention_logits=attention,
        evidence=evidence,
        offsets=OFFSETS,
        bag_labels=torch.tensor(labels),
    )


@pytest.mark.parametrize("mode", MODES)
def test_with_three_classes_the_label_stands_in_the_bags_own_column(mode):
    found, two = three_classes(mode), labels_of(mode)
    torch.testing.assert_close(found[:3, 1], two[:3])
    torch.testing.assert_close(found[3:5, 0], two[3:5])
    assert (found[:3, 0] == 0).all()
    assert (found[3:5, 1] == 0).all()
    assert (found[5] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_of_one_attention_branch_a_class_the_bags_own_is_read(mode):
    branches = torch.stack([torch.full((6,), 7.0), -ATTENTION, 2.0 * ATTENTION], dim=1)
    found = three_classes(mode, attention=branches)
    assert torch.equal(found[:3], three_classes(mode, attention=2.0 * ATTENTION)[:3])
    assert torch.equal(found[3:], three_classes(mode, attention=-ATTENTION)[3:])


def test_log_odds_are_those_of_the_softmax():
    evidence = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 1, 2, 3, 1])
    own = evidence.softmax(dim=1)[torch.arange(5), classes]
    torch.testing.assert_close(log_odds(evidence, classes), own.logit())


@pytest.mark.shared_data
def test_equals_the_released_global_normalization(shared_reference):
    with np.load(shared_reference / "weno_attention_single_steps.npz", allow_pickle=False) as numbers:
        read = {key: torch.from_numpy(numbers[key]) for key in numbers.files}
    given = AttentionRange(read["pseudo.min"], read["pseudo.max"])
    rows = read["student.batch_rows"]
    bag_of_row = torch.repeat_interleave(torch.arange(6), read["offsets"].diff())[rows]
    cases = {
        "batch": (read["pseudo.batch_attention_raw"], torch.arange(33), read["bag_label"][bag_of_row]),
        "bank": (read["pseudo.bank_in"].flatten(), torch.arange(0, 33, 8), read["pseudo.bank_bag_label"]),
    }
    expected = {"batch": read["pseudo.batch_label"], "bank": read["pseudo.bank_out"].flatten()}
    for name, (attention, offsets, bag_labels) in cases.items():
        labels = pseudo_labels(
            "minmax_global",
            attention_logits=attention,
            evidence=torch.zeros(len(attention), 2, dtype=attention.dtype),
            offsets=offsets,
            bag_labels=bag_labels,
            global_range=given,
        )
        torch.testing.assert_close(labels[:, 0], expected[name], rtol=1e-9, atol=1e-12)
