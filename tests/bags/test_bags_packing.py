from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import pack, plan_batches


def bag_set(sizes: list[int], dtype: str = "float16") -> BagSet:
    total = sum(sizes)
    features = np.random.default_rng(0).normal(size=(total, 3)).astype(dtype)
    return BagSet(
        slide_ids=tuple(f"s{index}" for index in range(len(sizes))),
        features=features,
        offsets=np.cumsum([0, *sizes], dtype=np.int64),
        labels=np.arange(len(sizes), dtype=np.int64) % 2,
        tile_labels=np.arange(total, dtype=np.int8) % 2,
        coords=np.arange(2 * total, dtype=np.int64).reshape(total, 2),
        header={"encoder": "e"},
    )


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=10)


@given(SIZES, st.data())
@settings(deadline=None)
def test_pack_equals_a_plain_loop(sizes, data):
    bags = bag_set(sizes)
    order = data.draw(st.lists(st.sampled_from(range(len(sizes))), min_size=1, max_size=12))
    packed = pack(bags, order, device="cpu", dtype=torch.float32)
    rows, offsets = [], [0]
    for index in order:
        rows += [bags.features[row].tolist() for row in range(bags.offsets[index], bags.offsets[index + 1])]
        offsets.append(len(rows))
    assert packed.instances.dtype == torch.float32
    assert packed.instances.tolist() == rows
    assert packed.offsets.tolist() == offsets
    assert packed.labels.tolist() == [index % 2 for index in order]


def test_pack_shares_no_memory_with_the_cohort():
    bags = bag_set([2, 3], "float32")
    before = bags.features.copy()
    packed = pack(bags, [1], device="cpu", dtype=torch.float32)
    packed.instances.zero_()
    packed.labels.zero_()
    np.testing.assert_array_equal(bags.features, before)
    assert bags.labels.tolist() == [0, 1]


@given(SIZES, st.integers(1, 30), st.integers(1, 5), st.randoms())
@settings(deadline=None)
def test_batches_keep_order_and_limits(sizes, budget, most, shuffler):
    order = list(range(len(sizes)))
    shuffler.shuffle(order)
    batches = plan_batches(sizes, order, token_budget=budget, bags_per_step=most)
    assert [index for batch in batches for index in batch] == order
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(sizes[index] for index in batch) <= budget
    for batch, following in pairwise(batches):  # none could have been fuller
        total = sum(sizes[index] for index in batch) + sizes[following[0]]
        assert len(batch) == most or total > budget


@pytest.mark.parametrize(
    ("order", "budget", "most", "expected"),
    [
        ([0, 1, 2, 3], 10, 2, [[0, 1], [2, 3]]),
        ([3, 2, 1, 0], 7, 4, [[3, 2], [1, 0]]),
        ([0, 1, 2, 3], 3, 4, [[0], [1], [2], [3]]),
        ([0, 2], 100, 4, [[0, 2]]),
        ([], 100, 4, []),
    ],
)
def test_hand_worked_batches(order, budget, most, expected):
    sizes = np.array([5, 2, 3, 4])
    assert plan_batches(sizes.tolist(), order, token_budget=budget, bags_per_step=most) == expected


def test_select_keeps_the_asked_order():
    bags = bag_set([2, 3, 1])
    chosen = bags.select(["s2", "s0"])
    assert chosen.slide_ids == ("s2", "s0")
    assert chosen.offsets.tolist() == [0, 1, 3]
    assert chosen.labels.tolist() == [0, 0]
    np.testing.assert_array_equal(chosen.features, bags.features[[5, 0, 1]])
    np.testing.assert_array_equal(chosen.coords, bags.coords[[5, 0, 1]])
    assert chosen.tile_labels.tolist() == [1, 0, 1]
    assert chosen.header == {"encoder": "e"}
    assert bags.select([]).offsets.tolist() == [0]


@given(SIZES, st.data())
@settings(deadline=None)
def test_bags_taken_from_the_device_equal_bags_taken_from_the_host(sizes, data):
    bags = bag_set(sizes)
    order = data.draw(st.lists(st.sampled_from(range(len(sizes))), min_size=1, max_size=12))
    resident = torch.from_numpy(bags.features)
    packed = pack(bags, order, device="cpu", dtype=torch.float32)
    for one, other in zip(
        pack(bags, order, device="cpu", dtype=torch.float32, resident=resident), packed, strict=True
    ):
        assert torch.equal(one, other)
    again = pack(bags, order, device="cpu", dtype=torch.float16, resident=resident)
    again.instances.fill_(9.0)
    assert not (resident == 9.0).any()  # a copy, so that a step cannot change the training part
