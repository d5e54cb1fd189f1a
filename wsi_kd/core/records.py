"""What is known of a slide after a step: its status, the reason, and a few counts."""

from enum import StrEnum
from typing import NamedTuple


class SlideStatus(StrEnum):
    """How a slide ended. Only `ok` slides reach training; every slide has exactly one status."""

    OK = "ok"
    EMPTY = "empty"
    MISSING_MPP = "missing_mpp"
    TOO_COARSE = "too_coarse"
    UNREADABLE = "unreadable"
    READER_CRASHED = "reader_crashed"
    """Reading it killed the process, hung, or asked for more memory than a read may; tried again whenever its
    step runs again."""
    DAMAGED_TILES = "damaged_tiles"
    TOO_FEW_TILES = "too_few_tiles"
    MISSING_FEATURES = "missing_features"


class StatusRow(NamedTuple):
    """One line of a status table; the fields are its columns."""

    slide_id: str
    status: SlideStatus
    reason: str
    step: str
    tiles: int
    tissue_mm2: float
    slide_mpp: float
    mpp_source: str
    seconds: float
    tiles_laid: int = 0
    """Tiles of the grid; those of `tiles` fewer were left out, counted by reason below."""
    dropped_damaged: int = 0
    dropped_pen: int = 0
    dropped_background: int = 0
    dropped_blurred: int = 0
