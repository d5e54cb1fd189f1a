"""Cutting bags: every instance in one piece of its own bag, pieces of equal size, any cut equally likely."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from wsi_kd.kd.sub_bags import cut_bags

SIZES = np.array([7, 1, 3, 20])


def cut(sizes=SIZES, *, pieces, seed=0):
    return cut_bags(np.asarray(sizes), pieces=pieces, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pieces", [2, 3, 7, 50])
def test_every_instance_is_in_one_piece_of_its_own_bag(pieces):
    found = cut(pieces=pieces)
    assert sorted(found.order.tolist()) == list(range(31))
    bags = np.repeat(np.arange(4), SIZES)
    assert (bags[found.order] == bags).all()
    assert (bags[found.order] == np.repeat(found.bags, np.diff(found.offsets))).all()


def test_pieces_of_a_bag_are_equal_or_one_apart():
    found = cut(pieces=3)
    assert found.bags.tolist() == [0, 0, 0, 1, 2, 2, 2, 3, 3, 3]
    assert np.diff(found.offsets).tolist() == [3, 2, 2, 1, 1, 1, 1, 7, 7, 6]


def test_one_piece_is_the_bag_and_many_are_single_instances():
    whole = cut(pieces=1)
    assert whole.order.tolist() == list(range(31))
    assert whole.offsets.tolist() == [0, 7, 8, 11, 31]
    single = cut(pieces=50)
    assert np.diff(single.offsets).tolist() == [1] * 31
    assert single.bags.tolist() == [0] * 7 + [1] + [2] * 3 + [3] * 20


def test_a_piece_keeps_the_order_of_its_instances():
    found = cut(pieces=4)
    for start, end in pairwise(found.offsets.tolist()):
        assert found.order[start:end].tolist() == sorted(found.order[start:end].tolist())


def test_the_draw_repeats_with_the_seed_and_is_new_with_the_next():
    assert cut(pieces=3).order.tolist() == cut(pieces=3).order.tolist()
    assert cut(pieces=3).order.tolist() != cut(pieces=3, seed=1).order.tolist()


def test_any_two_instances_meet_as_often_as_chance_has_it():
    """Of 6 in 2 pieces of 3, a given one is met with probability 2/5."""
    draws, met = 3_000, np.zeros(6)
    for seed in range(draws):
        first = cut([6], pieces=2, seed=seed).order[:3]
        piece = first if 0 in first else np.setdiff1d(np.arange(6), first)
        met[piece] += 1
    assert met[0] == draws
    assert met[1:] / draws == pytest.approx(0.4, abs=4 * np.sqrt(0.4 * 0.6 / draws))
