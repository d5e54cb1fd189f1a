"""Pooling over packed bags: hand-worked values, the loop over bags, gradients, bits."""

from itertools import pairwise

import pytest
import torch

from wsi_kd.mil.pooling import (
    attention_pool,
    descending_rank,
    segment_ids,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sum,
    segment_top_k_mean,
)


@pytest.fixture
def ragged():
    generator = torch.Generator().manual_seed(0)
    offsets = torch.tensor([0, 1, 18, 20, 2020])
    return torch.randn(2020, generator=generator) * 3, torch.randn(2020, 2, generator=generator), offsets


def spans(offsets):
    return [slice(start, end) for start, end in pairwise(offsets)]


def test_softmax_of_hand_worked_bags():
    logits = torch.tensor([0.0, torch.log(torch.tensor(3.0)).item(), 9.0])
    attention = segment_softmax(logits, torch.tensor([0, 2, 3]))
    torch.testing.assert_close(attention, torch.tensor([0.25, 0.75, 1.0]))


def test_packed_bags_equal_a_loop_over_bags(ragged):
    logits, values, offsets = ragged
    attention = segment_softmax(logits, offsets)
    looped = torch.cat([logits[span].softmax(0) for span in spans(offsets)])
    torch.testing.assert_close(attention, looped, atol=1e-6, rtol=1e-6)
    pooled = torch.stack([logits[span].softmax(0) @ values[span] for span in spans(offsets)])
    torch.testing.assert_close(attention_pool(logits, values, offsets), pooled, atol=1e-6, rtol=1e-5)
    means = torch.stack(
        [logits[span].topk(min(5, len(logits[span]))).values.mean() for span in spans(offsets)]
    )
    torch.testing.assert_close(segment_top_k_mean(logits, offsets, top_k=5), means, atol=1e-6, rtol=1e-6)
    largest = torch.stack([values[span].max(0).values for span in spans(offsets)])
    assert torch.equal(segment_max(values, offsets), largest)
    average = torch.stack([values[span].mean(0) for span in spans(offsets)])
    torch.testing.assert_close(segment_mean(values, offsets), average, atol=1e-6, rtol=1e-5)


def test_attention_sums_to_one_in_every_bag_even_for_huge_logits(ragged):
    logits, _, offsets = ragged
    for scale in (1.0, 1e4, -1e4):
        attention = segment_softmax(logits * scale, offsets)
        torch.testing.assert_close(segment_sum(attention, offsets), torch.ones(4))
        assert attention.isfinite().all()


def test_half_precision_is_pooled_in_float32():
    logits = torch.zeros(10_000, dtype=torch.bfloat16)
    pooled = attention_pool(logits, torch.ones(10_000, 1, dtype=torch.bfloat16), torch.tensor([0, 10_000]))
    assert pooled.dtype == torch.float32
    assert pooled.item() == pytest.approx(1.0, abs=1e-6)  # summed in bfloat16 this stays at 256 / 10,000


def test_hidden_instances_get_no_attention_and_count_as_removed(ragged):
    logits, values, offsets = ragged
    keep = torch.rand(2020, generator=torch.Generator().manual_seed(1)) < 0.5
    keep[offsets[:-1]] = True
    attention = segment_softmax(logits, offsets, keep)
    assert (attention[~keep] == 0).all()
    kept_offsets = torch.cat(
        [torch.zeros(1, dtype=torch.int64), segment_sum(keep.float(), offsets).cumsum(0).long()]
    )
    removed = attention_pool(logits[keep], values[keep], kept_offsets)
    torch.testing.assert_close(
        attention_pool(logits, values, offsets, keep=keep), removed, atol=1e-6, rtol=1e-5
    )


def test_a_bag_that_keeps_nothing_is_refused():
    keep = torch.tensor([True, False, False])
    with pytest.raises(ValueError, match=r"bag 1 keeps no instance"):
        segment_softmax(torch.zeros(3), torch.tensor([0, 1, 3]), keep)


def test_permuting_bags_and_instances_permutes_the_result(ragged):
    logits, values, offsets = ragged
    pooled = attention_pool(logits, values, offsets)
    order = [2, 0, 3, 1]
    mixed = [torch.arange(span.start, span.stop).flip(0) for span in (spans(offsets)[bag] for bag in order)]
    rows = torch.cat(mixed)
    permuted = torch.tensor([0, *[len(part) for part in mixed]]).cumsum(0)
    again = attention_pool(logits[rows], values[rows], permuted)
    torch.testing.assert_close(again, pooled[order], atol=1e-6, rtol=1e-5)


def test_gradients():
    offsets = torch.tensor([0, 1, 4, 9])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, dtype=torch.float64, generator=generator, requires_grad=True)
    values = torch.randn(9, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    keep = torch.tensor([1, 1, 0, 1, 1, 1, 0, 0, 1]).bool()
    assert torch.autograd.gradcheck(lambda a: segment_softmax(a, offsets, keep), logits)
    assert torch.autograd.gradcheck(lambda a, v: attention_pool(a, v, offsets, keep=keep), (logits, values))
    assert torch.autograd.gradcheck(lambda a: segment_top_k_mean(a, offsets, top_k=2), logits)
    assert torch.autograd.gradcheck(lambda a: segment_max(a, offsets), logits)


def test_the_same_input_gives_the_same_bits(ragged):
    logits, values, offsets = ragged
    first = attention_pool(logits, values, offsets)
    assert all(torch.equal(first, attention_pool(logits, values, offsets)) for _ in range(5))


def test_ranks_within_bags_keep_the_order_of_ties():
    values = torch.tensor([5.0, 1.0, 5.0, 7.0, 2.0, 2.0])
    assert descending_rank(values, torch.tensor([0, 3, 6])).tolist() == [0, 2, 1, 0, 1, 2]
    assert segment_ids(torch.tensor([0, 3, 6]), 6).tolist() == [0, 0, 0, 1, 1, 1]
