"""What a distiller owes its user: who learns, who does not, in which mode, from which tensor."""

import copy

import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    LogitMatch,
    MeanTeacher,
    Projected,
    Task,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
    same,
    weights_of,
)
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.schedules import Linear


class Witness(nn.Module):
    """Notes the inputs, modes and gradients it is called with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[tuple[Tensor, bool, bool]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append((inputs, self.network[1].training, torch.is_grad_enabled()))
        return self.network(inputs)


def test_terms_are_named_and_summed_by_weight() -> None:
    teacher = make_network(1, hidden=7)
    distiller = make_distiller(teachers=teacher)
    inputs, labels = batch_of()
    distiller.prepare((inputs, labels))
    distiller.eval()
    step = distiller.training_step((inputs, labels))
    logits = distiller.student(inputs)
    task, match = F.cross_entropy(logits, labels), F.mse_loss(logits, teacher(inputs))
    assert {name: value.item() for name, value in step.terms.items()} == pytest.approx(
        {"ce": task.item(), "kd": match.item()}
    )
    assert step.loss.item() == pytest.approx(0.5 * task.item() + 2.0 * match.item())
    assert torch.equal(step.logits, logits)


def test_a_step_updates_nothing_and_serves_any_loop() -> None:
    distiller = make_distiller()
    distiller.prepare(batch_of())
    before = [parameter.clone() for parameter in distiller.parameters()]
    step = distiller(batch_of())
    assert all(torch.equal(*pair) for pair in zip(before, distiller.parameters(), strict=True))
    own = torch.optim.SGD(distiller.parameters(), lr=0.1)
    step.loss.backward()
    own.step()
    gradients = [parameter.grad for parameter in distiller.parameters()]
    for old, new, gradient in zip(before, distiller.parameters(), gradients, strict=True):
        assert torch.allclose(new, old - 0.1 * gradient)


def test_the_teacher_never_learns_and_stays_in_eval() -> None:
    teacher = Witness(make_network(1, hidden=7))
    before = weights_of(teacher)
    distiller = make_distiller(teachers=teacher)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    distiller.train()
    assert distiller.student[1].training
    assert not any(module.training for module in teacher.modules())
    teacher.train()  # by someone else who holds it
    distiller.fit(make_loader(), make_loader(seed=1), epochs=2)
    assert same(weights_of(teacher), before)  # batch norm's averages too
    assert {(training, gradient) for _, training, gradient in teacher.seen} == {(False, False)}
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_both_see_the_same_tensor() -> None:
    student, teacher = Witness(make_network(0)), Witness(make_network(1))
    distiller = make_distiller(student, teacher)
    distiller.prepare(batch_of())
    distiller.training_step(batch_of())
    assert len(student.seen) == 2
    assert all(ours[0] is theirs[0] for ours, theirs in zip(student.seen, teacher.seen, strict=True))


def test_the_teachers_input_is_made_of_the_students() -> None:
    student, teacher = Witness(make_network(0)), Witness(make_network(1))
    distiller = make_distiller(student, teacher, teacher_input=lambda inputs: 2.0 * inputs)
    distiller.prepare(batch_of())
    assert torch.equal(teacher.seen[0][0], 2.0 * student.seen[0][0])


def test_the_student_learns_in_training_mode_after_every_validation() -> None:
    student = Witness(make_network(0))
    distiller = make_distiller(student)
    distiller.fit(make_loader(), make_loader(seed=1), epochs=3)
    prepared, *epochs = [training for _, training, _ in student.seen]
    assert prepared is False
    assert epochs == ([True] * 4 + [False] * 4) * 3
    assert student.training


def test_evaluation_leaves_each_module_in_its_mode() -> None:
    distiller = make_distiller()
    distiller.student[1].eval()
    distiller.evaluate(make_loader())
    assert [module.training for module in distiller.student] == [True, False, True, True, True]


def test_preparing_leaves_student_and_random_draws_alone() -> None:
    distiller = make_distiller()
    before, drawn = weights_of(distiller.student), torch.get_rng_state()
    distiller.prepare(batch_of())
    distiller.prepare(batch_of())
    assert same(weights_of(distiller.student), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert distiller.student.training


def test_layers_of_losses_learn_and_teachers_do_not() -> None:
    teacher = make_network(1, hidden=7)
    distiller = make_distiller(
        teachers=teacher, criteria={"hint": (Projected(), 1.0)}, layers={"hint": ("1", "2")}
    )
    distiller.prepare(batch_of())
    learned = {id(p) for group in distiller.optimizer.param_groups for p in group["params"]}
    layer = distiller.criteria["hint"].layer
    assert layer.weight.shape == (7, 5)
    assert learned == {id(p) for p in [*distiller.student.parameters(), *layer.parameters()]}
    before = layer.weight.clone()
    distiller.fit(make_loader(), make_loader(seed=1), epochs=1)
    assert not torch.equal(layer.weight, before)


def test_a_frozen_part_of_the_student_stays() -> None:
    student = make_network(0)
    student[0].requires_grad_(requires_grad=False)
    before = student[0].weight.clone()
    distiller = make_distiller(student)
    distiller.fit(make_loader(), make_loader(seed=1), epochs=1)
    assert torch.equal(student[0].weight, before)
    assert not any(p is student[0].weight for g in distiller.optimizer.param_groups for p in g["params"])


def test_state_holds_student_and_losses_and_no_teacher() -> None:
    distiller = make_distiller(criteria={"hint": (Projected(), 1.0)}, layers={"hint": ("1", "2")})
    distiller.prepare(batch_of())
    ours = {f"student.{name}" for name in distiller.student.state_dict()}
    assert set(distiller.state_dict()) == ours | {"criteria.hint.layer.weight", "criteria.hint.layer.bias"}


def test_teachers_follow_to_other_types_and_places() -> None:
    teacher = make_network(1)
    make_distiller(teachers=teacher).double()
    assert teacher[0].weight.dtype == torch.float64


def test_no_step_before_the_losses_are_built() -> None:
    with pytest.raises(BadInput, match=r"not prepared; call prepare\(batch\)"):
        make_distiller().training_step(batch_of())


def test_several_teachers() -> None:
    teachers = [make_network(1), make_network(2, hidden=7)]
    distiller = make_distiller(
        teachers=teachers, criteria={"ce": (Task(), 1.0), "mean": (MeanTeacher(), 1.0)}
    )
    inputs, labels = batch_of()
    distiller.prepare((inputs, labels))
    distiller.eval()
    probabilities = (teachers[0](inputs).softmax(1) + teachers[1](inputs).softmax(1)) / 2
    expected = F.mse_loss(distiller.student(inputs).softmax(1), probabilities)
    assert distiller.training_step((inputs, labels)).terms["mean"].item() == pytest.approx(expected.item())


def test_without_a_teacher_it_trains_on_labels() -> None:
    distiller = make_distiller(teachers=[], criteria={"ce": (Task(), 1.0)})
    result = distiller.fit(make_loader(), make_loader(seed=1), epochs=2)
    assert result.history[1]["ce"] < result.history[0]["ce"]


def test_a_teacher_that_nobody_looks_at_is_not_run() -> None:
    teacher = Witness(make_network(1))
    make_distiller(teachers=teacher, criteria={"ce": (Task(), 1.0)}).fit(
        make_loader(), make_loader(seed=1), epochs=1
    )
    assert teacher.seen == []


def test_unlabeled_batches_teach_what_needs_no_labels() -> None:
    distiller = make_distiller()
    inputs, labels = batch_of()
    distiller.prepare((inputs, labels))
    distiller.eval()
    both, unlabeled = distiller.training_step((inputs, labels)), distiller.training_step(inputs)
    assert set(unlabeled.terms) == {"kd"}
    assert torch.equal(unlabeled.terms["kd"], both.terms["kd"])
    assert unlabeled.loss.item() == pytest.approx(2.0 * both.terms["kd"].item())
    result = distiller.fit([(inputs, labels), inputs], make_loader(), epochs=1)
    assert set(result.history[0]) >= {"ce", "kd"}


def test_a_criterion_of_weight_0_is_told_and_teaches_nothing() -> None:
    batch = batch_of()

    def gradients(weight: float, *, with_kd: bool) -> list[Tensor]:
        criteria = {"ce": (Task(), 1.0)} | ({"kd": (LogitMatch(), weight)} if with_kd else {})
        distiller = make_distiller(criteria=criteria)
        distiller.prepare(batch)
        distiller.eval()
        step = distiller.training_step(batch)
        assert ("kd" in step.terms) == with_kd
        assert not with_kd or step.terms["kd"].requires_grad == (weight > 0.0)
        step.loss.backward()
        return [parameter.grad for parameter in distiller.parameters()]

    plain, off, on = gradients(0.0, with_kd=False), gradients(0.0, with_kd=True), gradients(1.0, with_kd=True)
    assert all(torch.equal(*pair) for pair in zip(plain, off, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(plain, on, strict=True))


def test_schedules_multiply_weights() -> None:
    distiller = make_distiller(weight_schedules={"kd": Linear(1.0, 0.0)})
    distiller.prepare(batch_of())
    distiller.eval()
    terms = distiller.training_step(batch_of()).terms
    for progress in (0.0, 0.25, 0.5):
        loss = distiller.training_step(batch_of(), progress=progress).loss
        assert loss.item() == pytest.approx((0.5 * terms["ce"] + 2.0 * (1 - progress) * terms["kd"]).item())


@pytest.mark.parametrize("wrapping", ["parallel", "compiled"])
def test_wrapped_networks_are_tapped(wrapping: str) -> None:
    """A wrapper's prefix must not make the hooks miss, which would leave the loss at 0."""

    def wrap(network: nn.Module) -> nn.Module:
        return nn.DataParallel(network) if wrapping == "parallel" else torch.compile(network, backend="eager")

    def losses(student: nn.Module, teacher: nn.Module) -> list[float]:
        settings = {"criteria": {"hint": (Projected(), 1.0)}, "layers": {"hint": ("1", "2")}}
        distiller = make_distiller(student, teacher, **settings)
        history = distiller.fit(make_loader(), make_loader(seed=1), epochs=2).history
        return [row["hint"] for row in history]

    plain = losses(make_network(0), make_network(1))
    wrapped = losses(wrap(make_network(0)), wrap(make_network(1)))
    assert min(plain) > 0.0
    assert wrapped == pytest.approx(plain)


def test_a_teacher_that_is_the_student_is_refused() -> None:
    student = make_network(0)
    for teacher in (student, nn.Sequential(student, nn.Identity())):
        with pytest.raises(BadInput, match=r"teacher 1 shares parameters .* copy\.deepcopy\(teacher\)"):
            make_distiller(student, teacher)
    make_distiller(student, copy.deepcopy(student))
    assert all(parameter.requires_grad for parameter in student.parameters())
