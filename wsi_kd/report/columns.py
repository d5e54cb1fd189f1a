"""Named tuples as lines of a CSV file and back: a field a column, an empty cell for None."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_type_hints

Line = TypeVar("Line")


def cells_of(line: tuple[Any, ...]) -> tuple[object, ...]:
    """Return the cells of one line; numbers keep as many digits as they need to come back unchanged."""
    return tuple("" if value is None else value for value in line)


def parse_lines(kind: Callable[..., Line], table: Iterable[Mapping[str, str]]) -> tuple[Line, ...]:
    """Read lines whose fields are text (enumerations too), numbers, or numbers that may be None.

    Args:
        kind: class of the lines, a NamedTuple.
        table: a line's cells by column.

    Raises:
        KeyError, ValueError: a column that is absent, or a cell that is not of its field's kind.
    """
    hints = get_type_hints(kind)
    return tuple(kind(**{name: _value(row[name], hint) for name, hint in hints.items()}) for row in table)


def _value(cell: str, hint: Any) -> Any:
    kinds: Sequence[Any] = get_args(hint) or (hint,)
    if type(None) in kinds and cell == "":
        return None
    return kinds[0](cell)
