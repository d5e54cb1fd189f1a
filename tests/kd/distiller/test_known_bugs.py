"""Bugs that users found in other distillation codes; each test fails if ours had it.

Where a bug is a wrong formula, the wrong one is computed beside the right one and must be told from it.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    CLASSES,
    INPUTS,
    Projected,
    Task,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import LOSSES
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.outputs import TEACHERS, Outputs

STUDENT = ((0.2, -1.1, 2.3), (1.7, 0.4, -0.6))
TEACHER = ((1.9, 0.3, -0.8), (-0.5, 2.2, 1.4))
Rows = tuple[tuple[float, ...], ...]


def softmax(logits: tuple[float, ...], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def divergence(ours: list[float], theirs: list[float]) -> float:
    return sum(t * math.log(t / s) for s, t in zip(ours, theirs, strict=True))


def over_samples(of_sample: Callable[[tuple[float, ...], tuple[float, ...]], float]) -> float:
    return sum(of_sample(s, t) for s, t in zip(STUDENT, TEACHER, strict=True)) / len(STUDENT)


def right(temperature: float) -> float:
    """T^2 KL(teacher || student), classes summed, samples averaged: no torch in it."""
    return temperature**2 * over_samples(
        lambda s, t: divergence(softmax(s, temperature), softmax(t, temperature))
    )


def no_square(heat: float) -> float:
    return right(heat) / heat**2


def mean_over_classes_too(heat: float) -> float:
    return right(heat) / CLASSES


def cold_teacher(heat: float) -> float:
    return heat**2 * over_samples(lambda s, t: divergence(softmax(s, heat), softmax(t, 1.0)))


def turned_round(heat: float) -> float:
    return heat**2 * over_samples(lambda s, t: divergence(softmax(t, heat), softmax(s, heat)))


def no_logarithm(heat: float) -> float:
    def of_sample(s: tuple[float, ...], t: tuple[float, ...]) -> float:
        pairs = zip(softmax(s, heat), softmax(t, heat), strict=True)
        return sum(theirs * (math.log(theirs) - ours) for ours, theirs in pairs)

    return heat**2 * over_samples(of_sample)


WRONG: dict[str, Callable[[float], float]] = {
    "IntelLabs/distiller #122": no_square,
    "haitongli/knowledge-distillation-pytorch #2, #48": mean_over_classes_too,
    "lancopku/DynamicKD #1": cold_teacher,
    "paiml/aprender #2153": turned_round,
    "microsoft/ProDA #20": no_logarithm,
}


class Given(nn.Module):
    """A network whose logits are its parameter, whatever comes in."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.rows[: len(inputs)] + 0.0


def kd_distiller(temperature: float) -> Distiller:
    criteria = {"kd": (LOSSES["kd"](temperature=temperature), 1.0)}
    distiller = make_distiller(Given(STUDENT), Given(TEACHER), criteria=criteria)
    distiller.prepare(torch.zeros(2, 1))
    return distiller


@pytest.mark.parametrize("bug", WRONG)
@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_the_divergence_is_the_right_one(bug: str, temperature: float) -> None:
    found = kd_distiller(temperature).training_step(torch.zeros(2, 1)).terms["kd"].item()
    assert found == pytest.approx(right(temperature), rel=1e-12)
    assert abs(WRONG[bug](temperature) - found) > 0.05 * found


@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0])
def test_what_the_student_gets_keeps_its_size_at_any_temperature(temperature: float) -> None:
    """Without T^2 the gradient would be 10,000 times smaller at T = 100: the teacher would not be heard."""
    distiller = kd_distiller(temperature)
    distiller.training_step(torch.zeros(2, 1)).loss.backward()
    expected = [
        [temperature * (p - q) / len(STUDENT) for p, q in zip(*rows, strict=True)]
        for rows in zip(
            (softmax(s, temperature) for s in STUDENT),
            (softmax(t, temperature) for t in TEACHER),
            strict=True,
        )
    ]
    gradient = distiller.student.rows.grad
    assert torch.allclose(gradient, torch.tensor(expected, dtype=torch.float64), rtol=1e-9)
    centered = [torch.tensor(rows, dtype=torch.float64) for rows in (STUDENT, TEACHER)]
    limit = (centered[0] - centered[0].mean(1, keepdim=True)) - (
        centered[1] - centered[1].mean(1, keepdim=True)
    )
    assert gradient.norm() > 0.5 * limit.norm() / (CLASSES * len(STUDENT))


def test_a_shuffled_loader_pairs_each_sample_with_its_own_teacher_outputs() -> None:
    """Cached outputs of the teacher were read in the data's order (haitongli PR #16, #17).

    A student that is the teacher has nothing to learn, in whatever order samples come; with any other pairing
    it would have.
    """
    teacher = nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    distiller = make_distiller(
        copy.deepcopy(teacher),
        teacher,
        criteria={"kd": (LOSSES["kd"](), 1.0)},
        optimizer=lambda p: torch.optim.SGD(p, lr=0.0),
    )
    inputs, _ = batch_of(24)
    loader = DataLoader(TensorDataset(inputs), batch_size=5, shuffle=True)
    history = distiller.fit(loader, loader, epochs=3).history
    assert [row["kd"] for row in history] == pytest.approx([0.0] * 3, abs=1e-7)
    logits = teacher(inputs)
    mispaired = LOSSES["kd"]()(Outputs(logits), Outputs(logits.roll(1, dims=0)), None)
    assert mispaired.item() > 1e-3


