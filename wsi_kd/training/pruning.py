"""A trained model with fewer neurons in one layer: which to keep, what it costs, and the narrow model itself.

Neurons are ranked by the norm of their incoming weights, which standardized features make comparable; a
model trained with gates (`gates`) has driven most of them to 0. The narrow model gives what the wide one
gives with the other neurons at 0, and is an ordinary model of a smaller width.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import pack
from wsi_kd.core.errors import BadInput
from wsi_kd.kd.spectral import active_neurons, layer_named, neuron_scores
from wsi_kd.kd.spectral_pruning import Cut, prune_spectral, pruning_curve
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.gates import layer_name, reader_names
from wsi_kd.training.plan import GatedLayer
from wsi_kd.training.validation import pool_student, score_validation

WIDTHS: Final[dict[GatedLayer, str]] = {"projector": "hidden_dim", "student": "student_hidden_dim"}
"""Which argument of `create_model` is a layer's width."""
ONE_BY_ONE: Final = 16
"""Up to so many neurons every count is measured; from there on each is a fifth above the one before."""


class Narrow(NamedTuple):
    """A narrow model in eval mode, and the arguments of `create_model` that rebuild it."""

    model: TeacherStudent
    described: dict[str, Any]


class Pooling(NamedTuple):
    """How the student's instance logits become the bag's."""

    student_pooling: str
    top_k: int


def neurons_of(model: TeacherStudent, layer: GatedLayer) -> Float[Tensor, "neurons"]:
    """Return the score of each neuron of a layer, the norm of its incoming weights.

    Raises:
        BadInput: a model without that layer, or whose layer cannot be narrowed.
    """
    return neuron_scores(layer_named(model, _name(model, layer)))


def count_active(model: TeacherStudent, layer: GatedLayer, *, threshold: float) -> int:
    """Count the neurons that score above a share of the best one's score.

    Raises:
        BadInput: as `neurons_of`; a share outside [0, 1), or a layer whose weights are all 0.
    """
    count = int(active_neurons(layer_named(model, _name(model, layer)), threshold=threshold).sum())
    if not count:
        raise BadInput(
            f"the {layer} has no active neuron: its weights are all 0; lower train.spectral.penalty"
        )
    return count


def narrow_model(
    model: TeacherStudent, described: Mapping[str, Any], *, layer: GatedLayer, keep: int
) -> Narrow:
    """Return a model with the best `keep` neurons of a layer; the given one stays as it is.

    Args:
        model: plain, without gates.
        described: the arguments of `create_model` that rebuild it.
        layer: which layer is narrowed.
        keep: how many neurons stay, from 1 to all.

    Raises:
        BadInput: as `neurons_of`; another number of neurons.
    """
    name = _name(model, layer)
    cut = prune_spectral(model, name, consumers=reader_names(model, layer), keep=keep)
    arguments = {**described, WIDTHS[layer]: keep}
    narrow = create_model(**arguments)
    narrow.load_state_dict(cut.state_dict())
    return Narrow(narrow.eval(), arguments)


def counts_to_try(neurons: int) -> list[int]:
    """Return the counts at which a layer's curve is measured, all of them up to 16, then a fifth apart.

    >>> counts_to_try(24)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 24]
    """
    counts = list(range(1, min(neurons, ONE_BY_ONE) + 1))
    while counts[-1] < neurons:
        counts.append(min(neurons, counts[-1] + -(-counts[-1] // 5)))
    return counts


def validation_curve(model: TeacherStudent, val: BagSet, *, layer: GatedLayer, pooling: Pooling) -> list[Cut]:
    """Return the validation loss with only the best neurons of a layer left, at `counts_to_try`.

    Raises:
        BadInput: as `neurons_of`.
    """
    name = _name(model, layer)

    def measure(cut: torch.nn.Module) -> float:
        if not isinstance(cut, TeacherStudent):
            raise TypeError(f"{type(cut).__name__} is no model of bags")
        return validation_loss(cut, val, pooling=pooling)

    counts = counts_to_try(len(neurons_of(model, layer)))
    return pruning_curve(model, name, measure, counts=counts)


@torch.no_grad()
def validation_loss(model: TeacherStudent, val: BagSet, *, pooling: Pooling) -> float:
    """Return what an epoch is selected by: the teacher's cross entropy plus the student's ranking loss.

    Every bag is scored alone and whole, in float32; `model` must be in eval mode.
    """
    device = next(model.parameters()).device
    teacher, student = [], []
    for bag in range(len(val.labels)):
        packed = pack(val, [bag], device=device, dtype=torch.float32)
        output = model(packed.instances, packed.offsets)
        teacher.append(output.bag_logits.cpu())
        if output.instance_logits is not None:
            pooled = pool_student(output.instance_logits, packed.offsets, **pooling._asdict())
            student.append(pooled.cpu())
    labels = torch.from_numpy(val.labels)
    found = score_validation(torch.cat(teacher), torch.cat(student) if student else None, labels)
    return found.teacher_loss + (found.student_loss or 0.0)


def _name(model: TeacherStudent, layer: GatedLayer) -> str:
    """Return the layer's name, once it is known that it can be narrowed."""
    name = layer_name(model, layer)
    if name is None:
        raise BadInput(
            "the model has no student with a hidden layer to narrow; train one with "
            "train.weno.student_hidden_dim, or narrow the projector"
        )
    reader_names(model, layer)
    return name
