"""Cautious pseudo labeling: label a few more samples at a time, those that several views agree on.

A view is any way to get logits of all samples: of the same model with features or edges dropped, with other
stains, of several models. Of the mean of the views' logits

    confidence_i = max_c softmax(mean)_ic,   label_i = argmax_c

the most confident unlabeled samples get their label, the model is trained on what is labeled then, and so
on. A label once given stays.

The published loop ranks with the first model in every round and knows no quotas: `PUBLISHED`. Here the newest
model ranks, which is trained anew in every round, and each class has its quota (docs/kd_theory.md has what
both come to). Choosing the best round by test accuracy, as the published code does, flatters: here a
validation part chooses.

It is self-training, not distillation: it needs some labeled samples of every class.

Source: Wang, Li, Liu, Cheng, Rong, Wang and Tsung, "Deep insights into noisy pseudo labeling on graph data",
NeurIPS 2023 (arXiv 2310.01634).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput

UNLABELED: Final = -1
Model: TypeAlias = Any
View: TypeAlias = Callable[[Model], Tensor]
"""From a model to (samples, classes) logits of all samples."""
Train: TypeAlias = Callable[[Tensor, Model | None], Model]
"""From (samples,) labels, -1 where there is none, and a model to go on from or None, to a trained model."""


class Caution(NamedTuple):
    """How labels are given."""

    per_round: int
    """Samples that get a label in a round."""
    threshold: float = 0.0
    """Confidence below which, or at which, none is given."""
    per_class: bool = True
    """Whether each class has its own quota."""
    class_shares: tuple[float, ...] | None = None
    """Of the quotas, one a class, where they are known; None: those of the predictions for the candidates."""
    require_agreement: bool = False
    """Whether all views must predict the label."""
    refresh: bool = True
    """Whether the newest model ranks; else the first one in every round."""


PUBLISHED: Final = Caution(per_round=100, threshold=0.01, per_class=False, refresh=False)
"""What the authors' code does; its threshold never binds."""


class Selection(NamedTuple):
    """What is to be labeled in one round."""

    rows: Int64[Tensor, "chosen"]
    """By falling confidence, class after class where there are quotas."""
    labels: Int64[Tensor, "chosen"]
    confidence: Float[Tensor, "chosen"]
    consistency: float
    """Share of all samples on whose class every view agrees."""


class Round(NamedTuple):
    """What one round came to."""

    labeled: int
    """Samples with a label, given ones included."""
    consistency: float
    score: float
    """Of the model trained on them, on the validation part."""


class Labeled(NamedTuple):
    """What the loop came to."""

    labels: Int64[Tensor, "samples"]
    """Given and pseudo labels of the best round, -1 elsewhere."""
    model: Model
    """Trained on them."""
    rounds: list[Round]
    """Round 0 is that of the given labels alone."""
    best_round: int


def label_cautiously(
    train: Train,
    views: Sequence[View],
    labels: Int64[Tensor, "samples"],
    *,
    candidates: Bool[Tensor, "rows"],
    caution: Caution,
    rounds: int,
    validate: Callable[[Model], float],
) -> Labeled:
    """Label more and more samples, and return the round that does best on the validation part.

    Args:
        train: trains a model; see `Train`. It is given the first model to go on from where the first one
            ranks, as published, and None (start anew) else.
        views: at least one; see `View`. Draw what is random in them from a generator of your own.
        labels: (samples,) classes, -1 where unknown. Only these are used: never put validation labels there.
        candidates: (samples,) which samples may get a label; leave validation and test samples out unless you
            mean to.
        caution: how labels are given.
        rounds: at most; it ends earlier where nothing is left to label.
        validate: from a model to a score, higher is better, on labels that are used for nothing else.

    Raises:
        BadInput: as `select_cautiously`; no label at all, or a class of the model that has none.
    """
    if not bool((labels != UNLABELED).any()):
        raise BadInput("no sample has a label; label some of each class")
    current = labels.clone()
    model = first = train(current, None)
    _check_classes(current, views[0](model) if views else None)
    best = Labeled(current.clone(), model, [], 0)
    history = [Round(int((current != UNLABELED).sum()), 1.0, float(validate(model)))]
    for number in range(1, rounds + 1):
        ranker = model if caution.refresh else first
        chosen = select_cautiously(
            [view(ranker) for view in views],
            candidates=candidates & (current == UNLABELED),
            caution=caution,
        )
        if not len(chosen.rows):
            break
        current[chosen.rows] = chosen.labels
        model = train(current, None if caution.refresh else first)
        known = int((current != UNLABELED).sum())
        history.append(Round(known, chosen.consistency, float(validate(model))))
        if history[-1].score > max(one.score for one in history[:-1]):
            best = Labeled(current.clone(), model, [], number)
    return best._replace(rounds=history)