@pytest.mark.parametrize("name", sorted(name for name, loss in LOSSES.items() if TEACHERS in loss.needs))
def test_several_teachers_are_mixed_as_probabilities(name: str) -> None:
    """Means of logits give a sure teacher all the say (wentianli/knowledge_distillation_caffe #1).

    Of two teachers one is sure of class 0, the other prefers class 1: in the mean of their probabilities
    class 0 has 0.55, in that of their logits 1.00.
    """
    logits = torch.zeros(1, CLASSES, dtype=torch.float64, requires_grad=True)
    teachers = [
        Outputs(torch.tensor([row], dtype=torch.float64)) for row in ((40.0, 0.0, 0.0), (0.0, 2.0, 0.0))
    ]
    loss = LOSSES[name](temperature=1.0)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(120):
        optimizer.zero_grad()
        loss(Outputs(logits), teachers, torch.tensor([0])).backward()
        optimizer.step()
    of_logits = torch.stack([one.logits for one in teachers]).mean(0).softmax(1)
    assert of_logits[0, 0] > 0.99
    assert logits.softmax(1)[0, 0].item() < 0.9


def test_the_teacher_is_in_eval_mode_through_all_of_a_training() -> None:
    """Batch norm and dropout of a teacher in train() mode (Sharpiless/yolov5-knowledge-distillation #5).

    The term of a batch depends on that batch's samples alone: what came before changes nothing.
    """
    teacher = make_network(1)
    distiller = make_distiller(Given(STUDENT).float(), teacher, criteria={"kd": (LOSSES["kd"](), 1.0)})
    first, second = batch_of(2), batch_of(2, seed=5)
    distiller.prepare(first)
    distiller.train()
    teacher.train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    terms = [distiller.training_step(batch).terms["kd"].item() for batch in (first, second, first)]
    assert terms[0] == terms[2] != terms[1]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_pair_of_layers_that_a_wrapper_renames_is_heard_and_not_left_at_nothing() -> None:
    """The prefix `module.` made hooks miss, and the loss was 0 ever after (yolo-distiller #13)."""
    settings = {"criteria": {"hint": (Projected(), 1.0)}, "layers": {"hint": ("module.1", "_orig_mod.2")}}
    distiller = make_distiller(
        nn.DataParallel(make_network(0)), torch.compile(make_network(1), backend="eager"), **settings
    )
    row = distiller.fit(make_loader(), make_loader(seed=1), epochs=1).history[0]
    assert row["hint"] > 0.01


def test_a_student_that_changes_its_inputs_does_not_change_the_teachers() -> None:
    """Both see one tensor: an in-place first layer of the student would feed the teacher its output."""
    student = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(INPUTS, CLASSES))
    with pytest.raises(BadInput, match="the student changes its inputs in place, and the teacher would see"):
        make_distiller(student).prepare(batch_of())
    alone = make_distiller(student, [], criteria={"ce": (Task(), 1.0)})
    assert alone.fit(make_loader(), make_loader(), epochs=1).last.samples == 24
    separate = make_distiller(student, teacher_input=lambda inputs: inputs.clone())
    with pytest.raises(BadInput, match="in place"):  # made of the inputs after the student had them
        separate.prepare(batch_of())


def test_layers_that_losses_learn_follow_the_distiller_and_learn() -> None:
    """Criteria in a plain dict stay behind when the box moves, and no optimizer sees them (torchdistill)."""
    distiller = make_distiller(
        criteria={"hint": (Projected(), 1.0), "late": (LOSSES["hint"](), 1.0)},
        layers={"hint": ("1", "2"), "late": ("0", "0")},
    )
    distiller.prepare(batch_of())
    distiller.double()
    inputs, labels = batch_of()
    assert {parameter.dtype for parameter in distiller.parameters()} == {torch.float64}
    learned = {id(p) for group in distiller.optimizer.param_groups for p in group["params"]}
    learnable = {id(p) for loss in distiller.criteria.values() for p in loss.parameters()}
    assert learnable
    assert learnable <= learned
    before = [p.clone() for p in distiller.criteria.parameters()]
    distiller.training_step((inputs.double(), labels)).loss.backward()
    distiller.optimizer.step()
    after = list(distiller.criteria.parameters())
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_distillers_share_nothing() -> None:
    """State was set on the class, so that two boxes wrote into each other (torchdistill)."""
    first, second = make_distiller(), make_distiller(seed=1)
    expected = make_distiller().fit(make_loader(), make_loader(seed=1), epochs=2)
    first.prepare(batch_of())
    second.fit(make_loader(), make_loader(seed=1), epochs=1)
    assert first.fit(make_loader(), make_loader(seed=1), epochs=2) == expected


def test_labels_alone_and_distillation_alone_are_both_possible() -> None:
    """A weight of None or 0 crashed, or gave the divergence without T^2 (torchdistill's KDLoss)."""

    def terms(criteria: dict[str, Any]) -> dict[str, float]:
        distiller = make_distiller(Given(STUDENT).float(), Given(TEACHER).float(), criteria=criteria)
        distiller.prepare(batch_of(2))
        step = distiller.training_step((torch.zeros(2, 1), torch.tensor([2, 0])))
        return {"loss": step.loss.item(), **{name: value.item() for name, value in step.terms.items()}}

    task = F.cross_entropy(torch.tensor(STUDENT), torch.tensor([2, 0])).item()
    kd = LOSSES["kd"]
    for weight in (0.0, 0.3, 1.0):
        found = terms({"ce": (LOSSES["ce"](), 1.0 - weight), "kd": (kd(temperature=4.0), weight)})
        assert found == pytest.approx(
            {"loss": (1.0 - weight) * task + weight * right(4.0), "ce": task, "kd": right(4.0)}, rel=1e-5
        )
