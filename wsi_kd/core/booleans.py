"""True is no number: where a number is wanted, Python and pydantic would take it for 1."""

from typing import Any, get_args

NUMBERS = frozenset({int, float})


def stands_for_number(value: object, annotation: Any) -> bool:
    """Tell whether a value is true or false, or a list with one, where `annotation` wants numbers.

    >>> stands_for_number(True, int | None), stands_for_number([0.5, False], tuple[float, ...])
    (True, True)
    >>> stands_for_number(True, bool | int), stands_for_number(1, int), stands_for_number(True, str)
    (False, False, False)
    """
    if not _holds_boolean(value):
        return False
    kinds = _kinds(annotation)
    return any(kind in NUMBERS for kind in kinds) and not any(kind in (bool, Any) for kind in kinds)


def _holds_boolean(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_boolean, value)))


def _kinds(annotation: Any) -> list[Any]:
    """Return the plain types within an annotation; of a Literal those of its values."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    if annotation is Any:
        return [Any]
    return [kind for part in get_args(annotation) for kind in _kinds(part)] or [type(annotation)]
