"""SLaM: cross entropy of the teacher's answer with a student mixed by how far that answer can be trusted.

For unlabeled batches; formulas and source in `wsi_kd.kd.student_label_mixing`. Labeled batches are the
business of plain cross entropy, a criterion of its own. How far the teacher can be trusted is learned from
the validation part, whose labels it must not have been trained on. Where a whole class is trusted no more
than the bound, the class is lost: the loss cannot tell it from those that the teacher says instead.
"""

from collections.abc import Iterable
from typing import ClassVar, Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.isotonic import RisingCurve
from wsi_kd.kd.losses.pairing import class_labels, logit_pair, title
from wsi_kd.kd.outputs import LOGITS, UNLABELED, VAL, DistillationLoss, Outputs
from wsi_kd.kd.student_label_mixing import (
    class_ranks,
    estimate_alpha,
    estimate_k_margins,
    mixed_cross_entropy,
    require_bound,
    smallest_k,
    teacher_margin,
)

POINTS: Final = 512
"""Of the learned curve: always as many, so that a state file fits whatever was learned."""


class SlamLoss(DistillationLoss):
    """The teacher's answer against the student mixed by the trust in it, on unlabeled batches.

    Args:
        k: among how many of the teacher's likeliest classes the truth is looked for, of every sample; None:
            the smallest number that holds it with probability `top_k_accuracy`, by the teacher's margin.
        top_k_accuracy: see `k`.
        alpha: the probability that the teacher is right, of every sample; None: learned, by its margin.
        lower_bound: least alpha that is learned. Near 1/2 (1 / k if normalized) hardly anything is taught.
        normalize: whether the share of the other classes is divided by k - 1.
        hard_answer: take the teacher's likeliest class for its answer, and not its probabilities. Those of a
            teacher that knows how often it errs say so too, and what is mixed in then counts twice.

    Raises:
        BadInput: k below 1; a probability outside of 0 to 1; alpha or bound not above 1/2 (1 / k if
            normalized and k is given), where the loss teaches nothing or the opposite.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, UNLABELED})
    learns_from: ClassVar[str] = VAL
    alpha_margins: Tensor
    alpha_values: Tensor
    k_margins: Tensor
    learned: Tensor

    def __init__(
        self,
        *,
        k: int | None = None,
        top_k_accuracy: float = 0.9,
        alpha: float | None = None,
        lower_bound: float = 0.6,
        normalize: bool = False,
        hard_answer: bool = False,
    ) -> None:
        super().__init__()
        if k is not None and k < 1:
            raise BadInput(f"{title(self)}: k is {k}; expected at least 1 class")
        if not 0.0 < top_k_accuracy <= 1.0:
            raise BadInput(f"{title(self)}: top_k_accuracy is {top_k_accuracy}; expected above 0, at most 1")
        try:
            require_bound(lower_bound if alpha is None else alpha, k=k, normalize=normalize)
        except BadInput as error:
            raise BadInput(f"{title(self)}: {'lower_bound' if alpha is None else 'alpha'}: {error}") from None
        self.k, self.top_k_accuracy = k, top_k_accuracy
        self.alpha, self.lower_bound = alpha, lower_bound
        self.normalize, self.hard_answer = normalize, hard_answer
        self.register_buffer("alpha_margins", torch.zeros(POINTS, dtype=torch.float64))
        self.register_buffer("alpha_values", torch.zeros(POINTS, dtype=torch.float64))
        self.register_buffer("k_margins", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("learned", torch.zeros((), dtype=torch.bool))
        self._ready = self._given = alpha is not None and k is not None

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Make room for what is learned of the teacher's classes.

        Raises:
            BadInput: as `forward`; k above the number of classes.
        """
        classes = logit_pair(self, student, teacher).teacher.shape[1]
        if self.k is not None and self.k > classes:
            raise BadInput(f"{title(self)}: k is {self.k} of {classes} classes; expected at most all")
        self.k_margins = self.alpha_margins.new_zeros(classes - 1)

    def pretrain(self, seen: Iterable[tuple[Outputs, Tensor | None]]) -> dict[str, float]:
        """Learn alpha and k, where not given, from labeled batches that the teacher was not trained on.

        Returns:
            "teacher_accuracy", "alpha_mean", "alpha_raised" (the share of samples whose alpha was below the
            bound) and "k_mean" on these batches; nothing where both are given.

        Raises:
            BadInput: batches without labels, or with some that do not fit.
        """
        if self._given:
            return {}
        margin, rank = self._ranked(seen)
        correct = rank == 0
        curve = _of_points(estimate_alpha(margin, correct, lower_bound=self.lower_bound))
        self.alpha_margins.copy_(curve.at)
        self.alpha_values.copy_(curve.values)
        classes = len(self.k_margins) + 1
        accuracy = self.top_k_accuracy
        self.k_margins.copy_(estimate_k_margins(margin, rank, accuracy=accuracy, classes=classes))
        self.learned.fill_(value=True)
        raised = curve._replace(floor=float("-inf"))(margin) < self.lower_bound
        return {
            "teacher_accuracy": correct.double().mean().item(),
            "alpha_mean": self.trust(margin).mean().item(),
            "alpha_raised": 0.0 if self.alpha is not None else raised.double().mean().item(),
            "k_mean": self.candidates(margin).double().mean().item(),
        }

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples; labels are not looked at.

        Raises:
            BadInput: as `DistillationLoss`; alpha or k was neither given nor learned.
        """
        ours, theirs = logit_pair(self, student, teacher)
        self._require_learned()
        answer = theirs.softmax(dim=1)
        margin, ranks = teacher_margin(answer).double(), class_ranks(answer)
        return mixed_cross_entropy(
            ours,
            (ranks == 0).to(answer.dtype) if self.hard_answer else answer,
            alpha=self.trust(margin).to(ours.dtype),
            mask=ranks < self.candidates(margin)[:, None],
            normalize=self.normalize,
        )

    def trust(self, margin: Float[Tensor, "samples"]) -> Float[Tensor, "samples"]:
        """Return alpha of samples by the teacher's margin."""
        if self.alpha is not None:
            return torch.full_like(margin, self.alpha)
        curve = RisingCurve(self.alpha_margins, self.alpha_values, floor=self.lower_bound)
        return curve(margin.to(curve.at.dtype))

    def candidates(self, margin: Float[Tensor, "samples"]) -> Int64[Tensor, "samples"]:
        """Return k of samples by the teacher's margin."""
        if self.k is not None:
            return torch.full_like(margin, self.k, dtype=torch.int64)
        return smallest_k(margin, self.k_margins)

    def _ranked(
        self, seen: Iterable[tuple[Outputs, Tensor | None]]
    ) -> tuple[Float[Tensor, "samples"], Int64[Tensor, "samples"]]:
        """Return the teacher's margin, and which of its guesses the truth is (0: the likeliest)."""
        margins, ranks = [], []
        for teacher, labels in seen:
            logits = logit_pair(self, teacher, teacher).teacher
            answer = logits.softmax(dim=1)
            truth = class_labels(self, labels, classes=logits.shape[1], samples=len(logits))
            margins.append(teacher_margin(answer).double())
            ranks.append(class_ranks(answer).gather(1, truth[:, None])[:, 0])
        if not margins:
            raise BadInput(f"{title(self)}: no validation batch to learn the trust in the teacher from")
        return torch.cat(margins), torch.cat(ranks)

    def _require_learned(self) -> None:
        # the buffer goes with the state dict; read until it is true, so that no later step waits for a GPU
        self._ready = self._ready or bool(self.learned)
        if not self._ready:
            raise BadInput(
                f"{title(self)}: the trust in the teacher is not learned; call Distiller.pretrain "
                "(fit does), or give alpha and k"
            )


def _of_points(curve: RisingCurve) -> RisingCurve:
    """Bring a curve to POINTS points: the last is repeated, or of many every so manieth is kept."""
    index = torch.arange(POINTS, device=curve.at.device).clamp(max=len(curve.at) - 1)
    if len(curve.at) > POINTS:
        index = torch.linspace(0, len(curve.at) - 1, POINTS, device=curve.at.device).round().long()
    return curve._replace(at=curve.at[index], values=curve.values[index])
