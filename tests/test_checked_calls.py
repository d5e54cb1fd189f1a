"""The tests' type checker checks what it says: first calls, then some, and first calls again in each test."""

import pytest
import torch
from checked_calls import FIRST, THEN, begin_test, check
from jaxtyping import Float, jaxtyped
from torch import Tensor

FIT, MISFIT = torch.zeros(2), torch.zeros(3)


@jaxtyped(typechecker=check)
def compare(left: Float[Tensor, "samples"], right: Float[Tensor, "samples"]):
    return len(left) == len(right)


def refusals(calls: int) -> list[int]:
    """Which of so many calls, counted from 1, are refused for their shapes."""
    refused = []
    for call in range(1, calls + 1):
        try:
            compare(FIT, MISFIT)
        except TypeError:
            refused.append(call)
    return refused


def test_first_calls_and_every_so_manieth_after_them_are_checked():
    begin_test()
    assert refusals(FIRST + 2 * THEN) == [*range(1, FIRST + 1), FIRST + THEN, FIRST + 2 * THEN]


def test_another_test_begins_anew():
    begin_test()
    refusals(FIRST)
    begin_test()
    with pytest.raises(TypeError, match="samples"):
        compare(FIT, MISFIT)


def test_what_is_returned_is_checked_too():
    @jaxtyped(typechecker=check)
    def shortened(values: Float[Tensor, "samples"]) -> Float[Tensor, "samples"]:
        return values[1:]

    begin_test()
    with pytest.raises(TypeError, match="return value"):
        shortened(FIT)
