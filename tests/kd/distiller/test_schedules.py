"""Schedules at their ends and in the middle, and what they refuse."""

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.schedules import Constant, Cosine, Linear, Steps, WarmupCosine


def test_values_worked_by_hand() -> None:
    assert [Constant(2.0)(p) for p in (0.0, 0.7)] == [2.0, 2.0]
    assert [Linear(0.9, 0.1)(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.5, 0.1])
    assert [Cosine(0.0, 2.0)(p) for p in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([0.0, 0.5, 1.0, 2.0])
    assert [Steps((0.3, 0.6), factor=0.5)(p) for p in (0.0, 0.3, 0.6, 1.0)] == [1.0, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_flat_outside_of_the_span(kind: type) -> None:
    fade = kind(1.0, 0.0, begin=0.25, finish=0.75)
    assert [fade(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0, 0.0])


def test_equal_settings_are_equal() -> None:
    assert Linear(1.0, 0.0) == Linear(1.0, 0.0) != Linear(1.0, 0.5)
    assert repr(Steps((0.5,))) == "Steps(at=(0.5,), factor=0.1)"


@pytest.mark.parametrize(("begin", "finish"), [(0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.1)])
def test_spans_outside_of_the_training_are_refused(begin: float, finish: float) -> None:
    with pytest.raises(BadInput, match="expected 0 <= begin < finish <= 1"):
        Linear(1.0, 0.0, begin=begin, finish=finish)


def test_warming_up_is_a_line_and_then_half_a_cosine() -> None:
    warm = WarmupCosine(warmup=0.25, start=0.2, end=0.1)
    assert [warm(p) for p in (0.0, 0.125, 0.25)] == pytest.approx([0.2, 0.6, 1.0])
    assert [warm(p) for p in (0.625, 1.0)] == pytest.approx([0.55, 0.1])
    assert warm(0.25 - 1e-9) == pytest.approx(warm(0.25), abs=1e-7)
    with pytest.raises(BadInput, match=r"warms up for 1\.0 of the training"):
        WarmupCosine(warmup=1.0)
