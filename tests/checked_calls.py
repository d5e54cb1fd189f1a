"""The type checker of the tests: beartype, at a function's first calls in each test and now and then after.

A training calls the same losses ten thousand times with the same shapes; to check each call took four tenths
of such a test's time, and the eight-hundredth call shows nothing that the first two hundred did not.
"""

from collections.abc import Callable
from functools import wraps
from itertools import count
from typing import Any, Final

from beartype import beartype

FIRST: Final = 200
"""Calls of a function that are all checked in a test."""
THEN: Final = 50
"""After these every so manieth is."""
_TESTS: Final = count(1)
_current: list[int] = [0]


def begin_test() -> None:
    """Check all functions' first calls again."""
    _current[0] = next(_TESTS)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its annotations checked; beartype looks at them when it is first called."""
    checked: Callable[..., Any] | None = None
    test, calls = 0, 0

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal checked, test, calls
        if test != _current[0]:
            test, calls = _current[0], 0
        calls += 1
        if calls > FIRST and calls % THEN:
            return function(*arguments, **named)
        checked = checked or beartype(function)
        return checked(*arguments, **named)

    return call
