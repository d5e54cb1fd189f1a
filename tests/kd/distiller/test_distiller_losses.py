"""Every loss of the registry trains inside the distiller, from its own pair of convolutions."""

import math
from typing import Any

import pytest
import torch
from distillation_parts import CLASSES, adamw, make_distiller
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import LOSSES
from wsi_kd.kd.outputs import FEATURES, LABELS, TEACHERS, UNLABELED, VAL

LENIENT = {"ft": {"max_unexplained": 1.0}, "ft_collapsed": {"max_unexplained": 1.0}}
"""The teacher's features are of random weights, and hard to paraphrase."""


def make_pictures(channels: int, *, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=1 + (channels < 6), padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * channels, CLASSES),
        )


def make_batches() -> list[Any]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(4, 12, 1, 8, 8, generator=generator)
    return list(zip(inputs, torch.arange(CLASSES).repeat(4, 4), strict=True))


UNTRIED: dict[str, dict[str, Any]] = {
    name: {"max_unexplained": 2.0, "min_kept": 0.0, "epochs": 3} for name in ("ft", "ft_collapsed")
}
"""A paraphraser of untrained features explains little; that it is refused has its own tests."""


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_falls(name: str) -> None:
    loss = LOSSES[name](**UNTRIED.get(name, {}))
    teachers = [make_pictures(8, seed=1), make_pictures(6, seed=2)][: 1 + (TEACHERS in loss.needs)]
    distiller = make_distiller(
        make_pictures(4, seed=0),
        teachers,
        criteria={name: (loss, 1.0)},
        layers={name: ("0", "0")} if FEATURES in loss.needs else {},
        optimizer=adamw,
    )
    batches = make_batches()
    learned_from = [inputs for inputs, _ in batches] if UNLABELED in loss.needs else batches
    chosen_by = [inputs for inputs, _ in batches]
    if LABELS in loss.needs or loss.learns_from == VAL:
        chosen_by = batches
    result = distiller.fit(learned_from, chosen_by, epochs=8)
    assert result.history[-1][name] < result.history[0][name]
    assert result.selected_by == ("accuracy" if chosen_by is batches else "criteria")
    assert math.isfinite(result.last.loss)
    assert set(result.pretrained) == ({name} if loss.learns_from else set())


def test_teacher_outputs_are_those_of_the_pair() -> None:
    teacher = make_pictures(8, seed=1)
    distiller = make_distiller(
        make_pictures(4, seed=0), teacher, criteria={"at": (LOSSES["at"](), 1.0)}, layers={"at": ("0", "0")}
    )
    batches = make_batches()
    seen = list(distiller.teacher_outputs(batches))
    for (inputs, _), (outputs,) in zip(batches, seen, strict=True):
        assert torch.equal(outputs.features["at"], teacher[0](inputs))
        assert not outputs.features["at"].requires_grad
        assert torch.allclose(outputs.logits, teacher(inputs))


@pytest.mark.parametrize("name", ["kd", "bkd", "dkd", "dist"])
def test_class_counts_that_differ(name: str) -> None:
    student, teacher = make_pictures(4, seed=0), make_pictures(8, seed=1)
    teacher[4] = nn.Linear(32, CLASSES + 2)
    distiller = make_distiller(student, teacher, criteria={"mine": (LOSSES[name](), 1.0)})
    with pytest.raises(
        BadInput,
        match=rf"^criterion 'mine' \({type(LOSSES[name]()).__name__}\): .*has {CLASSES} classes and the "
        rf"teacher {CLASSES + 2}",
    ) as told:
        distiller.fit(make_batches(), make_batches(), epochs=1)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", sorted(name for name, loss in LOSSES.items() if FEATURES in loss.needs))
def test_what_losses_of_features_cannot_pair_is_told_with_both_layers(name: str) -> None:
    """A number for each sample is nothing that any of them compares."""

    class Means(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.head = nn.Flatten(0), nn.Linear(64, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            self.mean(inputs.mean(dim=(1, 2, 3)))
            return self.head(inputs.flatten(1))

    loss = LOSSES[name](**UNTRIED.get(name, {}))
    distiller = make_distiller(
        make_pictures(4, seed=0), Means(), criteria={"mine": (loss, 1.0)}, layers={"mine": ("0", "mean")}
    )
    with pytest.raises(BadInput) as told:
        distiller.fit(make_batches(), make_batches(), epochs=1)
    where = f"({type(loss).__name__} of the student's layer '0' and the teacher's 'mean')"
    assert str(told.value).startswith(f"criterion 'mine' {where}: ")
    assert "\n" not in str(told.value)


def as_pairs(batches: list[Any]) -> list[Any]:
    return [list(batch) for batch in batches]


def as_words(batches: list[Any]) -> list[Any]:
    return [{"labels": labels, "inputs": inputs} for inputs, labels in batches]


def as_letters(batches: list[Any]) -> list[Any]:
    return [{"x": inputs, "y": labels.to(torch.int32)} for inputs, labels in batches]


def as_triples(batches: list[Any]) -> list[Any]:
    return [(number, labels, {"picture": inputs}) for number, (inputs, labels) in enumerate(batches)]


@pytest.mark.parametrize("form", [as_pairs, as_words, as_letters, as_triples])
def test_loaders_of_all_forms_train_alike(form: Any) -> None:
    def history(batches: list[Any], **settings: Any) -> list[dict[str, float | int]]:
        criteria = {"ce": (LOSSES["ce"](), 1.0), "kd": (LOSSES["kd"](), 1.0)}
        distiller = make_distiller(
            make_pictures(4, seed=0), make_pictures(8, seed=1), criteria=criteria, **settings
        )
        return distiller.fit(batches, batches, epochs=2).history

    adapter = {"adapter": lambda batch: (batch[2]["picture"], batch[1])} if form is as_triples else {}
    assert history(form(make_batches()), **adapter) == history(make_batches())
