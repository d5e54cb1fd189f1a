"""Options out of a file, checked against the signature of what they are for."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from wsi_kd.core.booleans import stands_for_number
from wsi_kd.core.errors import BadInput, unknown_name

Built = TypeVar("Built")
Check: TypeAlias = Callable[[Any], Any]
"""From what a file holds to what a signature asks for; raises ValueError, pydantic's or one line."""
NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def build(
    make: Callable[..., Built], options: Mapping[str, Any], *, what: str, beside: Iterable[str] = ()
) -> Built:
    """Call a constructor or function with options that its signature has, of the types it names.

    `what` names it in errors; `beside` are further keys that may stand where the options stand.

    Raises:
        BadInput: an unknown option (told with the nearest one), one of another type, one that is missing.
    """
    known = plain_options(make)
    for name in options:
        if name not in known:
            raise unknown_name(f"option of {what}", name, [*known, *beside])
    missing = [name for name in known if name not in options and _is_required(make, name)]
    if missing:
        raise BadInput(f"{what}: option '{missing[0]}' is missing")
    checked = {name: _checked(known[name], value, f"{what}: {name}") for name, value in options.items()}
    try:
        return make(**checked)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from None
    except Exception as error:  # a class of the user's may raise anything
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{what}: it cannot be made ({told})") from None


def plain_options(make: Callable[..., Any]) -> dict[str, Check]:
    """Return the parameters that a file can give, with what checks them; networks and functions it cannot."""
    hints = get_type_hints(getattr(make, "__init__") if isinstance(make, type) else make)  # noqa: B009  # mypy
    found: dict[str, Check] = {}
    for name, parameter in inspect.signature(make).parameters.items():
        if parameter.kind in NAMED and name in hints and _is_plain(hints[name]):
            found[name] = partial(_validated, hints[name])
    return found


def _validated(annotation: Any, value: Any) -> Any:
    if stands_for_number(value, annotation):
        raise ValueError("expected a number")
    return TypeAdapter[Any](annotation).validate_python(value)


def _is_plain(annotation: Any) -> bool:
    try:
        TypeAdapter[Any](annotation).json_schema()
    except PydanticUserError:
        return False
    return True


def _is_required(make: Callable[..., Any], name: str) -> bool:
    return bool(inspect.signature(make).parameters[name].default is inspect.Parameter.empty)


def _checked(check: Check, value: Any, where: str) -> Any:
    try:
        return check(value)
    except ValueError as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadInput(f"{where}: {told[0].lower()}{told[1:]}, found {value!r}") from None
