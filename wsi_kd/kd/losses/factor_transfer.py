"""Factor transfer: the student's translated features must be the factors of the teacher's paraphraser.

    f_t = paraphraser's encoder(t),  f_s = translator(s),  u = unit(vec f), a vector of D numbers a sample

    l1          mean over samples and elements of |u_s - u_t|        at most 2 / sqrt(D)
    squared     mean over samples and elements of (u_s - u_t)^2      = 2 (1 - cos(f_s, f_t)) / D
    euclidean   mean over samples of ||u_s - u_t||

The paraphraser is trained before (`pretrain`) and frozen; the translator learns with the student. Since means
over elements are of the size of 1 / sqrt(D) and 1 / D, weights are large: the authors' is 500 with l1. Too
large a weight against too few steps loses to no distillation at all.

Kim, Park, Kwak, "Paraphrasing complex network: network compression via factor transfer", NeurIPS 2018; their
code takes l1, torchdistill's FTLoss l1 (p=1) or euclidean (p=2), without care for a factor of length 0, which
gives NaN there and a distance from the origin here. RepDistiller's FT is another loss, kept apart here as
`CollapsedFactorTransferLoss`:

    u = unit(vec(mean over channels of f^2))

It sees neither the sign nor the order of the factor's channels: it is attention transfer of factors. Numbers
published from that code are not of the authors' loss. Its networks are the same here (RepDistiller's
translator has batch norm). If one side's factor is larger, it is average-pooled, as there.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar, Final, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.kd.losses.attention_transfer import attention_map
from wsi_kd.kd.losses.pairing import MAP_AXES, Pair, feature_pair, match_maps, require_positive, title
from wsi_kd.kd.losses.paraphraser import Maps, Paraphraser, Pretraining, factor_encoder, pretrain_paraphraser
from wsi_kd.kd.losses.projections import placed_like, project, require_built
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs

Vectors: TypeAlias = Float[Tensor, "samples elements"]


def euclidean(student: Vectors, teacher: Vectors) -> Float[Tensor, ""]:
    """Return the length of the difference, mean over the samples.

    >>> euclidean(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item()
    1.414...
    """
    lengths: Tensor = torch.linalg.vector_norm(student - teacher, dim=1)
    return lengths.mean()


FACTOR_DISTANCES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "l1": F.l1_loss,
    "squared": F.mse_loss,
    "euclidean": euclidean,
}


class FactorTransferLoss(DistillationLoss):
    """The authors' loss: factors compared element by element.

    `rate` is the paraphrase rate k: the factor has k times the teacher's channels.
    """

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})
    pretrained: Tensor

    def __init__(self, *, rate: float = 0.5, distance: str = "l1") -> None:
        super().__init__()
        require_positive(self, rate=rate)
        if distance not in FACTOR_DISTANCES:
            raise unknown_name(f"distance of {title(self)}", distance, FACTOR_DISTANCES)
        self.rate = rate
        self.distance = distance
        self.paraphraser: Paraphraser | None = None
        self.translator: nn.Module | None = None
        self.register_buffer("pretrained", torch.zeros((), dtype=torch.bool))
        self._ready = False

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build the paraphraser for the teacher's channels and the translator for the student's."""
        ours, theirs = self._map_pair(student, teacher)
        factor_channels = max(1, int(theirs.shape[1] * self.rate + 1e-9))
        paraphraser = Paraphraser(theirs.shape[1], factor_channels=factor_channels)
        self.paraphraser = paraphraser.to(**placed_like(theirs)).requires_grad_(requires_grad=False).eval()
        self.translator = factor_encoder(ours.shape[1], factor_channels).to(**placed_like(ours))

    def pretrain(
        self,
        batches: Iterable[Maps],
        *,
        epochs: int = 10,
        learning_rate: float = 1e-3,
        distance: str = "squared",
        max_unexplained: float = 0.35,
    ) -> Pretraining:
        """Train the paraphraser on the teacher's feature maps; see `pretrain_paraphraser`."""
        done = pretrain_paraphraser(
            require_built(self, self.paraphraser),
            batches,
            epochs=epochs,
            learning_rate=learning_rate,
            distance=distance,
            max_unexplained=max_unexplained,
        )
        self.pretrained.fill_(value=True)
        return done

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the mean over the samples.

        Raises:
            BadInput: as `DistillationLoss`; the paraphraser was not trained.
        """
        ours, theirs = self._map_pair(student, teacher)
        paraphraser = require_built(self, self.paraphraser)
        self._require_pretrained()
        with torch.no_grad():
            target = project(self, paraphraser.encoder, theirs)
        factors = match_maps(project(self, self.translator, ours), target)
        return FACTOR_DISTANCES[self.distance](self.vectors(factors.student), self.vectors(factors.teacher))

    def train(self, mode: bool = True) -> "FactorTransferLoss":  # noqa: FBT001, FBT002  # torch's signature
        """Set the mode; the paraphraser stays in eval mode."""
        super().train(mode)
        if self.paraphraser is not None:
            self.paraphraser.eval()
        return self

    def vectors(self, factor: Maps) -> Vectors:
        """Return what is compared of a factor: all of it, each sample's at length 1."""
        return unit(factor.flatten(1), dim=1)

    def _map_pair(self, student: Outputs, teacher: Outputs) -> Pair:
        """Take maps as they are: the paraphraser would see pooled ones that it was not trained on."""
        pair = feature_pair(self, student, teacher)
        for side, maps in zip(("student", "teacher"), pair, strict=True):
            if maps.ndim != MAP_AXES:
                raise BadInput(
                    f"{title(self)}: the {side}'s layer gives {tuple(maps.shape)}; "
                    "expected feature maps (samples, channels, height, width): tap a convolution"
                )
        return pair

    def _require_pretrained(self) -> None:
        # the buffer goes with the state dict; read until it is true, so that no later step waits for a GPU
        self._ready = self._ready or bool(self.pretrained)
        if not self._ready:
            raise BadInput(
                f"{title(self)}: its paraphraser is not trained; after prepare, call pretrain(features)"
            )


class CollapsedFactorTransferLoss(FactorTransferLoss):
    """RepDistiller's loss: the factor's channels are collapsed to their mean square before the comparison."""

    def vectors(self, factor: Maps) -> Vectors:
        """Return what is compared of a factor: the mean square over its channels, at length 1."""
        return attention_map(factor)
