"""Every bad input is one clear error that names the loss and the layer."""

import re
from typing import Any, ClassVar

import pytest
import torch
from distillation_parts import (
    CLASSES,
    INPUTS,
    LogitMatch,
    MeanTeacher,
    Projected,
    Task,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
)
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.outputs import LOGITS, DistillationLoss, Outputs
from wsi_kd.kd.schedules import Constant, Linear


class Faulty(LogitMatch):
    """A loss that goes wrong in one way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Any:
        value = super().forward(student, teacher, labels)
        if self.way == "refuses":
            raise BadInput("3 classes and 4")
        return {
            "nan": value * float("nan"),
            "vector": student.logits.mean(dim=1),
            "number": 1.0,
            "detached": value.detach(),
        }[self.way]


class Demanding(LogitMatch):
    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, "features_of_mars"})


SHARED = LogitMatch()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"criteria": {}}, "criteria: there are none"),
        ({"criteria": {"kd": (LogitMatch(), 0.0)}}, "all weights are 0, so there is nothing to learn"),
        ({"criteria": {"kd": (LogitMatch(), -1.0)}}, r"criterion 'kd': weight -1\.0; expected"),
        ({"criteria": {"kd": (LogitMatch(), float("nan"))}}, "criterion 'kd': weight nan"),
        ({"criteria": {"kd": (LogitMatch(), "1")}}, "criterion 'kd': weight '1'"),
        ({"criteria": {"kd": LogitMatch()}}, r"expected \(loss, weight\) .*, found LogitMatch"),
        ({"criteria": {"ce": (nn.CrossEntropyLoss(), 1.0)}}, r"found \(CrossEntropyLoss, float\)"),
        ({"criteria": {"a": (SHARED, 1.0), "b": (SHARED, 1.0)}}, "criteria 'a' and 'b' are one object"),
        *(
            ({"criteria": {name: (LogitMatch(), 1.0)}}, "not a usable name")
            for name in ("", "a.b", "loss", "keys")
        ),
        (
            {"criteria": {"kd": (Demanding(), 1.0)}},
            "unknown need of Demanding 'features_of_mars'; known: features",
        ),
        ({"layers": {"kd2": ("0", "0")}}, r"unknown criterion in layers 'kd2'; .*\(did you mean 'kd'"),
        ({"weight_schedules": {"dk": Constant()}}, "unknown criterion in weight_schedules 'dk'"),
        ({"layers": {"kd": ("0", "0")}}, r"layers\['kd'\]: LogitMatch reads no features"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_distiller(**settings)


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (None, r"'hint': Projected reads features; pass layers=\{'hint': \(student_layer, teacher_layer\)\}"),
        ("fc", r"layers\['hint'\]: found 'fc'; pass layers="),
        (("1",), r"found \('1',\)"),
        (("1", ["1", "2"]), "2 layers for 1 teachers"),
        (("7", "1"), r"unknown layer of the student \(Sequential\) '7'; known: 0, 1, 2, 3, 4"),
        (("1", "stage"), r"unknown layer of teacher 1 \(Sequential\) 'stage'"),
    ],
)
def test_layers(pair: Any, told: str) -> None:
    layers = {} if pair is None else {"hint": pair}
    with pytest.raises(BadInput, match=told):
        make_distiller(criteria={"hint": (Projected(), 1.0)}, layers=layers)


def test_numbers_of_teachers() -> None:
    two = [make_network(1), make_network(2)]
    with pytest.raises(BadInput, match=r"'kd' \(LogitMatch\): it learns from one teacher, and there are 2"):
        make_distiller(teachers=two, criteria={"kd": (LogitMatch(), 1.0)})
    with pytest.raises(
        BadInput, match=r"'mean' \(MeanTeacher\): it learns from a teacher, and there is none"
    ):
        make_distiller(teachers=[], criteria={"mean": (MeanTeacher(), 1.0)})
    make_distiller(teachers=two, criteria={"mean": (MeanTeacher(), 1.0)})


def test_a_student_without_anything_to_learn() -> None:
    with pytest.raises(BadInput, match="no parameter that can be trained"):
        make_distiller(make_network(0).requires_grad_(requires_grad=False))


def test_an_optimizer_instead_of_its_maker() -> None:
    distiller = make_distiller(optimizer=lambda parameters: "sgd")
    with pytest.raises(BadInput, match="optimizer= made str; expected a function from parameters"):
        distiller.prepare(batch_of())


@pytest.mark.parametrize(
    ("way", "error", "told"),
    [
        ("nan", RunFailed, "its value is not finite"),
        ("vector", BadInput, r"it returned \(6,\), expected a scalar tensor"),
        ("number", BadInput, "it returned float, expected a scalar tensor"),
        ("detached", BadInput, "its value has no gradient"),
        ("refuses", BadInput, "3 classes and 4"),
    ],
)
def test_a_faulty_loss_is_named(way: str, error: type[Exception], told: str) -> None:
    distiller = make_distiller(criteria={"ce": (Task(), 1.0), "odd": (Faulty(way), 1.0)})
    distiller.prepare(batch_of())
    with pytest.raises(error, match=rf"^criterion 'odd' \(Faulty\): {told}"):
        distiller.training_step(batch_of())


def test_a_loss_on_features_is_named_with_its_layers() -> None:
    class Refusing(Projected):
        def prepare(self, student: Outputs, teacher: Outputs) -> None:
            raise BadInput(f"pair {self.pair}: 5 and 7")

    distiller = make_distiller(criteria={"hint": (Refusing(), 1.0)}, layers={"hint": ("1", "2")})
    told = "criterion 'hint' (Refusing of the student's layer '1' and the teacher's '2'): pair hint: 5 and 7"
    with pytest.raises(BadInput, match=f"^{re.escape(told)}$"):
        distiller.prepare(batch_of())


@pytest.mark.parametrize("number", [1, 2])
def test_a_teacher_that_emits_nan_is_named(number: int) -> None:
    teachers = [make_network(1), make_network(2)]
    distiller = make_distiller(teachers=teachers, criteria={"mean": (MeanTeacher(), 1.0)})
    distiller.prepare(batch_of())
    with torch.no_grad():
        teachers[number - 1][4].bias[0] = float("nan")
    with pytest.raises(
        BadInput, match=rf"teacher {number} of 2 gave logits that are not finite; .*teacher_input"
    ):
        distiller.training_step(batch_of())


def test_a_teacher_whose_nan_the_loss_hides_is_still_named() -> None:
    teacher = make_network(1)
    torch.nn.init.constant_(teacher[4].weight, float("inf"))

    class Ranks(LogitMatch):
        def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Tensor:
            return nn.functional.cross_entropy(student.logits, teacher.logits.argmax(dim=1))

    distiller = make_distiller(teachers=teacher, criteria={"kd": (Ranks(), 1.0)})
    distiller.prepare(batch_of())
    with pytest.raises(BadInput, match="teacher 1 of 1 gave logits that are not finite"):
        distiller.training_step(batch_of())


def test_features_that_are_not_finite_are_named() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noise, self.head = nn.Linear(INPUTS, 5), nn.Linear(INPUTS, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            self.noise(inputs)
            return self.head(inputs)

    teacher = Hidden()
    distiller = make_distiller(
        teachers=teacher, criteria={"hint": (Projected(), 1.0)}, layers={"hint": ("1", "noise")}
    )
    distiller.prepare(batch_of())
    torch.nn.init.constant_(teacher.noise.bias, float("inf"))
    with pytest.raises(BadInput, match="teacher 1 of 1 gave features of the pair 'hint' that are not finite"):
        distiller.training_step(batch_of())


def test_a_student_that_diverged_is_told_with_the_term() -> None:
    distiller = make_distiller(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e30))
    with pytest.raises(RunFailed, match=r"the student gave logits that are not finite") as told:
        distiller.fit(make_loader(), make_loader(), epochs=5)
    assert "criterion 'ce' (Task)" in str(told.value) or "diverged" in str(told.value)


def test_labels_that_are_nowhere() -> None:
    inputs, _ = batch_of()
    labeled_only = make_distiller(criteria={"ce": (Task(), 1.0)})
    with pytest.raises(BadInput, match="the batch has no labels, and all criteria need some"):
        labeled_only.fit([inputs], make_loader(), epochs=1)
    with pytest.raises(
        BadInput, match=r"criterion 'ce' \(Task\): it needs labels, and train_loader yielded none"
    ):
        make_distiller().fit([inputs], make_loader(), epochs=1)
    with pytest.raises(BadInput, match="val_loader has no labels, and all criteria of a weight above 0 need"):
        make_distiller(criteria={"ce": (Task(), 1.0)}).fit(make_loader(), [inputs], epochs=1)
    idle = make_distiller(criteria={"ce": (Task(), 1.0), "kd": (LogitMatch(), 0.0)})
    idle.prepare(inputs)
    with pytest.raises(BadInput, match="all criteria of a weight above 0 need some"):
        idle.training_step(inputs)


def test_schedules_that_give_no_weight() -> None:
    fading = {
        "criteria": {"kd": (LogitMatch(), 1.0)},
        "weight_schedules": {"kd": Linear(1.0, 0.0, finish=0.5)},
    }
    with pytest.raises(BadInput, match=r"all weights are 0 at 0\.5 of the training"):
        make_distiller(**fading).fit(make_loader(), make_loader(), epochs=4)
    for factor in (-1.0, float("nan")):
        distiller = make_distiller(weight_schedules={"kd": Constant(factor)})
        with pytest.raises(BadInput, match=f"weight schedule of 'kd': {factor} at 0 of the training"):
            distiller.fit(make_loader(), make_loader(), epochs=1)


def test_loaders_of_another_form() -> None:
    inputs, labels = batch_of()
    for raw, told in [
        ((inputs, labels, labels), "the loader yielded a tuple of 3"),
        ({"image": inputs}, "a dict with the keys image"),
        ((inputs, labels + 2), "labels go from 2 to 4"),
    ]:
        with pytest.raises(BadInput, match=told):
            make_distiller().fit([raw], make_loader(), epochs=1)
    with pytest.raises(BadInput, match="train_loader: it yielded no batch"):
        make_distiller().fit([], make_loader(), epochs=1)
    with pytest.raises(BadInput, match="can be walked only once"):
        make_distiller().fit(iter([batch_of()]), make_loader(), epochs=1)
    with pytest.raises(BadInput, match="epochs is 0"):
        make_distiller().fit(make_loader(), make_loader(), epochs=0)


def test_networks_of_another_form() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = make_network(0)

        def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return inputs, self.network(inputs)

    with pytest.raises(BadInput, match=r"the student gave a tuple of 2 .* pass logits_of="):
        make_distiller(Pair()).prepare(batch_of())
    with pytest.raises(BadInput, match="teacher 1 gave a tuple of 2"):
        make_distiller(teachers=Pair()).prepare(batch_of())
    adapted = make_distiller(Pair(), Pair(), logits_of=lambda given: given[1])
    assert adapted.fit(make_loader(), make_loader(), epochs=1).last.samples == 24


def test_a_loss_must_have_a_forward() -> None:
    class Nothing(DistillationLoss):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()
