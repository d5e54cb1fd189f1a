"""Whether a model's answer on a slide stays when its tiles are encoded in fewer bits, or compiled."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from wsi_kd.features.precision_gate import LEAST_COSINE
from wsi_kd.inference.slide_prediction import SlideLogits

LARGEST_CHANGE: Final = 0.01
"""Of a slide's logit against float32; a probability then moves by 0.005 at most."""


class Encoded(NamedTuple):
    """One model's logits of the same tiles of a slide, by how their features came to be."""

    exact: SlideLogits
    """In float32, not compiled."""
    found: SlideLogits
    """As asked."""
    rounded: SlideLogits
    """As `exact`, rounded to the type that the run stores."""
    stored: SlideLogits
    """As the feature file holds them."""


class LogitChange(NamedTuple):
    """One logit of a slide; the members are those of `Encoded`."""

    model: str
    score: str
    """teacher or student."""
    label: str
    """The logit's class; the student has none of the first one."""
    exact: float
    found: float
    rounded: float
    stored: float

    @property
    def change(self) -> float:
        """What the precision does: this one is held against `LARGEST_CHANGE`."""
        return abs(self.found - self.exact)

    @property
    def rounding_change(self) -> float:
        """What the stored type does by itself; bfloat16 within its range is not changed by float16."""
        return abs(self.rounded - self.exact)

    @property
    def stored_change(self) -> float:
        """What both did to the features that the run's models were trained and measured on."""
        return abs(self.stored - self.exact)


class SlideChange(NamedTuple):
    """One slide."""

    slide_id: str
    tiles: int
    """That were encoded."""
    least_cosine: float
    """Of a tile, as asked against float32."""
    mean_cosine: float
    """Of all of them."""
    stored_cosine: float | None
    """Of a tile, as the file holds it against what the run's own precision gives now; None where that is not
    among what was encoded."""
    logits: tuple[LogitChange, ...]


class Verdict(NamedTuple):
    """What all slides say together."""

    least_cosine: float
    largest_change: float
    largest_rounding_change: float
    largest_stored_change: float
    least_stored_cosine: float | None
    fault: str
    """What is beyond a limit, and where; empty where nothing is."""
    is_of_file: bool = False
    """Whether the fault is of a feature file, not of the precision."""


def logit_changes(model: str, encoded: Encoded, *, classes: Sequence[str]) -> Iterator[LogitChange]:
    """Yield the teacher's logit of every class, then the student's of every positive one.

    Args:
        model: its name.
        encoded: logits of one slide.
        classes: in order, the negative one first.
    """
    for score, labels in (("teacher", classes), ("student", classes[1:])):
        ways = [getattr(logits, score) for logits in encoded]
        if ways[0] is None:
            continue
        for place, label in enumerate(labels):
            yield LogitChange(model, score, label, *(float(logits[place]) for logits in ways))


def judge(slides: Sequence[SlideChange]) -> Verdict:
    """Hold every slide against the limits; the fault is that of the worst one.

    Args:
        slides: one at least, each with a logit at least.
    """
    every = [one for slide in slides for one in slide.logits]
    stored = [slide.stored_cosine for slide in slides if slide.stored_cosine is not None]
    fault = _precision_fault(slides)
    stale = _file_fault(slides)
    return Verdict(
        least_cosine=min(slide.least_cosine for slide in slides),
        largest_change=max(one.change for one in every),
        largest_rounding_change=max(one.rounding_change for one in every),
        largest_stored_change=max(one.stored_change for one in every),
        least_stored_cosine=min(stored, default=None),
        fault=fault or stale,
        is_of_file=not fault and bool(stale),
    )


def _precision_fault(slides: Sequence[SlideChange]) -> str:
    unlike = min(slides, key=lambda slide: slide.least_cosine)
    if not unlike.least_cosine >= LEAST_COSINE:
        return (
            f"{unlike.slide_id}: the features of a tile have a cosine of {unlike.least_cosine:.4f} with "
            f"those in float32, {LEAST_COSINE} is needed"
        )
    slide_id, moved = max(
        ((slide.slide_id, one) for slide in slides for one in slide.logits), key=lambda pair: pair[1].change
    )
    if not moved.change <= LARGEST_CHANGE:
        return (
            f"{slide_id}: {moved.model}, the {moved.score}'s logit of '{moved.label}' is {moved.found:.4f}, "
            f"in float32 {moved.exact:.4f}: a change of {moved.change:.4f}, {LARGEST_CHANGE} is allowed"
        )
    return ""


def _file_fault(slides: Sequence[SlideChange]) -> str:
    compared = [(slide.stored_cosine, slide.slide_id) for slide in slides if slide.stored_cosine is not None]
    cosine, slide_id = min(compared, default=(1.0, ""))
    if cosine >= LEAST_COSINE:
        return ""
    return (
        f"{slide_id}: its feature file does not hold what the encoder gives now: a tile has a cosine of "
        f"{cosine:.4f}, {LEAST_COSINE} is needed"
    )
