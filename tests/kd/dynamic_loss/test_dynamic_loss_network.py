"""The dynamic loss as a function: its size, its invariances, its refusals; why its activation is smooth."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import Distiller
from wsi_kd.kd.dynamic_loss import KINKED, SMOOTH, DynamicLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.outputs import Outputs


def learned(seed: int = 0, **settings: object) -> DynamicLoss:
    """A loss network whose last layer is no longer 0, in float64."""
    loss = DynamicLoss(seed=seed, **settings).double()
    with torch.no_grad():
        loss.last.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return loss


def said(loss: DynamicLoss, logits: Tensor, labels: Tensor | None) -> Tensor:
    return loss(Outputs(logits), Outputs(logits), labels)


def batch(samples: int = 7, classes: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return (
        torch.randn(samples, classes, generator=draw, dtype=torch.float64),
        torch.randint(classes, (samples,), generator=draw),
    )


def test_value_by_hand() -> None:
    loss = DynamicLoss(hidden=1).double()
    with torch.no_grad():
        loss.first.weight.copy_(torch.tensor([[2.0, -1.0]]))
        loss.first.bias.fill_(0.5)
        loss.last.weight.fill_(3.0)
    logits = torch.tensor(
        [[0.0, 0.0]], dtype=torch.float64
    )  # both probabilities 0.5, of class 1 the target 1
    expected = 3.0 * sum(F.softplus(torch.tensor(2 * 0.5 - target + 0.5)).item() for target in (0.0, 1.0))
    assert said(loss, logits, torch.tensor([1])).item() == pytest.approx(expected, rel=1e-6)


def test_size_does_not_depend_on_the_classes_and_the_last_layer_has_no_bias() -> None:
    loss = learned()
    assert sum(parameter.numel() for parameter in loss.parameters()) == 2 * 16 + 16 + 16
    assert loss.last.bias is None
    for classes in (2, 10, 1000):
        assert said(loss, torch.zeros(3, classes, dtype=torch.float64), torch.zeros(3).long()).isfinite()


def test_starts_as_no_loss_at_all() -> None:
    logits, labels = batch()
    logits.requires_grad_()
    value = said(DynamicLoss().double(), logits, labels)
    assert value.item() == 0.0
    assert torch.autograd.grad(value, logits)[0].abs().max() == 0.0


def test_order_of_samples_and_of_classes_means_nothing() -> None:
    loss, (logits, labels) = learned(), batch()
    value = said(loss, logits, labels).item()
    rows = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    assert said(loss, logits[rows], labels[rows]).item() == pytest.approx(value, rel=1e-12)
    columns = torch.tensor([3, 0, 4, 1, 2])  # new place of class c is where columns == c
    place = columns.argsort()
    assert said(loss, logits[:, columns], place[labels]).item() == pytest.approx(value, rel=1e-12)


def test_soft_labels_of_one_class_are_that_class() -> None:
    loss, (logits, labels) = learned(), batch()
    soft = F.one_hot(labels, 5).double()
    assert said(loss, logits, soft).item() == said(loss, logits, labels).item()


def test_dense_outputs_are_samples_at_every_position() -> None:
    loss, (logits, labels) = learned(), batch(samples=24)
    maps = logits.view(2, 3, 4, 5).permute(0, 3, 1, 2)  # (samples, classes, height, width)
    value = said(loss, logits, labels).item()
    assert said(loss, maps, labels.view(2, 3, 4)).item() == pytest.approx(value, rel=1e-12)
    soft = F.one_hot(labels, 5).double().view(2, 3, 4, 5).permute(0, 3, 1, 2)
    assert said(loss, maps, soft).item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("activation", sorted(SMOOTH))
def test_gradients_of_both_orders_are_right(activation: str) -> None:
    loss, (logits, labels) = learned(activation=activation), batch(samples=2, classes=3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: said(loss, z, labels % 3), logits)
    assert torch.autograd.gradgradcheck(lambda z: said(loss, z, labels % 3), logits)


def moved_loss(activation: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
    """Loss of a linear student on one batch, after a step on a loss network with these first weights."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 4, generator=draw, dtype=torch.float64)
    target = F.one_hot(inputs[:, :3].argmax(dim=1), 3).double()
    theta = torch.randn(4, 3, generator=draw, dtype=torch.float64).requires_grad_()
    last = torch.randn(16, generator=draw, dtype=torch.float64)
    bias = torch.linspace(-0.9, 0.2, 16, dtype=torch.float64)
    pairs = torch.stack([(inputs @ theta).softmax(dim=1), target], dim=-1)
    value = (activation(pairs @ weights.T + bias) @ last).sum(dim=1).mean()
    step = torch.autograd.grad(value, theta, create_graph=True)[0]
    return -(((inputs @ (theta - 0.5 * step)).log_softmax(dim=1)) * target).sum(dim=1).mean()


def hyper_error(activation: Callable[[Tensor], Tensor]) -> float:
    """Error of autograd's gradient in the first weights against differences, as a share of their length."""
    weights = torch.randn(16, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = torch.autograd.grad(moved_loss(activation, weights.requires_grad_()), weights)[0]
    differences = torch.zeros_like(exact)
    for place in range(weights.numel()):
        shift = torch.zeros(weights.numel(), dtype=torch.float64)
        shift[place] = 0.02
        up, down = (
            moved_loss(activation, weights.detach() + s * shift.view(16, 2)).detach() for s in (1, -1)
        )
        differences.view(-1)[place] = (up - down) / 0.04
    return float((differences - exact).norm() / differences.norm())


def test_kinked_activations_give_a_wrong_gradient_of_the_gradient() -> None:
    assert hyper_error(F.softplus) < 0.01
    assert hyper_error(F.leaky_relu) > 0.2


@pytest.mark.parametrize("activation", sorted(KINKED))
def test_kinked_activations_are_refused_with_the_reason(activation: str) -> None:
    with pytest.raises(BadInput, match=f"'{activation}' is not smooth.*take one of .*softplus"):
        DynamicLoss(activation=activation)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"activation": "softplu"}, "did you mean 'softplus'"), ({"hidden": 0}, "hidden is 0")],
)
def test_bad_settings(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        DynamicLoss(**settings)


def test_labels_are_needed_and_checked() -> None:
    loss, (logits, labels) = learned(), batch()
    with pytest.raises(BadInput, match="DynamicLoss: it needs labels"):
        said(loss, logits, None)
    with pytest.raises(BadInput, match="labels run from"):
        said(loss, logits, labels + 5)
    with pytest.raises(BadInput, match="DynamicLoss: labels are"):
        said(loss, logits.view(7, 5, 1), labels[:3, None])


def test_no_optimizer_of_a_student_takes_it() -> None:
    student = nn.Linear(4, 3)
    criteria = {"ce": (CrossEntropyLoss(), 1.0), "dynamic": (DynamicLoss(), 1.0)}
    distiller = Distiller(
        student, [], criteria=criteria, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )
    distiller.prepare((torch.zeros(2, 4), torch.zeros(2).long()))
    trained = [parameter for group in distiller.optimizer.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in trained} == {id(parameter) for parameter in student.parameters()}
