"""What a color or a threshold on tiles can mean: each mapping of a slide's tile scores, by name and unit.

A mapping turns a table of tiles into one number a tile. Heatmaps, regions, gallery, viewer and `infer` all
ask here, so that a name means the same number everywhere.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.inference.attention import attention_percentile, attention_times_tiles
from wsi_kd.inference.slide_prediction import TileClassScores, TileScores
from wsi_kd.inference.tables import BINARY, TileTable

CLASS_MARK = ":"
"""Parts a mapping's key from a class: `student_probability:grade 2`."""
LONGEST_CLASS = 60
"""Characters of a class that a file's name repeats."""

Transform: TypeAlias = Callable[[TileScores], TileScores]


class Mapping(NamedTuple):
    """What the numbers of a mapping are."""

    name: str
    """Written along color bars and into files."""
    unit: str
    vmin: float | None
    """Ends of the color bar; None: the slide's own least and largest score."""
    vmax: float | None
    grows: bool
    """The upper end is the slide's largest score where that is above vmax."""
    meaning: str
    """One sentence for readers: what it says, and what it does not."""


class MappedTiles(NamedTuple):
    """One mapping of one slide's tiles."""

    key: str
    """As asked for, the class included."""
    name: str
    """The mapping's, and the class where it is of one."""
    unit: str
    scores: TileScores
    """One a tile; NaN where the score is not finite."""
    vmin: float
    """Ends of the color bar on this slide; vmin < vmax."""
    vmax: float
    meaning: str


MAPPINGS = {
    "student_probability": Mapping(
        name="student probability",
        unit="probability",
        vmin=0.0,
        vmax=1.0,
        grows=False,
        meaning="The student's probability that the tile is positive (of more than two classes: the largest "
        "of its probabilities of the positive ones); comparable between slides, not calibrated on tiles.",
    ),
    "teacher_evidence": Mapping(
        name="teacher evidence probability",
        unit="probability",
        vmin=0.0,
        vmax=1.0,
        grows=False,
        meaning="The teacher's bag classifier applied to the tile alone: probability of any positive class. "
        "The teacher was trained on whole slides, never on single tiles.",
    ),
    "attention_percentile": Mapping(
        name="attention percentile",
        unit="percentile",
        vmin=0.0,
        vmax=100.0,
        grows=False,
        meaning="Rank of the tile's attention within its slide, 0 to 100: half of the tiles of any slide "
        "lie above 50, those of a negative slide too.",
    ),
    "attention_softmax": Mapping(
        name="attention x tiles (softmax)",
        unit="times an even spread",
        vmin=0.0,
        vmax=2.0,
        grows=True,
        meaning="The tile's share of the attention times the number of tiles: 1 is an even spread. Where the "
        "teacher looked, not what it found there.",
    ),
    "attention_raw": Mapping(
        name="attention logit (raw)",
        unit="logit",
        vmin=None,
        vmax=None,
        grows=False,
        meaning="Attention before the softmax: known up to a constant only, so that neither its zero nor its "
        "sign means anything.",
    ),
}
"""Every mapping by its key.

Attention x tiles is 1 for an even spread: its bar ends at 2 at least, so that even attention never looks hot.
"""


