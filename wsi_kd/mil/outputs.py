"""What every teacher returns."""

from typing import NamedTuple, Protocol

from jaxtyping import Bool, Float, Int64
from torch import Tensor


class BagOutput(NamedTuple):
    """Logits of a packed batch of bags, before any softmax, at least float32 whatever the products ran in."""

    bag_logits: Float[Tensor, "bags classes"]
    attention_logits: Float[Tensor, "instances"]
    """Of every instance, hidden ones (`keep` False) included."""
    evidence: Float[Tensor, "instances classes"]
    """The bag classifier applied to each instance alone; the bag logits are its attention-weighted mean."""


class Teacher(Protocol):
    """A bag classifier with attention; bag b is rows offsets[b]:offsets[b+1] of `instances`."""

    def __call__(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score the bags; instances whose `keep` is False get no attention."""
        ...
