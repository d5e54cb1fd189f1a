"""A test's draws are its own: no test before it and no fixture that it asks for first moves them."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from same_start import SEED, begin_alike, begun_apart


def draws():
    return random.random(), float(np.random.random()), torch.rand(1).item()


FIRST = (
    random.Random(SEED).random(),
    float(np.random.RandomState(SEED).random_sample()),
    torch.rand(1, generator=torch.Generator().manual_seed(SEED)).item(),
)


@pytest.fixture(scope="module")
def shared():
    return draws()


@pytest.mark.parametrize("turn", [0, 1])
def test_every_test_begins_with_the_same_draws(turn):
    assert draws() == FIRST


@pytest.mark.parametrize("turn", [0, 1])
def test_what_tests_share_is_made_apart_from_their_draws(request, turn):
    draws()
    expected = draws()
    begin_alike()
    draws()
    assert request.getfixturevalue("shared") == FIRST
    assert draws() == expected


def test_what_is_begun_apart_leaves_no_trace_though_it_fails():
    with pytest.raises(IndexError), begun_apart():
        draws()[3]
    assert draws() == FIRST


def test_drawn_examples_are_the_same_each_time():
    seen = []

    @given(st.integers(0, 10**9))
    @settings(max_examples=20)
    def look(value):
        seen.append(value)

    look()
    first, seen = seen, []
    look()
    assert len(set(first)) > 5
    assert seen == first


def test_no_clock_fails_an_example():
    assert (settings().deadline, settings().derandomize) == (None, True)