def tile_mapping(tiles: TileTable, key: str, *, classes: Sequence[str] = ()) -> MappedTiles:
    """Return one mapping of a slide's tiles.

    Args:
        tiles: scores and positions.
        key: of `MAPPINGS`; of more than two classes also with a class behind a colon: the student's
            probability and the evidence of each positive class, and of a teacher with a branch a class the
            attention of each.
        classes: in order, the negative one first; needed where `key` names a class.

    Raises:
        BadInput: a mapping that is unknown, or that this table does not hold; the known ones are named.

    >>> tiles = TileTable(
    ...     coords=np.array([[0, 0], [256, 0]]),
    ...     tile_level0_px=256.0,
    ...     attention=np.array([0.75, 0.25]),
    ...     branch_attention=None,
    ...     evidence=np.array([[0.2], [0.9]]),
    ...     student_probability=None,
    ...     tile_labels=np.array([-1, -1], dtype=np.int8),
    ... )
    >>> mapped = tile_mapping(tiles, "attention_softmax")
    >>> mapped.scores.tolist(), mapped.vmax, mapped.name
    ([1.5, 0.5], 2.0, 'attention x tiles (softmax)')
    """
    base, class_name = check_mapping(key)
    found = _scores(tiles, classes)
    if key not in found:
        raise BadInput(f"mapping '{key}': this model's tiles do not hold it; they hold: {', '.join(found)}")
    scores = np.where(np.isfinite(found[key]), found[key], np.nan)
    what = MAPPINGS[base]
    vmin, vmax = _ends(what, scores)
    name = f"{what.name}: {class_name}" if class_name else what.name
    return MappedTiles(key, name, what.unit, scores, vmin=vmin, vmax=vmax, meaning=what.meaning)


def check_mapping(key: str) -> tuple[str, str]:
    """Part a key into a mapping's name and a class (empty where it names none).

    Raises:
        BadInput: no mapping of that name.
    """
    base, _, class_name = key.partition(CLASS_MARK)
    if base not in MAPPINGS:
        raise unknown_name("heatmap mapping", base, MAPPINGS)
    return base, class_name


def mapping_keys(tiles: TileTable, *, classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the keys that `tile_mapping` answers for this table, the default one first."""
    return tuple(_scores(tiles, classes))


def default_mapping(tiles: TileTable) -> str:
    """Return the mapping that is drawn unless told otherwise: the student's, else the teacher's evidence."""
    return "teacher_evidence" if tiles.student_probability is None else "student_probability"


def mapping_slug(key: str) -> str:
    """Turn a key into a part of a file's name; two keys never give the same.

    >>> mapping_slug("attention_raw"), mapping_slug("student_probability:low")
    ('attention_raw', 'student_probability-low')
    >>> mapping_slug("student_probability:grade 2/3")
    'student_probability-grade_2_3-fe526dfd'
    """
    base, mark, class_name = key.partition(CLASS_MARK)
    plain = re.sub(r"[^A-Za-z0-9_.]", "_", class_name)[:LONGEST_CLASS]
    told = "" if plain == class_name else f"-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return f"{base}-{plain}{told}" if mark else base


def _scores(tiles: TileTable, classes: Sequence[str]) -> dict[str, TileScores]:
    """Collect every mapping of a table; the student's first."""
    found: dict[str, TileScores] = {}
    if tiles.student_score is not None:
        found["student_probability"] = tiles.student_score
    found["teacher_evidence"] = tiles.evidence_score
    found["attention_softmax"] = attention_times_tiles(tiles.attention)
    found["attention_percentile"] = attention_percentile(tiles.attention)
    if tiles.attention_logits is not None:
        found["attention_raw"] = tiles.attention_logits
    if len(classes) <= BINARY:
        return found
    positives, branches = classes[1:], tiles.branch_attention
    found |= _by_class("student_probability", tiles.student_probability, positives)
    found |= _by_class("teacher_evidence", tiles.evidence, positives)
    found |= _by_class("attention_softmax", branches, classes, transform=attention_times_tiles)
    found |= _by_class("attention_percentile", branches, classes, transform=attention_percentile)
    return found


def _by_class(
    base: str, values: TileClassScores | None, names: Sequence[str], *, transform: Transform = np.asarray
) -> dict[str, TileScores]:
    if values is None:
        return {}
    return {
        f"{base}{CLASS_MARK}{name}": transform(column) for name, column in zip(names, values.T, strict=True)
    }


def _ends(what: Mapping, scores: TileScores) -> tuple[float, float]:
    known = scores[np.isfinite(scores)]
    low = float(known.min(initial=np.inf)) if what.vmin is None else what.vmin
    high = float(known.max(initial=-np.inf)) if what.vmax is None else what.vmax
    if what.grows:
        high = float(known.max(initial=high))
    if not np.isfinite([low, high]).all():  # no tile has a score
        return 0.0, 1.0
    return low, high if high > low else low + 1.0
