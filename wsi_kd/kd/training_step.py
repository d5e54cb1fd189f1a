"""One step of distillation, without its update: what the networks give, and the weighted terms."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.batches import call, check_labels, check_logits, find_logits
from wsi_kd.kd.criteria import Criterion
from wsi_kd.kd.outputs import TEACHERS, Outputs
from wsi_kd.kd.taps import LayerTaps

LogitsOf: TypeAlias = Callable[[Any], Tensor]
"""From what a network gives to its logits, where that is no tensor and has none named `logits`."""


class Step(NamedTuple):
    """What one batch said; nothing is updated yet."""

    loss: Float[Tensor, ""]
    """The weighted sum, with gradient: `step.loss.backward()`."""
    terms: dict[str, Tensor]
    """Each criterion's own value, its weight not inside; without those that the batch has no labels for."""
    logits: Tensor
    """The student's, with gradient."""


def network_outputs(
    network: nn.Module, inputs: Any, *, layers: Mapping[str, str], logits_of: LogitsOf | None, who: str
) -> Outputs:
    """Run a network and return its logits, and what the layers gave by the name of their pair.

    Raises:
        BadInput: no such layer, or logits that are not (samples, classes).
    """
    with LayerTaps(network, layers.values(), who=who) as taps:
        given = call(network, inputs)
        captured = taps.take()
    logits = find_logits(given) if logits_of is None else logits_of(given)
    features = {pair: captured[layer] for pair, layer in layers.items()}
    return Outputs(check_logits(logits, given, who=who), features)


def compute_step(
    criteria: Sequence[Criterion],
    student: Outputs,
    teachers: Sequence[Outputs],
    *,
    labels: Tensor | None,
    weights: Mapping[str, float],
) -> Step:
    """Return the weighted sum of the criteria and its terms.

    Raises:
        BadInput: labels that do not fit; as `compute_terms`, `weighted_sum` and `check_finite`.
        RunFailed: as `check_finite`.
    """
    if labels is not None:
        check_labels(labels, student.logits)
        labels = labels.to(student.logits.device, non_blocking=True)
    terms = compute_terms(criteria, student, teachers, labels=labels, weights=weights)
    told = {criterion.name: criterion.described for criterion in criteria}
    check_finite(terms, student, teachers, told=told)
    return Step(weighted_sum(terms, weights, labeled=labels is not None), terms, student.logits)


def compute_terms(
    criteria: Sequence[Criterion],
    student: Outputs,
    teachers: Sequence[Outputs],
    *,
    labels: Tensor | None,
    weights: Mapping[str, float],
) -> dict[str, Tensor]:
    """Return each criterion's value; those that do not take a batch with or without labels are left out.

    A criterion whose weight is 0 is computed to be told, and gives no gradient.

    Raises:
        BadInput: what the losses raise, told with criterion and layers; a loss that is no scalar or has lost
            its gradient; no criterion that could be computed.
    """
    terms = {}
    for criterion in criteria:
        if not criterion.takes(labels):
            continue
        weight = weights[criterion.name]
        with torch.set_grad_enabled(weight > 0.0 and torch.is_grad_enabled()):
            terms[criterion.name] = _compute(criterion, student, teachers, labels=labels)
    if not terms:
        raise BadInput(_no_term("all criteria", labeled=labels is not None))
    return terms


def check_finite(
    terms: Mapping[str, Tensor], student: Outputs, teachers: Sequence[Outputs], *, told: Mapping[str, str]
) -> None:
    """Check that no value is infinite or not a number; the first cause is told.

    `told` describes the criteria by name.

    Raises:
        BadInput: a teacher gave such values.
        RunFailed: the student did, or a criterion made them.
    """
    quick = {**{f"teacher {i}": outputs.logits for i, outputs in enumerate(teachers)}, **terms}
    # one question for all: each would wait for a GPU's work in flight
    if bool(torch.stack([value.detach().isfinite().all() for value in quick.values()]).all()):
        return
    check_teachers(teachers)
    bad = [told[name] for name, value in terms.items() if not bool(value.detach().isfinite().all())]
    if wrong := _not_finite(student):
        raise RunFailed(
            f"the student gave {wrong} that are not finite, first seen in {bad[0]}; lower the learning rate "
            "or the weights, and check the inputs"
        )
    raise RunFailed(f"{bad[0]}: its value is not finite; lower its weight, or leave it out")


def check_teachers(teachers: Sequence[Outputs]) -> None:
    """Check that no teacher gave a value that is infinite or not a number.

    Raises:
        BadInput: one did; it is named.
    """
    for number, outputs in enumerate(teachers, start=1):
        if wrong := _not_finite(outputs):
            raise BadInput(
                f"teacher {number} of {len(teachers)} gave {wrong} that are not finite; check its weights, "
                "and that teacher_input scales the inputs as it was trained on"
            )


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float], *, labeled: bool) -> Tensor:
    """Return the sum of the terms times their weights; those of weight 0 have no part in it."""
    parts = [weights[name] * term for name, term in terms.items() if weights[name] > 0.0]
    if not parts:
        raise BadInput(_no_term("all criteria of a weight above 0", labeled=labeled))
    return torch.stack(parts).sum()


def teacher_side(criterion: Criterion, student: Outputs, teachers: Sequence[Outputs]) -> Any:
    """Return what a loss takes as `teacher`: one's outputs, or all.

    A loss that never looks at it is given what is there, so that it works with any number of teachers.
    """
    if teachers:
        return teachers_of(criterion, teachers)
    return Outputs(
        student.logits.detach(), {pair: value.detach() for pair, value in student.features.items()}
    )


def teachers_of(criterion: Criterion, teachers: Sequence[Outputs]) -> Any:
    """Return all teachers' outputs to a loss that takes several, the first one's to others."""
    return list(teachers) if TEACHERS in criterion.loss.needs else teachers[0]


def _no_term(criteria: str, *, labeled: bool) -> str:
    if labeled:
        return (
            f"the batch has labels, and {criteria} are for batches without any; add one that learns from "
            "labels, such as CrossEntropyLoss, or leave the labels out (adapter=)"
        )
    return f"the batch has no labels, and {criteria} need some; add one that needs none, such as KdLoss"


def _compute(
    criterion: Criterion, student: Outputs, teachers: Sequence[Outputs], *, labels: Tensor | None
) -> Tensor:
    try:
        term = criterion.loss(student, teacher_side(criterion, student, teachers), labels)
    except BadInput as error:
        raise BadInput(f"{criterion.described}: {error}") from None
    if not isinstance(term, Tensor) or term.ndim != 0:
        found = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
        raise BadInput(f"{criterion.described}: it returned {found}, expected a scalar tensor")
    if torch.is_grad_enabled() and student.logits.requires_grad and not term.requires_grad:
        raise BadInput(
            f"{criterion.described}: its value has no gradient, so the student cannot learn from it; "
            "it is detached somewhere"
        )
    return term


def _not_finite(outputs: Outputs) -> str:
    if not bool(outputs.logits.detach().isfinite().all()):
        return "logits"
    wrong = [pair for pair, value in outputs.features.items() if not bool(value.detach().isfinite().all())]
    return f"features of the pair '{wrong[0]}'" if wrong else ""