@torch.no_grad()
def select_cautiously(
    view_logits: Sequence[Float[Tensor, "samples classes"]],
    *,
    candidates: Bool[Tensor, "rows"],
    caution: Caution,
) -> Selection:
    """Choose the samples of one round by the mean of the views' logits.

    Raises:
        BadInput: no view, views of other shapes or not finite, numbers of `caution` that make no sense.
    """
    mean = _mean_logits(view_logits, candidates)
    _check_caution(caution, classes=mean.shape[1])
    confidence, predicted = torch.softmax(mean, dim=1).max(dim=1)
    by_view = torch.stack([logits.argmax(dim=1) for logits in view_logits])
    open_rows = candidates & (confidence > caution.threshold)
    if caution.require_agreement:
        open_rows = open_rows & (by_view == predicted).all(dim=0)
    rows = (
        _by_quota(
            confidence,
            predicted,
            open_rows,
            count=caution.per_round,
            shares=_shares(caution, predicted[candidates], classes=mean.shape[1]),
        )
        if caution.per_class
        else _most_confident(confidence, open_rows, caution.per_round)
    )
    consistency = float((by_view == by_view[0]).all(dim=0).double().mean())
    return Selection(rows, predicted[rows], confidence[rows], consistency)


@torch.no_grad()
def select_links(
    view_probabilities: Sequence[Float[Tensor, "pairs"]], *, threshold: float, count: int
) -> Int64[Tensor, "chosen"]:
    """Choose candidate pairs to take for links: the highest mean probabilities over the views.

    Found: on planted partitions it did no better than the links that were there (docs/kd_theory.md).

    Raises:
        BadInput: no view, views of other shapes, probabilities outside [0, 1].
    """
    if not view_probabilities:
        raise BadInput("no view of the pairs; pass at least one")
    if len({tuple(view.shape) for view in view_probabilities}) > 1:
        raise BadInput("views of other shapes; each gives one probability a candidate pair")
    mean = torch.stack(list(view_probabilities)).mean(dim=0)
    if not bool(((mean >= 0) & (mean <= 1)).all()):
        raise BadInput("probabilities of links are not all in [0, 1]; apply a sigmoid to scores")
    return _most_confident(mean, mean > threshold, count)


def pseudo_label_error_bound(threshold: float, disagreement: float) -> float:
    """Return 2 (q + A), the paper's bound on the error of pseudo labels.

    q is 1 - the confidence threshold, A the share of samples of which some view predicts another class. It
    rests on assumptions about the graph, and is vacuous (above 1) for strong augmentation.

    >>> round(pseudo_label_error_bound(0.95, 0.02), 2)
    0.14
    """
    return 2.0 * ((1.0 - threshold) + disagreement)


def _mean_logits(view_logits: Sequence[Tensor], candidates: Tensor) -> Tensor:
    if not view_logits:
        raise BadInput("no view; pass at least one function from a model to logits of all samples")
    shapes = {tuple(logits.shape) for logits in view_logits}
    if len(shapes) > 1 or view_logits[0].ndim != 2 or len(view_logits[0]) != len(candidates):  # noqa: PLR2004  # samples, classes
        raise BadInput(
            f"views gave {', '.join(map(str, sorted(shapes)))} for {len(candidates)} samples; expected "
            "(samples, classes) of each"
        )
    mean = torch.stack(list(view_logits)).mean(dim=0)
    if not bool(mean.isfinite().all()):
        raise BadInput(
            "a view's logits are not finite; the model has diverged, or its inputs hold such values"
        )
    return mean


def _most_confident(confidence: Tensor, open_rows: Tensor, count: int) -> Tensor:
    ranked = confidence.masked_fill(~open_rows, -torch.inf)
    order = ranked.argsort(descending=True, stable=True)
    return order[: min(count, int(open_rows.sum()))]


def _by_quota(
    confidence: Tensor, predicted: Tensor, open_rows: Tensor, *, count: int, shares: Tensor
) -> Tensor:
    quotas = (shares * count).floor().long()
    # the largest remainders share what rounding down has left
    remainders = (shares * count - quotas).argsort(descending=True, stable=True)
    quotas[remainders[: count - int(quotas.sum())]] += 1
    return torch.cat(
        [
            _most_confident(confidence, open_rows & (predicted == label), int(quota))
            for label, quota in enumerate(quotas)
        ]
    )


def _shares(caution: Caution, predicted: Tensor, *, classes: int) -> Tensor:
    """Return each class's share of a round: of the predictions for those that may get a label, and no others.

    What is labeled already, or held out, says nothing of what is still to be labeled.
    """
    if caution.class_shares is None:
        return torch.bincount(predicted, minlength=classes).double() / max(len(predicted), 1)
    given = torch.tensor(caution.class_shares, dtype=torch.float64)
    return given / given.sum()


def _check_caution(caution: Caution, *, classes: int) -> None:
    if caution.per_round < 1 or not 0.0 <= caution.threshold < 1.0:
        raise BadInput(
            f"per_round {caution.per_round}, threshold {caution.threshold:g}: expected 1 or more, and 0 to 1"
        )
    shares = caution.class_shares
    if shares is not None and (len(shares) != classes or min(shares) < 0.0 or sum(shares) <= 0.0):
        raise BadInput(f"class_shares {shares}: expected {classes} numbers from 0 up, one a class")


def _check_classes(labels: Tensor, logits: Tensor | None) -> None:
    if logits is None:
        raise BadInput("no view; pass at least one function from a model to logits of all samples")
    known = set(labels[labels != UNLABELED].tolist())
    missing = [label for label in range(logits.shape[1]) if label not in known]
    if missing:
        raise BadInput(
            f"class {missing[0]} has no labeled sample, so it is never predicted; label some of each class"
        )
