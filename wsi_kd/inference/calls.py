"""From probabilities to a class name, at the threshold that the checkpoint carries."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float64

CALL_FACTS: Final = (
    "thresholds",
    "threshold_rule",
    "threshold_split",
    "student_pooling",
    "top_k",
    "out_of_distribution",
    "weights_sha256",
)
"""Members of a checkpoint's header without which its scores are no answer: repeated beside them."""


def positive_probability(class_probabilities: Float64[np.ndarray, "classes"]) -> float:
    """Return the probability of any class but the first, the negative one."""
    return float(class_probabilities[1:].sum())


def slide_call(
    class_probabilities: Float64[np.ndarray, "classes"], *, classes: Sequence[str], threshold: float
) -> str:
    """Return the negative class below the threshold, else the likeliest of the others.

    >>> slide_call(np.array([0.55, 0.1, 0.35]), classes=["normal", "grade 1", "grade 2"], threshold=0.4)
    'grade 2'
    """
    if positive_probability(class_probabilities) < threshold:
        return classes[0]
    return classes[1 + int(np.argmax(class_probabilities[1:]))]


def positive_name(classes: Sequence[str]) -> str:
    """Name what is not the negative class: the second of two classes, else `not <first>`.

    >>> positive_name(["normal", "tumor"]), positive_name(["normal", "grade 1", "grade 2"])
    ('tumor', 'not normal')
    """
    return classes[1] if len(classes) == 2 else f"not {classes[0]}"  # noqa: PLR2004 - two classes
