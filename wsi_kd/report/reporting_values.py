"""What every item of `report/reporting_items.json` is made of: present with its facts, or not available."""

from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

from pydantic import Field, with_config
from typing_extensions import TypedDict

from wsi_kd.core.json_schema import DESCRIBED

Facts = TypeVar("Facts")
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Counts: TypeAlias = dict[str, int]


@with_config(DESCRIBED)
class Present(TypedDict, Generic[Facts]):
    """An item that the run answers."""

    status: Literal["present"]
    text: Text
    """The answer in words."""
    facts: Facts


@with_config(DESCRIBED)
class NotAvailable(TypedDict):
    """An item that the run cannot answer."""

    status: Literal["not available"]
    reason: Text


@with_config(DESCRIBED)
class Interval(TypedDict):
    """One metric, mean over seeds, with its interval."""

    estimate: float | None
    low: float | None
    high: float | None
    confidence: float
    reason: str
    """Why a number is null, else empty."""


def present(text: str, facts: Facts) -> Present[Facts]:
    """Answer an item."""
    return {"status": "present", "text": text, "facts": facts}


def not_available(reason: str) -> NotAvailable:
    """Say why an item cannot be answered."""
    return {"status": "not available", "reason": reason}
