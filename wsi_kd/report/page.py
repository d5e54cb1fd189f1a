"""What a report page is made of: sections of tables, charts, cards and text; the template knows no more."""

from typing import Literal, NamedTuple, TypeAlias

LONG_TABLE = 24
"""Tables of more rows are folded where most readers do not need every one."""


class Cell(NamedTuple):
    """One table cell."""

    text: str
    note: str = ""
    """Small print below the text, such as why a metric is undefined."""
    number: float | None = None
    """What a sort compares; None for text."""


class Column(NamedTuple):
    """One table column."""

    heading: str
    numeric: bool = False
    """Right-aligned."""


class Table(NamedTuple):
    """A sortable table; every row has one cell a column."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False
    """Shown folded up: it is long and most readers do not need it."""
    compact: bool = False
    """As narrow as its text, beside its like."""
    kind: Literal["table"] = "table"


class Chart(NamedTuple):
    """A drawing with its caption."""

    svg: str
    """Markup that `svg.inline_svg` made: the one text that the template does not escape."""
    caption: str
    folded: bool = False
    kind: Literal["chart"] = "chart"


class Picture(NamedTuple):
    """An image inside the page."""

    data_uri: str
    alt: str
    caption: str
    width_px: int
    height_px: int


class Strip(NamedTuple):
    """A row of small pictures under one caption."""

    caption: str
    pictures: tuple[Picture, ...]


class Card(NamedTuple):
    """One slide of the gallery: what it is, what the model said, what it looked at."""

    heading: str
    verdict: str
    right: bool | None
    """None where nobody can tell."""
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    note: str = ""
    """Why there is no picture."""
    strips: tuple[Strip, ...] = ()


class Gallery(NamedTuple):
    """Cards one below the other."""

    cards: tuple[Card, ...]
    heading: str = ""
    kind: Literal["gallery"] = "gallery"


class Note(NamedTuple):
    """A paragraph."""

    text: str
    caution: bool = False
    """Set apart: who skips it may trust a number too far."""
    kind: Literal["note"] = "note"


class Listing(NamedTuple):
    """Text shown as it is: settings, commands."""

    caption: str
    text: str
    kind: Literal["listing"] = "listing"


Block: TypeAlias = Table | Chart | Gallery | Note | Listing


class Section(NamedTuple):
    """One heading of the page and what stands below it."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]


class Page(NamedTuple):
    """The whole report."""

    title: str
    research_only: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
