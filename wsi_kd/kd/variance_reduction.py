"""Distillation as variance reduction: the teacher's gradient of a batch takes noise out of the student's.

With f_xi the loss of a batch xi, x the student's parameters, theta the teacher's and w the weight:

    g = grad f_xi(x) - w grad f_xi(theta)                          the distillation gradient
    g = grad f_xi(x) - w (grad f_xi(theta) - grad f(theta))        with the full gradient: no bias, as SVRG

For a linear model with softmax and cross entropy the first *is* the gradient of (1 - w) CE + w KL at
temperature 1: distillation is SGD with a control variate whose mean is not given back, so that noise is
traded for the bias w grad f(theta). Deep networks share the form, not the identity: `cosine_with_kd` says
how near they are. Both gradients are those of a plain scalar, for any optimizer and loop:

    f_xi(x) + w c,      c = - <grad f_xi(theta) [- grad f(theta)], x - theta>

Source: Safaryan, Peste, Alistarh, "Knowledge distillation performs partial variance reduction", NeurIPS
2023, arXiv 2305.17581. How large w should be: `variance_weight`. Beside their released code, which at any
temperature takes the gradient of temperature 1 and puts the teacher into training mode, here another
temperature is refused and the teacher stays in eval mode.
"""

from contextlib import ExitStack
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import call, find_logits
from wsi_kd.kd.evaluation import quiet
from wsi_kd.kd.losses.kl import tempered_kl
from wsi_kd.kd.outputs import LABELS, LOGITS, DistillationLoss, Outputs
from wsi_kd.kd.teacher_gradient import Objective, TeacherGradient


class DistillationGradient:
    """The loss whose gradient is the distillation gradient, for a loop of one's own and any torch optimizer.

        taught = DistillationGradient(student, teacher, weight=0.7)
        for inputs, labels in loader:
            optimizer.zero_grad()
            taught(inputs, labels).backward()
            optimizer.step()

    With weight 0 it is the plain loss, to the last bit. In a `Distiller` take `ControlVariate`.

    Args:
        student: its parameters are x.
        teacher: of the same parameters' names and shapes.
        weight: w in [0, 1].
        temperature: of the distillation meant. Only 1 is possible: at others the gradient of distillation is
            another one.
        settings: as of `TeacherGradient`.

    Raises:
        BadInput: another temperature, a weight outside of [0, 1]; as `TeacherGradient`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        weight: float,
        temperature: float = 1.0,
        objective: Objective = F.cross_entropy,
        **settings: Any,
    ) -> None:
        check_temperature(temperature)
        check_weight(weight)
        self._student, self._weight, self._objective = student, weight, objective
        self._logits_of = settings.get("logits_of") or find_logits
        self._teacher = TeacherGradient(student, teacher, objective=objective, **settings)

    def __call__(self, inputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """Return f_xi(x) + w c: `backward` adds the distillation gradient to the student's parameters."""
        loss = self._objective(self._logits_of(call(self._student, inputs)), labels)
        return loss if self._weight == 0.0 else loss + self._weight * self._teacher.term(inputs, labels)


class ControlVariate(DistillationLoss):
    """The term c as a criterion of a `Distiller`: its weight is w, a schedule of it may change w.

        criteria={"ce": (CrossEntropyLoss(), 1.0), "control_variate": (ControlVariate(student, teacher), 0.7)}

    The objective has to be that of the other criteria, cross entropy by default. What the student was called
    with in training is remembered from its forward pass to this loss, as losses see outputs only; `close`
    ends that. Neither network is part of it: its state is empty.

    Args:
        student: the Distiller's.
        teacher: the Distiller's, so that it is on the same device.
        settings: as of `TeacherGradient`.

    Raises:
        BadInput: as `TeacherGradient`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, LABELS})
    reads_teacher: ClassVar[bool] = False

    def __init__(self, student: nn.Module, teacher: nn.Module, **settings: Any) -> None:
        super().__init__()
        # in a tuple, so that torch does not take the networks for parts of the loss
        self._networks = (student, TeacherGradient(student, teacher, **settings))
        self._inputs: Any = None
        self._hook = student.register_forward_pre_hook(self._remember, with_kwargs=True)

    def close(self) -> None:
        """Take the hook off the student; `contextlib.closing` does it on exit."""
        self._hook.remove()

    def forward(self, student: Outputs, teacher: Any, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return c of the batch that the student has just seen.

        Raises:
            BadInput: there are no labels, or the student was not run in training mode before.
        """
        inputs, self._inputs = self._inputs, None
        if labels is None or inputs is None:
            missing = "labels" if labels is None else "the student's forward pass in training mode before it"
            raise BadInput(f"ControlVariate: it needs {missing}; see Distiller.training_step")
        return self._networks[1].term(inputs, labels)

    def _remember(self, student: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if student.training and torch.is_grad_enabled():
            self._inputs = keywords or args


def cosine_with_kd(
    student: nn.Module, teacher: nn.Module, batch: tuple[Any, Tensor], *, weight: float
) -> float:
    """Return the cosine between the distillation gradient and that of (1 - w) CE + w KL at temperature 1.

    1 for linear models; what is missing to it is how far another network's distillation is from this method.
    `batch` is (inputs, labels); no gradient is left behind.

    Raises:
        BadInput: as `DistillationGradient`.
    """
    inputs, labels = batch
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    with ExitStack() as modes:
        for network in (student, teacher):
            modes.enter_context(quiet(network))
        reduced = DistillationGradient(student, teacher, weight=weight)(inputs, labels)
        with torch.no_grad():
            theirs = find_logits(call(teacher, inputs))
        ours = find_logits(call(student, inputs))
        kd = tempered_kl(ours, theirs, temperature=1.0)
        usual = (1.0 - weight) * F.cross_entropy(ours, labels) + weight * kd
        flat = [
            torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])
            for loss in (reduced, usual)
        ]
    return F.cosine_similarity(flat[0], flat[1], dim=0).item()


def check_temperature(temperature: float) -> None:
    """Check that the temperature of the distillation meant is 1.

    Raises:
        BadInput: it is another one.
    """
    if temperature != 1.0:
        raise BadInput(
            f"variance reduction: temperature is {temperature:g}, and the distillation gradient is that of "
            "temperature 1 only; take temperature 1, or the method plain with the criterion kd"
        )


def check_weight(weight: float) -> None:
    """Check that a weight is in [0, 1].

    Raises:
        BadInput: it is not.
    """
    if not 0.0 <= weight <= 1.0:
        raise BadInput(f"variance reduction: weight is {weight}; expected 0 (plain SGD) to 1")
