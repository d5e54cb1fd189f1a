"""The loss that a genome stands for.

    d(t2(t1(s)), t2(t1(t)))        t1, t2 transforms, d a distance: `operations`

s and t are the logits or the maps of a pair of layers, the larger one averaged to the size of the smaller. If
they differ in channels after the transforms too, the student's are carried to the teacher's by a learned 1x1
convolution first. With logits, no transform, "kl" and T it is classical distillation.

Source: Li, Dong, Li, Wei, Yang, "KD-Zero: evolving knowledge distiller for any teacher-student pairs",
NeurIPS 2023; the operations' formulas are our own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.pairing import Pair, as_maps, logit_pair, map_pair, title
from wsi_kd.kd.losses.projections import placed_like, project
from wsi_kd.kd.outputs import FEATURES, DistillationLoss, Outputs
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.operations import OPERATIONS, Operations

CLASSICAL = Genome(distance="kl", temperature=4.0)
"""Distillation of Hinton, Vinyals, Dean (2015)."""


class SearchedLoss(DistillationLoss):
    """A distance between transformed logits or features, as a genome of a search says.

    What is built is a `SearchedFeatureLoss` where the genome names layers. The genome's weight is not inside:
    it is that of the criterion. `genome` may be its JSON form.

    Raises:
        BadInput: a genome of another form, operations that are not known.
    """

    def __new__(cls, genome: Any = CLASSICAL, **settings: Any) -> "SearchedLoss":
        """Choose the class, as `needs` is one's: logits or features."""
        del settings
        if cls is SearchedLoss and _read(genome).layers is not None:
            return super().__new__(SearchedFeatureLoss)
        return super().__new__(cls)

    def __init__(
        self, genome: Genome | Mapping[str, Any] = CLASSICAL, *, operations: Operations = OPERATIONS
    ) -> None:
        super().__init__()
        self.genome = _read(genome)
        operations.check(self.genome)
        self.genome_key = self.genome.key
        """As text: the Distiller tells losses apart by their plain values."""
        self._operations = operations

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the distance of a batch.

        Raises:
            BadInput: as `DistillationLoss`.
        """
        ours, theirs = self._transformed(self.pair_of(student, teacher))
        if ours.shape != theirs.shape:
            raise BadInput(
                f"{title(self)}: the transforms leave {tuple(ours.shape)} and {tuple(theirs.shape)}; "
                "train with batches like the one it was prepared with"
            )
        distance = self._operations.distances[self.genome.distance]
        return distance(ours, theirs, self.genome.temperature)

    def pair_of(self, student: Outputs, teacher: Outputs) -> Pair:
        """Return what is transformed and compared, as maps."""
        ours, theirs = logit_pair(self, student, teacher)
        return Pair(as_maps(ours), as_maps(theirs))

    def _transformed(self, pair: Pair) -> Pair:
        ours, theirs = pair
        for name in self.genome.transforms:
            transform = self._operations.transforms[name]
            ours = transform(ours, self.genome.temperature)
            theirs = transform(theirs, self.genome.temperature)
        return Pair(ours, theirs)


class SearchedFeatureLoss(SearchedLoss):
    """As `SearchedLoss`, of a pair of layers."""

    needs: ClassVar[frozenset[str]] = frozenset({FEATURES})

    def __init__(self, genome: Genome | Mapping[str, Any], *, operations: Operations = OPERATIONS) -> None:
        super().__init__(genome, operations=operations)
        self.regressor: nn.Module | None = None

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        """Build the 1x1 convolution from the student's channels to the teacher's, where it is needed."""
        pair = map_pair(self, student, teacher)
        with torch.no_grad():
            ours, theirs = self._transformed(pair)
        if ours.shape != theirs.shape:
            channels = pair.student.shape[1], pair.teacher.shape[1]
            self.regressor = nn.Conv2d(*channels, 1).to(**placed_like(pair.student))

    def pair_of(self, student: Outputs, teacher: Outputs) -> Pair:
        """Return what is transformed and compared: the student's maps after the convolution, if any."""
        ours, theirs = map_pair(self, student, teacher)
        return Pair(ours if self.regressor is None else project(self, self.regressor, ours), theirs)


def build(genome: Genome | Mapping[str, Any], *, operations: Operations = OPERATIONS) -> SearchedLoss:
    """Return the loss of a genome; with features, give the criterion the genome's layers.

    Raises:
        BadInput: as `SearchedLoss`.
    """
    return SearchedLoss(genome, operations=operations)


def _read(genome: Any) -> Genome:
    where = "genome of SearchedLoss"
    if not isinstance(genome, Genome | Mapping):
        raise BadInput(f"{where}: found {genome!r}; expected a genome or its JSON form")
    return Genome.of_json(genome.to_json() if isinstance(genome, Genome) else genome, where=where)
