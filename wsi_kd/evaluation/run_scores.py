"""Scores of finished runs side by side: one row a slide, and the slides that two runs both tested."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from wsi_kd.core.errors import BadInput
from wsi_kd.evaluation.scored_slides import SlideScores, pool_seeds

NAMED_SLIDES = 5


class Entry(NamedTuple):
    """One score of one recipe of one run: a line of the leaderboard."""

    run: str
    recipe: str
    score: str
    """teacher or student."""
    validation: tuple[SlideScores, ...]
    """Validation slides with a label, one part a seed and fold."""
    test: tuple[SlideScores, ...]
    """Test slides with a label, one part a seed and fold."""

    @property
    def kind(self) -> tuple[str, str]:
        """What it is, whichever run it is of."""
        return self.recipe, self.score

    @property
    def tested(self) -> frozenset[str]:
        """Slides that every seed tested."""
        return slides_of(self.test)


def slides_of(parts: Sequence[SlideScores]) -> frozenset[str]:
    """Return the slides that every seed of these parts scored."""
    by_seed: dict[int, set[str]] = {}
    for part in parts:
        by_seed.setdefault(part.seed, set()).update(part.slide_ids)
    return frozenset(set.intersection(*by_seed.values())) if by_seed else frozenset()


def one_row_a_slide(parts: Sequence[SlideScores], *, slides: Collection[str]) -> list[SlideScores]:
    """Return one part a seed with each of `slides` once, in the order of their names.

    Splits may put a slide into the test part of several folds: its score is then the mean of what their
    models say, and it is called positive where at least half of them call it so.

    Args:
        parts: one a seed and fold.
        slides: each scored by every seed.
    """
    return [_once(pooled, sorted(slides)) for pooled in pool_seeds(parts)]


def refuse_other_facts(entries: Sequence[Entry]) -> None:
    """Refuse runs that disagree about a slide's label or patient: nothing of them can be paired.

    Raises:
        BadInput: naming the slides.
    """
    first: dict[str, tuple[str, int, str]] = {}
    odd: dict[str, str] = {}
    for entry in entries:
        for part in (*entry.validation, *entry.test):
            told = zip(part.slide_ids, part.labels.tolist(), part.case_ids, strict=True)
            for slide_id, label, case in told:
                run, known_label, known_case = first.setdefault(slide_id, (entry.run, label, case))
                what = "label" if known_label != label else "case" if known_case != case else ""
                if what:
                    odd.setdefault(slide_id, f"{slide_id} ({what}: {run} and {entry.run})")
    if odd:
        more = f" and {len(odd) - NAMED_SLIDES} more" if len(odd) > NAMED_SLIDES else ""
        raise BadInput(
            f"the runs do not agree on the label or the case of {len(odd)} slides: "
            f"{', '.join(list(odd.values())[:NAMED_SLIDES])}{more}; "
            "only runs of one manifest can be compared"
        )


def _once(part: SlideScores, slides: Sequence[str]) -> SlideScores:
    rows: dict[str, list[int]] = {slide_id: [] for slide_id in slides}
    for row, slide_id in enumerate(part.slide_ids):
        if slide_id in rows:
            rows[slide_id].append(row)
    chosen = [np.array(rows[slide_id], dtype=np.int64) for slide_id in slides]
    first = [int(index[0]) for index in chosen]
    many = part.class_probabilities
    return part._replace(
        slide_ids=tuple(slides),
        case_ids=tuple(part.case_ids[row] for row in first),
        labels=part.labels[first],
        scores=np.array([part.scores[index].mean() for index in chosen], dtype=np.float64),
        calls=np.array([part.calls[index].mean() >= 0.5 for index in chosen], dtype=bool),  # noqa: PLR2004
        class_probabilities=None
        if many is None
        else np.array([many[index].mean(axis=0) for index in chosen]).reshape(len(slides), many.shape[1]),
    )
