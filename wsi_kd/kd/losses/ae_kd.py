"""AE-KD: distillation from several teachers, weighted anew in each batch; see `wsi_kd.kd.adaptive_ensemble`.

    sum_m w_m T^2 KL(softmax(t_m / T) || softmax(s / T))            mean over the samples (batchmean)

The paper's cross entropy is a criterion of its own, of weight 1 to 0.9 of this one. With equally good
teachers the plain mean is as good; what it is for are teachers that know different things.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.kd.adaptive_ensemble import SPACES, ensemble_weights, teacher_gradients
from wsi_kd.kd.losses.kl import tempered_kl
from wsi_kd.kd.losses.pairing import logit_pair, require_positive, title
from wsi_kd.kd.min_norm import check_cap
from wsi_kd.kd.outputs import LOGITS, TEACHERS, DistillationLoss, Outputs


class AeKdLoss(DistillationLoss):
    """The divergences of several teachers, weighted so that the step is good for all of them.

    Args:
        temperature: T of both sides.
        tolerance: C, the largest weight of one teacher: 1 lets one decide alone, 1 / teachers is the mean.
        space: what of the gradients is compared: "sample", each sample's, or the released "batch_mean".

    Raises:
        BadInput: a temperature or tolerance of 0 or less, a tolerance above 1, an unknown space.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, TEACHERS})

    def __init__(self, *, temperature: float = 4.0, tolerance: float = 0.6, space: str = "sample") -> None:
        super().__init__()
        require_positive(self, temperature=temperature, tolerance=tolerance)
        if tolerance > 1.0:
            raise BadInput(f"{title(self)}: tolerance is {tolerance}; it must be at most 1")
        if space not in SPACES:
            raise unknown_name(f"space of {title(self)}", space, SPACES)
        self.temperature = temperature
        self.tolerance = tolerance
        self.space = space
        self.last_weights: Float64[Tensor, "teachers"] | None = None
        """Of the last batch, on the CPU."""

    def prepare(self, student: Outputs, teacher: Sequence[Outputs]) -> None:
        """Check that the tolerance fits the number of teachers.

        Raises:
            BadInput: fewer than two teachers; weights of at most the tolerance cannot sum to 1.
        """
        if len(teacher) < 2:  # noqa: PLR2004  # "several" begins there
            raise BadInput(
                f"{title(self)}: it weighs teachers and there is {len(teacher)}; for one take 'kd'"
            )
        try:
            check_cap(self.tolerance, vectors=len(teacher))
        except BadInput as error:
            raise BadInput(f"{title(self)}: tolerance: {error}") from None

    def forward(
        self, student: Outputs, teacher: Sequence[Outputs], labels: Tensor | None
    ) -> Float[Tensor, ""]:
        """Return the weighted sum; `teacher` are the outputs of all.

        Raises:
            BadInput: as `DistillationLoss`; a tolerance that does not fit the number of teachers.
        """
        pairs = [logit_pair(self, student, one) for one in teacher]
        ours = pairs[0].student
        theirs = [pair.teacher for pair in pairs]
        terms = torch.stack([tempered_kl(ours, logits, temperature=self.temperature) for logits in theirs])
        gradients = teacher_gradients(ours, theirs, temperature=self.temperature)
        if not bool(gradients.isfinite().all()):
            return terms.sum()  # whoever gave such logits is named by the distiller's check of all values
        weights = ensemble_weights(gradients, tolerance=self.tolerance, space=self.space)
        self.last_weights = weights
        return (weights.to(terms) * terms).sum()
