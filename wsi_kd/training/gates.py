"""Gates on one layer while any recipe trains, so that a wide model learns how many neurons it needs.

A gated layer is that of `wsi_kd.kd.spectral`: neuron i is -lambda_i phi_i. Every step adds

    penalty (sum lambda^2 + sum phi^2 + sum a^2)

phi with the biases, a the weights of all layers that read the neurons: without a the scale would leak there
(2 |w| for the pair alone, 3 (|w| |a|)^(2/3) for the three). Under Adam a weight moves by about the learning
rate a step, whatever its gradient; a direction of 1,000 numbers so moves thirty times as far as its gate. The
gates therefore have a rate of their own.

What training returns is a plain model: the gates are multiplied into the weights, whose norms still rank the
neurons. It loads everywhere and stays as wide as it was; `pruning` makes it narrow.
"""

import copy
from typing import Any, ClassVar, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.draws import WholeBatch
from wsi_kd.core.errors import BadInput
from wsi_kd.kd.spectral import (
    SpectralLinear,
    active_neurons,
    spectral_layers,
    spectral_penalty,
    spectralize,
)
from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.clam_mb import ClamMb
from wsi_kd.mil.clam_sb import ClamSb
from wsi_kd.mil.dtfd import Dtfd
from wsi_kd.mil.max_pooling import MaxPooling
from wsi_kd.mil.mean_pooling import MeanPooling
from wsi_kd.mil.projectors import FeatureProjector, LinearProjector, project_features
from wsi_kd.mil.scaling import Affine, FeatureScaling
from wsi_kd.mil.top_k_pooling import TopKPooling
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.plan import GatedLayer, Optimization

RATE: Final = "rate"
"""Key of an optimizer's group: its learning rate, in learning rates of all else."""
_PLAIN: Final = ("attention_tanh", "bag_head")
_CLAM: Final = (*_PLAIN, "attention_gate", "instance_heads")
READERS: Final[dict[type[nn.Module], tuple[str, ...]]] = {
    Abmil: _PLAIN,
    GatedAbmil: (*_PLAIN, "attention_gate"),
    ClamSb: _CLAM,
    ClamMb: _CLAM,
    Dtfd: ("instance_attention.0", "pseudo_bag_attention.0", "pseudo_bag_head", "bag_head"),
    MeanPooling: ("bag_head",),
    MaxPooling: ("bag_head",),
    TopKPooling: ("bag_head",),
}
"""Layers of a bag classifier that read the projector's neurons. The classifiers that are not here have layers
of the projector's width behind it, so that it cannot be narrowed alone."""


class SpectralProjector(SpectralLinear):
    """A projector of features with a gate on each neuron."""

    reads_features: ClassVar[bool] = True

    def __init__(self, layer: LinearProjector) -> None:
        """Take over a projector's weights, every gate open."""
        super().__init__(layer.in_features, layer.out_features)
        gated = SpectralLinear.of(layer)
        self.to(layer.weight.device, layer.weight.dtype).load_state_dict(gated.state_dict())
        self.rectified, self.noise = layer.rectified, layer.noise
        self.whole: WholeBatch | None = None
        self.train(layer.training)

    @property
    def offsets(self) -> Tensor:
        """The bias before its gate; a projector always has one."""
        if self.bias_directions is None:
            raise TypeError("a projector has a bias")
        return self.bias_directions

    def forward(
        self, inputs: Float[Tensor, "instances inputs"], scaling: FeatureScaling | None = None
    ) -> Float[Tensor, "instances hidden"]:
        """Project features as a projector of these weights does."""
        affine = Affine(self.weight, -self.eigenvalues * self.offsets)
        noise = self.noise if self.training else 0.0
        return project_features(
            inputs, scaling, affine, noise=noise, rectified=self.rectified, whole=self.whole
        )

    @torch.no_grad()
    def plain(self) -> LinearProjector:
        """Return the same projector without gates."""
        neurons, inputs = self.directions.shape
        layer = LinearProjector(inputs, neurons, rectified=self.rectified)
        layer.to(self.directions.device, self.directions.dtype)
        layer.load_state_dict(super().plain().state_dict())
        layer.noise = self.noise
        return layer.train(self.training)


def layer_name(model: TeacherStudent, layer: GatedLayer) -> str | None:
    """Return the name of the layer in `named_modules()`; None where the model has no such layer."""
    if layer == "projector":
        return "projector" if isinstance(model.projector, FeatureProjector) else "projector.head"
    hidden = model.student is not None and isinstance(model.student.hidden, nn.Sequential)
    return "student.hidden.0" if hidden else None


def reader_names(model: TeacherStudent, layer: GatedLayer) -> list[str]:
    """Return the names of all layers that read the layer's neurons.

    Raises:
        BadInput: a bag classifier whose own layers have the projector's width.
    """
    if layer == "student":
        return ["student.head"]
    readers = READERS.get(type(model.teacher))
    if readers is None:
        known = ", ".join(sorted(kind.__name__ for kind in READERS))
        raise BadInput(
            f"bag classifier {type(model.teacher).__name__} has layers of the projector's width, so the "
            f"projector cannot be narrowed alone; known: {known}"
        )
    students = [] if model.student is None else [layer_name(model, "student") or "student.head"]
    return [*(f"teacher.{name}" for name in readers), *students]


def gate_layer(model: TeacherStudent, layer: GatedLayer) -> None:
    """Put gates on a layer, in place, if the model has it; it gives what it gave."""
    reader_names(model, layer)
    name = layer_name(model, layer)
    if isinstance(model.projector, LinearProjector) and name == "projector":
        model.projector = SpectralProjector(model.projector)
    elif name is not None:
        spectralize(model, [name])


def parameter_groups(model: TeacherStudent, optimization: Optimization) -> list[dict[str, Any]]:
    """Return the optimizer's groups: all weights in one, gates in another that steps at its own rate."""
    gates = [layer.eigenvalues for _, layer in spectral_layers(model)]
    if optimization.gates is None or not gates:
        return [{"params": list(model.parameters())}]
    own = {id(gate) for gate in gates}
    rest = [value for value in model.parameters() if id(value) not in own]
    return [{"params": rest}, {"params": gates, RATE: optimization.gates.rate}]


def gate_cost(model: TeacherStudent, layer: GatedLayer) -> Float[Tensor, ""] | None:
    """Return the squares of gates, directions and readers' weights; None where no layer has gates."""
    gated = [found for _, found in spectral_layers(model)]
    if not gated:
        return None
    squares = [spectral_penalty(model)]
    squares += [one.bias_directions.square().sum() for one in gated if one.bias_directions is not None]
    squares += [model.get_parameter(f"{name}.weight").square().sum() for name in reader_names(model, layer)]
    return torch.stack(squares).sum()


def active_count(model: TeacherStudent) -> int | None:
    """Return how many neurons of the gated layer score above a twentieth of the best; None without gates."""
    counts = [int(active_neurons(layer).sum()) for _, layer in spectral_layers(model)]
    return sum(counts) if counts else None


def without_gates(model: TeacherStudent) -> TeacherStudent:
    """Return the model with its gates multiplied into the weights; itself where it has none."""
    gated = [(name, layer.plain()) for name, layer in spectral_layers(model)]
    if not gated:
        return model
    plain = copy.deepcopy(model)
    for name, layer in gated:
        plain.set_submodule(name, layer)
    return plain
