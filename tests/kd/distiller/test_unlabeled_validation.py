"""Without validation labels the weighted sum of the criteria chooses the best epoch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    CLASSES,
    INPUTS,
    LogitMatch,
    Projected,
    Task,
    adamw,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
    same,
    weights_of,
)
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import LOSSES
from wsi_kd.kd.augmentation import GaussianNoise
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.evaluation import Evaluation, quiet
from wsi_kd.kd.fitting import FitResult
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.schedules import Linear, Steps


def bare(samples: int = 10, *, seed: int = 1) -> list[Tensor]:
    """Validation batches of 6 and of fewer samples, no labels."""
    return list(batch_of(samples, seed=seed)[0].split(6))


def still(**settings: Any) -> Distiller:
    """Nothing moves at a learning rate of 0."""
    return make_distiller(optimizer=lambda p: torch.optim.SGD(p, lr=0.0), **settings)


def test_the_loss_is_the_weighted_sum_of_what_needs_no_labels() -> None:
    student, teacher = nn.Linear(INPUTS, CLASSES), make_network(1)
    result = still(student=student, teachers=teacher).fit(make_loader(), bare(), epochs=1)
    inputs = torch.cat(bare())
    teacher.eval()
    expected = 2.0 * F.mse_loss(student(inputs), teacher(inputs)).item()
    assert result.last == (None, pytest.approx(expected), 10)
    assert result.best == result.last
    assert result.selected_by == "criteria"
    assert "val_accuracy" not in result.history[0]
    assert result.history[0]["val_loss"] == pytest.approx(expected)
    labeled = still().fit(make_loader(), make_loader(seed=1), epochs=1)
    assert labeled.selected_by == "accuracy"
    assert labeled.history[0]["val_accuracy"] == labeled.last.accuracy


def test_schedules_and_augmentation_have_no_part_in_it() -> None:
    teacher = make_network(1)
    schedules = {"kd": Linear(0.5, 0.0)}
    distiller = still(teachers=teacher, weight_schedules=schedules, augment=GaussianNoise(1.0))
    distiller.student[3].p = 0.0
    distiller.student[1].eval()
    distiller.student[1].momentum = 0.0
    history = distiller.fit(make_loader(), bare(), epochs=3).history
    inputs = torch.cat(bare())
    with quiet(distiller.student), torch.no_grad():
        expected = 2.0 * F.mse_loss(distiller.student(inputs), teacher(inputs)).item()
    assert history[0]["val_loss"] == pytest.approx(expected)
    assert history[0]["kd"] != pytest.approx(history[1]["kd"])
    assert [row["val_loss"] for row in history] == [history[0]["val_loss"]] * 3


def test_the_best_epoch_is_the_lowest() -> None:
    """A learning rate that turns round after two of four epochs takes back what was learned."""
    torch.manual_seed(0)
    distiller = make_distiller(
        nn.Linear(INPUTS, CLASSES),
        nn.Linear(INPUTS, CLASSES),
        criteria={"kd": (LogitMatch(), 1.0)},
        learning_rate_schedule=Steps((0.5,), factor=-3.0),
    )
    result = distiller.fit([inputs for inputs, _ in make_loader()], bare(), epochs=4)
    losses = [row["val_loss"] for row in result.history]
    assert result.best_epoch == losses.index(min(losses)) == 1
    assert result.best.loss == losses[1] < result.last.loss == losses[3]


def test_the_best_one_is_scored_with_the_layers_that_losses_had_then() -> None:
    distiller = make_distiller(
        criteria={"hint": (Projected(), 1.0)},
        layers={"hint": ("1", "2")},
        learning_rate_schedule=Steps((0.5,), factor=-2.0),
    )
    result = distiller.fit(make_loader(), bare(), epochs=4)
    assert result.best.loss < result.last.loss
    last = weights_of(distiller)
    assert distiller.evaluate(bare(), which="best") == pytest.approx(result.best)
    assert same(weights_of(distiller), last)
    assert distiller.evaluate(bare()) == pytest.approx(result.last)


def test_a_student_learns_without_any_label() -> None:
    teacher = nn.Linear(INPUTS, CLASSES)
    distiller = make_distiller(
        nn.Linear(INPUTS, CLASSES),
        teacher,
        criteria={"kd": (LogitMatch(), 1.0)},
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.3),
    )
    inputs, _ = batch_of(60, seed=4)
    result = distiller.fit(list(inputs.split(6)), bare(), epochs=15)
    assert result.last.loss < 1e-3 < result.history[0]["val_loss"]
    assert torch.allclose(distiller.student.weight, teacher.weight, atol=0.02)


def test_losses_are_in_eval_mode_for_it_and_back_afterwards() -> None:
    class Moody(LogitMatch):
        modes: tuple[bool, ...] = ()

        def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Tensor:
            self.modes += ((self.training, torch.is_grad_enabled()),)
            return super().forward(student, teacher, labels)

    loss = Moody()
    make_distiller(criteria={"kd": (loss, 1.0)}).fit(make_loader(12), bare(), epochs=2)
    assert loss.modes == ((True, True), (True, True), (False, False), (False, False)) * 2


def test_a_resumed_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    def run(epochs: int, **settings: Any) -> FitResult:
        distiller = make_distiller(
            criteria={"kd": (LogitMatch(), 2.0), "hint": (Projected(), 1.0)},
            layers={"hint": ("1", "2")},
            optimizer=adamw,
        )
        return distiller.fit(make_loader(shuffle=True), bare(), epochs=epochs, **settings)

    expected = run(3)
    run(2, state_path=tmp_path / "state")
    assert run(3, state_path=tmp_path / "state") == expected
    assert expected.best.accuracy is None


def test_labels_somewhere_only_are_refused() -> None:
    inputs, labels = batch_of()
    for batches in ([(inputs, labels), inputs], [inputs, (inputs, labels)]):
        with pytest.raises(BadInput, match="evaluation: some batches have labels and others have none"):
            make_distiller().fit(make_loader(), batches, epochs=1)


@pytest.mark.parametrize("weight", [None, 0.0])
def test_nothing_that_could_choose_is_told_before_the_training(weight: float | None) -> None:
    criteria: dict[str, Any] = {"ce": (Task(), 1.0)}
    if weight is not None:
        criteria["kd"] = (LogitMatch(), weight)
    distiller = make_distiller(criteria=criteria)
    before = weights_of(distiller.student)
    with pytest.raises(BadInput, match="val_loader has no labels, and all criteria of a weight above 0"):
        distiller.fit(make_loader(), bare(), epochs=1)
    assert same(weights_of(distiller.student), before)


def test_before_the_losses_are_built_only_those_without_layers_can_score() -> None:
    assert make_distiller().evaluate(make_loader()).samples == 24
    assert make_distiller().evaluate(bare()).accuracy is None
    learning = make_distiller(criteria={"hint": (LOSSES["hint"](), 1.0)}, layers={"hint": ("1", "2")})
    with pytest.raises(BadInput, match=r"^criterion 'hint' .*: it learns layers .* call prepare"):
        learning.evaluate(bare())


def test_epochs_with_and_without_labels_are_not_compared() -> None:
    assert Evaluation(None, 0.1, 5).beats(Evaluation(None, 0.2, 5))
    assert not Evaluation(None, 0.2, 5).beats(Evaluation(None, 0.2, 5))
    assert not Evaluation(None, math.inf, 5).beats(Evaluation(None, 0.2, 5))
    assert Evaluation(None, 0.1, 5).beats(None)
    distiller = make_distiller()
    distiller.fit(make_loader(), make_loader(), epochs=1)
    with pytest.raises(BadInput, match="with labels cannot be compared with one without"):
        distiller.fit(make_loader(), bare(), epochs=2)
