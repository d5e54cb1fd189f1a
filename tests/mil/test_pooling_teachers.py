"""Mean, max and additive pooling against hand-worked values and their formulas."""

from itertools import pairwise

import pytest
import torch

from wsi_kd.mil.additive_mil import AdditiveMil
from wsi_kd.mil.max_pooling import MaxPooling
from wsi_kd.mil.mean_pooling import MeanPooling
from wsi_kd.mil.pooling import segment_argmax, segment_softmax

INSTANCES = torch.tensor([[1.0, 0.0], [3.0, 5.0], [2.0, 1.0], [0.0, 4.0]])
OFFSETS = torch.tensor([0, 3, 4])


def with_identity_head(kind, *, bias):
    teacher = kind(hidden_dim=2, classes=2)
    torch.nn.init.eye_(teacher.bag_head.weight)
    teacher.bag_head.bias.data = torch.tensor(bias)
    return teacher


def test_mean_pooling_by_hand():
    output = with_identity_head(MeanPooling, bias=[0.5, -1.0])(INSTANCES, OFFSETS)
    assert output.bag_logits.tolist() == [[2.5, 1.0], [0.5, 3.0]]
    assert output.evidence.tolist() == [[1.5, -1.0], [3.5, 4.0], [2.5, 0.0], [0.5, 3.0]]
    assert output.attention_logits.tolist() == [0.0] * 4
    keep = torch.tensor([True, False, True, True])
    masked = with_identity_head(MeanPooling, bias=[0.5, -1.0])(INSTANCES, OFFSETS, keep)
    assert masked.bag_logits.tolist() == [[2.0, -0.5], [0.5, 3.0]]


def test_max_pooling_by_hand():
    teacher = with_identity_head(MaxPooling, bias=[0.0, 0.0])
    output = teacher(INSTANCES, OFFSETS)  # margins -1, 2, -1 and 4
    assert output.bag_logits.tolist() == [[3.0, 5.0], [0.0, 4.0]]
    assert segment_softmax(output.attention_logits, OFFSETS).tolist() == [0.0, 1.0, 0.0, 1.0]
    keep = torch.tensor([True, False, True, True])
    masked = teacher(INSTANCES, OFFSETS, keep)  # the first of two equal margins
    assert masked.bag_logits.tolist() == [[1.0, 0.0], [0.0, 4.0]]


def test_max_pooling_takes_one_instance_for_all_classes():
    torch.manual_seed(0)
    teacher = MaxPooling(hidden_dim=2, classes=5)
    output = teacher(INSTANCES, OFFSETS)
    margins = output.evidence[:3, 1:].max(1).values - output.evidence[:3, 0]
    assert torch.equal(output.bag_logits[0], output.evidence[margins.argmax()])


def test_a_single_class_is_its_largest_logit():
    torch.manual_seed(0)
    output = MaxPooling(hidden_dim=2, classes=1)(INSTANCES, OFFSETS)
    assert output.bag_logits.flatten().tolist() == [
        output.evidence[:3].max().item(),
        output.evidence[3].item(),
    ]


def test_argmax_equals_a_loop_and_takes_the_first_of_equals():
    values = torch.randint(0, 4, (50, 3), generator=torch.Generator().manual_seed(0)).float()
    offsets = torch.tensor([0, 1, 20, 50])
    looped = torch.stack([values[start:end].argmax(0) + start for start, end in pairwise(offsets)])
    assert torch.equal(segment_argmax(values, offsets), looped)
    keep = torch.rand(50, generator=torch.Generator().manual_seed(1)) < 0.5
    keep[[0, 5, 30]] = True
    hidden = values.masked_fill(~keep[:, None], -1.0)
    looped = torch.stack([hidden[start:end].argmax(0) + start for start, end in pairwise(offsets)])
    assert torch.equal(segment_argmax(values, offsets, keep=keep), looped)
    with pytest.raises(ValueError, match="bag 0 keeps no instance"):
        segment_argmax(values, offsets, keep=keep & (torch.arange(50) > 0))


def test_argmax_of_a_bag_of_nan_stays_within_the_bag():
    values = torch.tensor([float("nan"), float("nan"), 1.0])
    assert segment_argmax(values, torch.tensor([0, 2, 3])).tolist() == [1, 2]


def test_additive_bag_logits_are_the_sum_of_contributions():
    torch.manual_seed(0)
    teacher = AdditiveMil(hidden_dim=6, attention_dim=4, classes=3).double()
    instances, offsets = torch.randn(9, 6, dtype=torch.float64), torch.tensor([0, 4, 9])
    output = teacher(instances, offsets)
    attention = segment_softmax(output.attention_logits, offsets)
    contributions = torch.relu((attention[:, None] * instances) @ teacher.bag_hidden.weight.T)
    contributions = contributions @ teacher.bag_head.weight.T
    summed = torch.stack([contributions[:4].sum(0), contributions[4:].sum(0)]) + teacher.bag_head.bias
    torch.testing.assert_close(output.bag_logits, summed, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        attention[:, None] * (output.evidence - teacher.bag_head.bias), contributions, atol=1e-12, rtol=1e-12
    )


def test_additive_evidence_is_not_linear():
    torch.manual_seed(0)
    teacher = AdditiveMil(hidden_dim=6, attention_dim=4, classes=2).double()
    pair, offsets = torch.randn(2, 6, dtype=torch.float64), torch.tensor([0, 1])
    parts = [teacher(row[None], offsets).evidence - teacher.bag_head.bias for row in (*pair, pair.sum(0))]
    assert not torch.allclose(parts[0] + parts[1], parts[2], atol=1e-3)
