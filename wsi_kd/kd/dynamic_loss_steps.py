"""Gradient of gradient: a student's SGD steps as a function of its loss, and what they do to validation.

    theta_{i+1} = theta_i - a (grad_theta L_phi(theta_i) + ...)     N steps, one training batch each
    g = d e(theta_N) / d phi                                        through all of them

by torch.func.functional_call: the networks' own parameters are not touched until the caller puts the new ones
in.

What the derivative does not follow: momenta and buffers are taken as they stand (the running statistics of
batch norm hold the batches of earlier steps, and depend on phi through those when N > 1).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.training_step import Step

Tensors: TypeAlias = dict[str, Tensor]
"""By the parameter's name."""


class SgdRule(NamedTuple):
    """How torch.optim.SGD moves one parameter."""

    learning_rate: float
    momentum: float
    weight_decay: float
    nesterov: bool


class Moved(NamedTuple):
    """A student after its steps, in the graph of its loss."""

    parameters: Tensors
    momenta: Tensors
    steps: list[Step]
    """What each batch said."""


def read_rules(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, SgdRule]:
    """Return how an optimizer moves each of its parameters, whose names are given by their id.

    Raises:
        BadInput: it is not SGD, or SGD with dampening or maximize.
    """
    remedy = "pass lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)"
    if type(optimizer) is not torch.optim.SGD:
        raise BadInput(
            f"optimizer is {type(optimizer).__name__}: the student's steps are differentiated, and only "
            f"those of SGD are known here; {remedy}"
        )
    rules: dict[str, SgdRule] = {}
    for group in optimizer.param_groups:
        if group["dampening"] or group["maximize"]:
            raise BadInput(f"optimizer: SGD with dampening or maximize is not known here; {remedy}")
        rule = SgdRule(
            float(group["lr"]),
            float(group["momentum"]),
            float(group["weight_decay"]),
            bool(group["nesterov"]),
        )
        rules |= {names[id(parameter)]: rule for parameter in group["params"]}
    return rules


def step_down(
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor | None],
    momenta: Mapping[str, Tensor],
    *,
    rules: Mapping[str, SgdRule],
    factor: float,
) -> tuple[Tensors, Tensors]:
    """Return parameters and momenta after one step of SGD, which can be differentiated.

    As torch's: with d = gradient + decay * parameter and v' = momentum * v + d, the parameter goes down by
    factor * rate * v', with nesterov by that of d + momentum * v'. One without gradient stays.
    """
    moved, held = dict(parameters), dict(momenta)
    for name, rule in rules.items():
        gradient = gradients[name]
        if gradient is None:
            continue
        direction = gradient + rule.weight_decay * parameters[name] if rule.weight_decay else gradient
        if rule.momentum:
            held[name] = rule.momentum * momenta[name] + direction
            direction = direction + rule.momentum * held[name] if rule.nesterov else held[name]
        moved[name] = parameters[name] - factor * rule.learning_rate * direction
    return moved, held


def advance(
    objective: nn.Module,
    batches: Sequence[Any],
    *,
    parameters: Mapping[str, Tensor],
    momenta: Mapping[str, Tensor],
    loss_parameters: Mapping[str, Tensor],
    rules: Mapping[str, SgdRule],
    factor: float,
    progress: float,
) -> Moved:
    """Move the student by one step of SGD a batch, and keep how it depends on `loss_parameters`.

    Args:
        objective: gives a `Step` of (batch, progress); a `Distiller`.
        batches: as a loader yields them.
        parameters: theta: all parameters of `objective` that are trained, with gradient required.
        momenta: of theta, without gradient.
        loss_parameters: phi: other parameters of `objective`.
        rules: of theta.
        factor: what multiplies the learning rates.
        progress: share of the training done.

    Raises:
        BadInput: a layer or loss that cannot be differentiated twice; as `objective`.
    """
    moved, held, steps = dict(parameters), dict(momenta), []
    for batch in batches:
        with differentiable():
            step = functional_call(objective, {**moved, **loss_parameters}, (batch, progress))
            found = torch.autograd.grad(
                step.loss, [moved[name] for name in rules], create_graph=True, allow_unused=True
            )
        gradients = dict(zip(rules, found, strict=True))
        moved, held = step_down(moved, gradients, held, rules=rules, factor=factor)
        steps.append(step)
    return Moved(moved, held, steps)


def gradient_in(
    value: Float[Tensor, ""], numbers: Float[Tensor, " coordinates"]
) -> Float[Tensor, " coordinates"]:
    """Return d value / d numbers, through all steps between them; 0 where there is no way.

    Raises:
        BadInput: a layer on the way cannot be differentiated twice.
    """
    with differentiable():
        return torch.autograd.grad(value, numbers, materialize_grads=True)[0]


def check_differentiable_twice(value: Float[Tensor, ""], leaves: Iterable[Tensor]) -> None:
    """Walk all of a value's graph once, and clear the gradients that this leaves in `leaves`.

    `gradient_in` walks only what leads to the numbers asked for. A layer with a first derivative alone (a
    custom autograd function marked once_differentiable) leads nowhere: its part would be missing without a
    word.

    Raises:
        BadInput: there is such a layer.
    """
    with differentiable():
        torch.autograd.backward(value, retain_graph=True)
    for leaf in leaves:
        leaf.grad = None


@contextmanager
def differentiable() -> Iterator[None]:
    """Choose kernels that can be differentiated twice; say so in one line where there is none.

    Raises:
        BadInput: a layer or loss cannot be differentiated twice.
    """
    try:
        # the fused kernels of attention have a first derivative alone
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if "not implemented" in reason or "differentiate twice" in reason:
            raise BadInput(
                f"the student or a criterion cannot be differentiated twice ({reason}), and a dynamic loss "
                "learns from the gradient of a gradient; replace that layer"
            ) from None
        raise


def pack(tensors: Mapping[str, Tensor]) -> Float[Tensor, " coordinates"]:
    """Return all numbers of some tensors in one row, copied."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def unpack(numbers: Float[Tensor, " coordinates"], like: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors whose numbers `pack` put in a row, as views of it."""
    parts = torch.split(numbers, [tensor.numel() for tensor in like.values()])
    return {name: part.view_as(like[name]) for name, part in zip(like, parts, strict=True)}
