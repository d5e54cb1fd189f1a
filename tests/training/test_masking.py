"""MHIM's mask: what is called telling, how much is hidden, and that the mask knows no label."""

import math

import pytest
import torch

from wsi_kd.mil.pooling import segment_softmax
from wsi_kd.training.masking import hide_highest, salience


def hidden_per_bag(sizes, ratio):
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    scores = torch.randn(int(offsets[-1]), generator=torch.Generator().manual_seed(0))
    keep = hide_highest(scores, offsets, ratio=ratio)
    spans = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    for start, end in spans:
        kept, hidden = scores[start:end][keep[start:end]], scores[start:end][~keep[start:end]]
        assert len(kept) > 0
        assert len(hidden) == 0 or kept.max() < hidden.min()
    return [int((~keep[start:end]).sum()) for start, end in spans]


def test_every_bag_hides_its_rounded_up_share_one_at_least_and_keeps_one():
    assert hidden_per_bag([1, 2, 50, 100, 101, 150], 0.02) == [0, 1, 1, 2, 3, 3]
    assert hidden_per_bag([1, 2, 10], 0.99) == [0, 1, 9]
    assert hidden_per_bag([100, 1000], 0.07) == [7, 70]  # 0.07 * 100 is 7.000000000000001


@pytest.mark.parametrize("classes", [2, 4])
def test_salience_ranks_as_attention_times_the_positive_probability(classes):
    generator = torch.Generator().manual_seed(0)
    attention_logits = torch.randn(30, generator=generator, dtype=torch.float64)
    evidence = torch.randn(30, classes, generator=generator, dtype=torch.float64)
    offsets = torch.tensor([0, 10, 30])
    product = segment_softmax(attention_logits, offsets) * (1.0 - evidence.softmax(dim=1)[:, 0])
    found = salience(attention_logits, evidence)
    for start, end in ((0, 10), (10, 30)):
        assert torch.equal(found[start:end].argsort(), product[start:end].argsort())
        constant = found[start:end].exp() / product[start:end]
        torch.testing.assert_close(constant, constant[:1].expand_as(constant))


def test_salience_tells_instances_apart_whose_attention_underflows():
    attention_logits = torch.tensor([0.0, -1e4, -1e4])
    evidence = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    found = salience(attention_logits, evidence)
    assert found.isfinite().all()
    assert found.argsort(descending=True).tolist() == [0, 2, 1]
    assert found[0].item() == pytest.approx(math.log(0.5))
