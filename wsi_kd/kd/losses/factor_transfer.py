"""Factor transfer: the student's translated features must be the factors of the teacher's paraphraser.

    f_t = paraphraser's encoder(t),  f_s = translator(s),  u = unit(vec f), a vector of D numbers a sample

    l1          mean over samples and elements of |u_s - u_t|        at most 2 / sqrt(D)
    squared     mean over samples and elements of (u_s - u_t)^2      = 2 (1 - cos(f_s, f_t)) / D
    euclidean   mean over samples of ||u_s - u_t||

The paraphraser is trained before (`pretrain`, which `Distiller.fit` calls) and frozen; the translator learns
with the student. Since means over elements are of the size of 1 / sqrt(D) and 1 / D, weights are large: the
authors' is 500 with l1. Too large a weight against too few steps loses to no distillation at all.

Source: Kim, Park, Kwak, "Paraphrasing complex network: network compression via factor transfer", NeurIPS
2018. Their code takes l1, torchdistill's FTLoss l1 (p=1) or euclidean (p=2), without care for a factor of
length 0, which gives NaN there and a distance from the origin here. RepDistiller's FT is another loss, kept
apart here as `CollapsedFactorTransferLoss`:

    u = unit(vec(mean over channels of f^2))

It sees neither the sign nor the order of the factor's channels: it is attention transfer of factors. Numbers
published from that code are not of the authors' loss. Its networks are the same here (RepDistiller's
translator has batch norm). If one side's factor is larger, it is average-pooled, as there.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Final, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed, unknown_name
from wsi_kd.kd.losses.attention_transfer import attention_map
from wsi_kd.kd.losses.pairing import MAP_AXES, Pair, feature_pair, match_maps, require_positive, title
from wsi_kd.kd.losses.paraphraser import (
    RECONSTRUCTION_DISTANCES,
    Maps,
    Paraphraser,
    accuracies_through,
    factor_encoder,
    pretrain_paraphraser,
)
from wsi_kd.kd.losses.projections import placed_like, project, require_built
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import FEATURES, TRAIN, DistillationLoss, Outputs

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

HEAD_AGREES: Final = 0.99
"""Least share of samples in which a head must decide as the teacher it is said to be of."""


class FactorTransferLoss(DistillationLoss):
    """The authors' loss: factors compared element by element.

    Args:
        rate: the paraphrase rate k: the factor has k times the teacher's channels.
        distance: between the factors of unit length, of `FACTOR_DISTANCES`.
        epochs: the paraphraser's, over the teacher's features of the training part, before the student's.
        learning_rate: the paraphraser's, of Adam.
        reconstruction: what the paraphraser makes small, "squared" or the authors' "l1".
        max_unexplained: largest share of the features' variance that its reconstruction may leave out.
        min_kept: least share of the teacher's accuracy that the reconstruction must keep; see `check_by`.

    Raises:
        BadInput: an unknown distance, a number that must be above 0 and is not.
    """

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})
    learns_from: ClassVar[str] = TRAIN
    pretrained: Tensor

    def __init__(
        self,
        *,
        rate: float = 0.5,
        distance: str = "l1",
        epochs: int = 30,
        learning_rate: float = 1e-3,
        reconstruction: str = "squared",
        max_unexplained: float = 0.35,
        min_kept: float = 0.95,
    ) -> None:
        super().__init__()
        require_positive(self, rate=rate, epochs=epochs, learning_rate=learning_rate)
        require_positive(self, max_unexplained=max_unexplained)
        if distance not in FACTOR_DISTANCES:
            raise unknown_name(f"distance of {title(self)}", distance, FACTOR_DISTANCES)
        if reconstruction not in RECONSTRUCTION_DISTANCES:
            raise unknown_name(f"reconstruction of {title(self)}", reconstruction, RECONSTRUCTION_DISTANCES)
        self.rate, self.distance = rate, distance
        self.epochs, self.learning_rate, self.reconstruction = epochs, learning_rate, reconstruction
        self.max_unexplained, self.min_kept = max_unexplained, min_kept
        self.paraphraser: Paraphraser | None = None
        self.translator: nn.Module | None = None
        self.register_buffer("pretrained", torch.zeros((), dtype=torch.bool))
        self._ready = False
        self._heads: tuple[Callable[[Tensor], Tensor], ...] = ()

    def check_by(self, head: Callable[[Tensor], Tensor]) -> None:
        """Let the trained paraphraser be checked by the teacher's head too: a function from maps to logits.

        `kd.head.head_after` makes one of a network and its layer. What is asked is the share of samples whose
        class the teacher finds from the reconstruction, over the same from the features: of the labels where
        there are any, else of the teacher's own decisions.
        """
        # in a tuple: as a submodule the teacher's parameters would be learned and saved with the loss
        self._heads = (head,)

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build the paraphraser for the teacher's channels and the translator for the student's."""
        ours, theirs = self._map_pair(student, teacher)
        factor_channels = max(1, int(theirs.shape[1] * self.rate + 1e-9))
        paraphraser = Paraphraser(theirs.shape[1], factor_channels=factor_channels)
        self.paraphraser = paraphraser.to(**placed_like(theirs)).requires_grad_(requires_grad=False).eval()
        self.translator = factor_encoder(ours.shape[1], factor_channels).to(**placed_like(ours))

    def pretrain(self, seen: Iterable[tuple[Outputs, Tensor | None]]) -> dict[str, float]:
        """Train the paraphraser on the teacher's feature maps, check and freeze it.

        Returns:
            "unexplained": the reconstruction's squared error over the features' variance; "kept", after
            `check_by`: the share of its accuracy that the teacher keeps on the reconstruction. Nothing if
            there is a trained one already, see `adopt`.

        Raises:
            BadInput: no batches, no maps, constant ones; a head that is not the teacher's.
            RunFailed: the paraphraser is dead: it lost too much of the features, or of the classes.
        """
        paraphraser = require_built(self, self.paraphraser)
        if self.pretrained:
            return {}
        told = pretrain_paraphraser(
            paraphraser,
            _TeacherMaps(self, seen),
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            distance=self.reconstruction,
            max_unexplained=self.max_unexplained,
        )
        figures = {"unexplained": told.unexplained}
        for head in self._heads:
            figures["kept"] = self._kept(paraphraser, seen, head=head)
        self.pretrained.fill_(value=True)
        return figures

    def adopt(self, other: "FactorTransferLoss") -> None:
        """Take over the trained paraphraser of another loss of the same teacher, instead of training one.

        Raises:
            BadInput: one of both has none, `prepare` comes first; the channels differ.
        """
        own, theirs = (require_built(loss, loss.paraphraser) for loss in (self, other))
        other._require_pretrained()
        mine, given = own.state_dict(), theirs.state_dict()
        if any(mine[name].shape != given[name].shape for name in mine):
            raise BadInput(
                f"{title(self)}: the other's paraphraser is of other channels; adopt one of this teacher"
            )
        own.load_state_dict(given)
        self.pretrained.fill_(value=True)

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

    def teacher_maps(self, teacher: Outputs) -> Maps:
        """Return the teacher's feature maps as they are: pooled ones the paraphraser would not know.

        Raises:
            BadInput: its layer gives no maps.
        """
        return self._map_pair(teacher, teacher).teacher

    def _map_pair(self, student: Outputs, teacher: Outputs) -> Pair:
        pair = feature_pair(self, student, teacher)
        for side, maps in zip(("student", "teacher"), pair, strict=True):
            if maps.ndim != MAP_AXES:
                raise BadInput(
                    f"{title(self)}: the {side}'s layer gives {tuple(maps.shape)}; "
                    "expected feature maps (samples, channels, height, width): tap a convolution"
                )
        return pair

    def _kept(
        self,
        paraphraser: Paraphraser,
        seen: Iterable[tuple[Outputs, Tensor | None]],
        *,
        head: Callable[[Tensor], Tensor],
    ) -> float:
        own = accuracies_through(paraphraser, self._classified(seen, of_teacher=True), head=head)
        if own.direct < HEAD_AGREES:
            raise BadInput(
                f"{title(self)}: the head given to check_by decides as the teacher in {own.direct:.2f} of "
                "the samples; expected its rest behind the tapped layer, without a branch around it"
            )
        found = accuracies_through(paraphraser, self._classified(seen, of_teacher=False), head=head)
        kept = found.through / max(found.direct, torch.finfo(torch.float64).tiny)
        if not kept >= self.min_kept:
            raise RunFailed(
                f"{title(self)}: from the paraphraser's reconstruction the teacher finds {found.through:.3f} "
                f"of the classes, {found.direct:.3f} from its features; expected {self.min_kept:g} of that; "
                "train it longer (epochs), give it more channels (rate), or take another seed"
            )
        return kept

    def _classified(
        self, seen: Iterable[tuple[Outputs, Tensor | None]], *, of_teacher: bool
    ) -> Iterator[tuple[Maps, Tensor]]:
        for outputs, labels in seen:
            if labels is None or of_teacher:
                classes = outputs.logits.argmax(dim=1)
            else:
                classes = labels.argmax(dim=1) if labels.is_floating_point() else labels
            yield self.teacher_maps(outputs), classes.to(outputs.logits.device)

    def _require_pretrained(self) -> None:
        # the buffer goes with the state dict; read until it is true, so that no later step waits for a GPU
        self._ready = self._ready or bool(self.pretrained)
        if not self._ready:
            raise BadInput(
                f"{title(self)}: its paraphraser is not trained; after prepare, call Distiller.pretrain "
                "(fit does), or pretrain of the loss"
            )


class _TeacherMaps:
    """The teacher's maps of what is seen, walked anew as often as that can be."""

    def __init__(self, loss: FactorTransferLoss, seen: Iterable[tuple[Outputs, Tensor | None]]) -> None:
        self._loss, self._seen = loss, seen

    def __iter__(self) -> Iterator[Maps]:
        return (self._loss.teacher_maps(outputs) for outputs, _ in self._seen)


class CollapsedFactorTransferLoss(FactorTransferLoss):
    """RepDistiller's loss: the factor's channels are collapsed to their mean square before the comparison."""

    def vectors(self, factor: Maps) -> Vectors:
        """Return what is compared of a factor: the mean square over its channels, at length 1."""
        return attention_map(factor)
