"""The teacher's gradient of a batch at its own parameters: what variance reduction takes from the student's.

Nothing of the teacher is changed: its mode, its gradients and whether it is frozen stay as they are.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.augmentation import Augment
from wsi_kd.kd.batches import find_logits, read_batch, walk
from wsi_kd.kd.evaluation import quiet
from wsi_kd.kd.taps import unwrap

Objective: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""f_xi from (logits, labels): a mean over the batch's samples, such as torch's cross_entropy."""
Gradients: TypeAlias = dict[str, Tensor]
"""By the parameter's name."""
SHOWN: Final = 3


class TeacherGradient:
    """The gradient of a batch's loss at the teacher's parameters, and the term c made of it.

    The teacher is neither changed nor trained; it is run in eval mode, with its own buffers (the statistics
    of BatchNorm). Parameters that are frozen in the student have no part in c.

    Args:
        student: its parameters are x.
        teacher: the same architecture: parameters of the same names and shapes are theta.
        objective: f_xi.
        weight_decay: that of the student's optimizer where it is part of the gradient (SGD, Adam; not AdamW).
            The loss then has the term (weight_decay / 2) ||x||^2, and grad f_xi(theta) gets its part of it.
            Forgotten, a perfect teacher would pull the student off the optimum.
        full_gradient: grad f(theta) from `mean_gradient`, without weight decay (which cancels); None: not
            given back.
        logits_of: from what the networks give to their logits, where that is no tensor and has no `logits`.

    Raises:
        BadInput: other names or shapes, one network for both, a negative weight decay.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        objective: Objective = F.cross_entropy,
        weight_decay: float = 0.0,
        full_gradient: Mapping[str, Tensor] | None = None,
        logits_of: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self._student, self._teacher = unwrap(student), unwrap(teacher)
        check_same_parameters(self._student, self._teacher)
        if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
            raise BadInput(f"variance reduction: weight_decay is {weight_decay}; expected at least 0")
        self._objective, self._logits_of = objective, logits_of
        self._weight_decay, self._full = weight_decay, full_gradient

    def at(self, inputs: Any, labels: Tensor) -> Gradients:
        """Return grad f_xi(theta), without weight decay, of the parameters that the student trains."""
        trained = [name for name, own in self._student.named_parameters() if own.requires_grad]
        return _gradients(
            self._teacher, trained, self._objective, inputs=inputs, labels=labels, logits_of=self._logits_of
        )

    def term(self, inputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """Return c = - <grad f_xi(theta) - grad f(theta), x - theta>; its gradient is in the student.

        It is the part of f_xi(theta) - f_xi(x) that is linear in x - theta.
        """
        own, theirs = dict(self._student.named_parameters()), dict(self._teacher.named_parameters())
        parts = []
        for name, gradient in self.at(inputs, labels).items():
            noise = gradient + self._weight_decay * theirs[name].detach()
            if self._full is not None:
                noise = gradient - self._full[name]
            parts.append(-(noise * (own[name] - theirs[name].detach())).sum())
        return torch.stack(parts).sum()


def mean_gradient(
    network: nn.Module,
    loader: Iterable[Any],
    *,
    objective: Objective = F.cross_entropy,
    augment: Augment | None = None,
    logits_of: Callable[[Any], Tensor] | None = None,
) -> Gradients:
    """Return grad f at the network's parameters: the mean over all samples of a loader of labeled batches.

    Without weight decay. With `augment` each batch is augmented once, so that the mean is a drawn one. The
    network is run in eval mode and keeps its mode and gradients.

    Raises:
        BadInput: an empty loader, batches that cannot be read or have no labels.
    """
    inner = unwrap(network)
    names = [name for name, _ in inner.named_parameters()]
    device = next(inner.parameters()).device
    sums: Gradients = {}
    samples = 0
    for raw in walk(loader, what="loader"):
        inputs, labels = read_batch(raw, adapter=None, device=device)
        if augment is not None:
            inputs, labels = augment(inputs, labels)
        if labels is None:
            raise BadInput("mean_gradient: a batch has no labels; pass a loader of labeled batches")
        given = _gradients(
            inner, names, objective, inputs=inputs, labels=labels.to(device), logits_of=logits_of
        )
        sums = {name: sums.get(name, 0.0) + len(labels) * value for name, value in given.items()}
        samples += len(labels)
    return {name: value / samples for name, value in sums.items()}


def check_same_parameters(student: nn.Module, teacher: nn.Module) -> None:
    """Check that two networks have parameters of the same names and shapes, and none in common.

    Raises:
        BadInput: they differ, or are one.
    """
    ours, theirs = (
        {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
        for network in (student, teacher)
    )
    remedy = (
        "student and teacher must be of one architecture, as a parameter is compared with its namesake; for "
        "two architectures take the criterion kd (KdLoss)"
    )
    names = [*ours, *(name for name in theirs if name not in ours)]
    wrong = [name for name in names if ours.get(name) != theirs.get(name)]
    if wrong:
        told = "; ".join(
            f"'{name}': student {ours.get(name, 'none')}, teacher {theirs.get(name, 'none')}"
            for name in wrong[:SHOWN]
        )
        raise BadInput(f"variance reduction: {len(wrong)} parameters differ ({told}); {remedy}")
    if {id(own) for own in student.parameters()} & {id(own) for own in teacher.parameters()}:
        raise BadInput(
            "variance reduction: student and teacher share parameters; pass copy.deepcopy(teacher)"
        )


def _gradients(
    network: nn.Module,
    names: list[str],
    objective: Objective,
    *,
    inputs: Any,
    labels: Tensor,
    logits_of: Callable[[Any], Tensor] | None,
) -> Gradients:
    """Gradient of the objective in the named parameters of a network in eval mode, at detached copies."""
    parameters = dict(network.named_parameters())
    at = {name: parameters[name].detach().requires_grad_() for name in names}
    positional = (
        () if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else (inputs,)
    )
    keywords = dict(inputs) if isinstance(inputs, Mapping) else {}
    with quiet(network), torch.enable_grad():
        given = functional_call(network, at, tuple(positional), keywords)
        value = objective((logits_of or find_logits)(given), labels)
        gradients = torch.autograd.grad(value, list(at.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(names, gradients, strict=True))
