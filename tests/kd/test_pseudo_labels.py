"""Soft labels: hand-worked values of every mode, limits, and the released code's numbers."""

import math

import numpy as np
import pytest
import torch

from wsi_kd.kd.pseudo_labels import AttentionRange, attention_range, pseudo_labels

MODES = ["minmax_global", "minmax_bag", "expmax", "attention_evidence", "evidence"]
ATTENTION = torch.tensor([0.0, 1.0, 2.0, 1.0, 4.0, -3.0])
EVIDENCE = torch.tensor([0.0, math.log(3.0), 0.0, -math.log(3.0), 0.0, 5.0])
OFFSETS = torch.tensor([0, 3, 5, 6])
LABELS = torch.tensor([1, 1, 0])


def labels_of(mode, *, attention=ATTENTION, evidence=EVIDENCE, floor=0.0, global_range=None):
    return pseudo_labels(
        mode,
        attention_logits=attention,
        evidence_logits=evidence,
        offsets=OFFSETS,
        bag_labels=LABELS,
        floor=floor,
        global_range=global_range,
    )


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
            evidence_logits=torch.zeros_like(attention),
            offsets=offsets,
            bag_labels=bag_labels,
            global_range=given,
        )
        torch.testing.assert_close(labels, expected[name], rtol=1e-9, atol=1e-12)
