"""What every teacher returns."""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class BagOutput(NamedTuple):
    """Logits of a packed batch of bags, before any softmax, at least float32 whatever the products ran in."""

    bag_logits: Float[Tensor, "bags classes"]
    attention_logits: Float[Tensor, "instances"]
    """Of every instance, hidden ones (`keep` False) included; their softmax over the bag is the attention."""
    evidence: Float[Tensor, "instances classes"]
    """Class logits of each instance. The bag logits are their attention-weighted mean (clam_mb: each class by
    its own branch), but for dsmil and transmil; docs/teachers.md says what they are there."""
    branch_logits: Float[Tensor, "instances classes"] | None = None
    """Attention logits of each class's own branch, where the teacher has one a class. `attention_logits` are
    then those of the bag's predicted class; with two classes always of class 1."""


class Teacher(Protocol):
    """A bag classifier with attention; bag b is rows offsets[b]:offsets[b+1] of `instances`."""

    contextual: ClassVar[bool]
    """Whether an instance's attention or evidence depends on the rest of its bag: ask on whole bags only."""

    def __call__(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score the bags as if instances whose `keep` is False were not there.

        Raises:
            ValueError: a bag keeps no instance.
        """
        ...


def label_scores(teacher: object, output: BagOutput) -> Float[Tensor, "instances *classes"]:
    """Return what of a teacher's output its pseudo labels read as attention: one an instance or one a class.

    The branches where there is one a class; the instance stream of a teacher that has one, as the released
    code of WENO does with DSMIL; else the attention logits.
    """
    if isinstance(teacher, DualStreamTeacher):
        return output.evidence
    return output.attention_logits if output.branch_logits is None else output.branch_logits


@runtime_checkable
class DualStreamTeacher(Protocol):
    """A teacher whose evidence is a classifier of instances that is trained as such, and knows no bag."""

    instance_stream: ClassVar[bool]


@runtime_checkable
class EvidenceTeacher(Protocol):
    """A teacher that gives its evidence without its attention: labels that know no attention cost less."""

    def evidence(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances classes"]:
        """Return what `BagOutput.evidence` would hold."""
        ...


class LossShares(NamedTuple):
    """Weights of the two terms that a teacher with an auxiliary loss trains on."""

    bag: float
    auxiliary: float


@runtime_checkable
class AuxiliaryTeacher(Protocol):
    """A teacher that learns from more than the bag's cross entropy."""

    loss_shares: ClassVar[LossShares]

    def auxiliary_losses(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        bag_labels: Int64[Tensor, "bags"],
        *,
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> Float[Tensor, "bags"]:
        """Return the auxiliary loss of each bag."""
        ...
