"""Step distill: a settings file in; a student, its scores and costs beside its teachers', a history out.

| file | holds |
|---|---|
| `student.safetensors`, `last.safetensors` | the student of the best epoch on validation; of the last one |
| `student.json` | what rebuilds it: `wsi_kd.distillation.student.load_student(folder)` |
| `history.csv` | one row an epoch |
| `result.json` | scores and costs of student and teachers, settings, versions, what the method told |
| `teachers/<hash>.safetensors` | teachers that were trained; a run that asks for the same one takes it |
| `state-<hash>*` | where a killed run goes on; a finished one is not trained again |
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from torch import nn

from wsi_kd.core.errors import BadInput, named
from wsi_kd.core.files import content_hash, publish_json, publish_table, read_json, writable_folder
from wsi_kd.core.places import without_paths
from wsi_kd.core.provenance import stamp
from wsi_kd.distillation.augmentations import create_augment
from wsi_kd.distillation.data import Prepared, teacher_loader
from wsi_kd.distillation.python_names import faults_of
from wsi_kd.distillation.registry import TRAINERS
from wsi_kd.distillation.results import Ready, Trained, score_all, tell_result
from wsi_kd.distillation.scoring import layer_shapes
from wsi_kd.distillation.student import StudentFacts, write_student
from wsi_kd.distillation.task import Outcome, Task
from wsi_kd.distillation.teachers import REUSED, Teacher, new_network, ready_teacher, state_sha256
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.fit_state import portable
from wsi_kd.settings.distill import DistillSettings
from wsi_kd.steps.distill_plan import (
    criteria_of,
    layers_of,
    names_of,
    network_plan,
    options_of,
    read_data,
    state_key,
    teacher_plan,
    train_plan,
    weight_schedules_of,
)

Say = Callable[[str], None]
RESULT_FILE: Final = "result.json"


class Distilled(NamedTuple):
    """What a distillation comes to."""

    result: Path
    student: Evaluation
    """Of the best epoch's student on the test part."""
    teachers: list[Evaluation]
    """On the test part."""


def run_distill(settings: DistillSettings, *, out: Path, say: Say) -> Distilled:
    """Distill as the settings say; `say` is told a line an epoch.

    Run again with the same settings, a killed distillation goes on, to the same result.

    Raises:
        BadInput: whatever of settings and data cannot be used; an error in the user's own code.
        RunFailed: training diverged, or a full disk.
    """
    criteria_of(settings)  # now: a misspelt option is no thing to learn of when the data are read
    with faults_of(names_of(settings)):
        return _run(settings, out=out, say=say)


def _run(settings: DistillSettings, *, out: Path, say: Say) -> Distilled:
    prepared = read_data(settings.data)
    student = _new_student(settings, prepared)
    _check_early(settings, prepared, student)
    writable_folder(out)
    teachers = _ready_teachers(settings, prepared, folder=out / "teachers", say=say)
    key = state_key(settings, data_is=prepared.fingerprint, teachers_are=[each.sha256 for each in teachers])
    state_path = out / f"state-{content_hash(key)[:16]}.safetensors"
    ready = Ready(prepared, student, teachers, first_sha256=state_sha256(student))
    outcome = _train(settings, ready, state_path=state_path, say=say)
    former = _former_state(out)
    trained = Trained(outcome, portable(student.state_dict()))
    distilled = _write(settings, ready, trained, out=out, state=state_path.stem)
    if former is not None and former != state_path.stem:
        for stale in out.glob(f"{former}*"):  # of the result that was replaced; one of a killed run stays
            stale.unlink(missing_ok=True)
    return distilled


def _former_state(out: Path) -> str | None:
    """Return the stem of the state that the result in the folder came from, if there is one."""
    try:
        former = read_json(out / RESULT_FILE, remake="wsi-kd distill").get("state")
    except BadInput:
        return None
    return former if isinstance(former, str) and former.startswith("state-") else None


def describe_layers(settings: DistillSettings) -> list[str]:
    """Return the layers that losses on features can read, of the student and of each teacher, a line each.

    Raises:
        BadInput: as `run_distill`.
    """
    prepared = read_data(settings.data)
    shape, classes = prepared.data.input_shape, prepared.data.classes
    networks = {"student": settings.student}
    networks |= {f"teacher {i}": teacher.network for i, teacher in enumerate(settings.teachers, start=1)}
    lines = []
    for who, network in networks.items():
        built = new_network(network_plan(network), input_shape=shape, classes=classes, seed=0)
        lines.append(f"{who}: {network.name}, of samples {_shown(shape)}")
        found = layer_shapes(built, shape)
        width = max(len(layer.name) for layer in found)
        lines += [f"  {layer.name:<{width}}  {_shown(layer.shape):<16} {layer.kind}" for layer in found]
    return lines


def _new_student(settings: DistillSettings, prepared: Prepared) -> nn.Module:
    data = prepared.data
    plan = network_plan(settings.student)
    return new_network(plan, input_shape=data.input_shape, classes=data.classes, seed=settings.train.seed)


def _check_early(settings: DistillSettings, prepared: Prepared, student: nn.Module) -> None:
    """Build and pair everything once: a misspelt layer is no thing to learn of when teachers are trained."""
    data = prepared.data
    teachers = []
    for number, teacher in enumerate(settings.teachers, start=1):
        plan = teacher_plan(teacher, settings)
        with named(f"teacher {number}"):
            made = new_network(plan.network, input_shape=data.input_shape, classes=data.classes, seed=0)
            teacher_loader(prepared, plan.lesson)
        teachers.append(made)
    plan_of_student = train_plan(settings.train, device=settings.train.device)
    Distiller(
        copy.deepcopy(student),
        teachers,
        criteria=criteria_of(settings),
        layers=layers_of(settings),
        weight_schedules=weight_schedules_of(settings),
        optimizer=plan_of_student.optimizer,
        device=settings.train.device,
    )


def _ready_teachers(
    settings: DistillSettings, prepared: Prepared, *, folder: Path, say: Say
) -> list[Teacher]:
    teachers = []
    for number, teacher in enumerate(settings.teachers, start=1):
        who = f"teacher {number}"
        tell = _teller(say, who, epochs=teacher.train.epochs)
        with named(who):
            teachers.append(
                ready_teacher(teacher_plan(teacher, settings), prepared, folder=folder, on_epoch=tell)
            )
        if teachers[-1].origin == REUSED:
            say(f"{who}: taken from {teachers[-1].file}")
    return teachers


def _train(settings: DistillSettings, ready: Ready, *, state_path: Path, say: Say) -> Outcome:
    augmentation = [part.model_dump() for part in settings.train.augmentation]
    task = Task(
        student=ready.student,
        teachers=[teacher.network for teacher in ready.teachers],
        data=ready.prepared.data,
        criteria=criteria_of(settings),
        layers=layers_of(settings),
        plan=train_plan(settings.train, device=settings.train.device),
        weight_schedules=weight_schedules_of(settings),
        augment=create_augment(augmentation, classes=ready.prepared.data.classes),
        state_path=state_path,
        on_epoch=_teller(say, "student", epochs=settings.train.epochs),
    )
    return TRAINERS[settings.method.name](task, **options_of(settings.method, beside={"name"}))


def _write(settings: DistillSettings, ready: Ready, trained: Trained, *, out: Path, state: str) -> Distilled:
    """Write all files, result.json last: it stands for the whole."""
    told = without_paths(settings.model_dump(mode="json"))
    prepared, outcome = ready.prepared, trained.outcome
    facts = StudentFacts(
        network_plan(settings.student), prepared.class_names, prepared.data.input_shape, prepared.scaling
    )
    write_student(out, facts, weights={"best": outcome.weights, "last": trained.last}, settings=told)
    columns = list(outcome.history[0])
    rows = [[row[column] for column in columns] for row in outcome.history]
    publish_table(out / "history.csv", columns, rows, stamp=stamp("distillation_history", told))
    scored = score_all(ready, trained, device=settings.train.device)
    publish_json(
        out / RESULT_FILE,
        {
            **stamp("distillation", told),
            "state": state,
            **tell_result(ready, trained, scored, method=settings.method.name, out=out),
        },
    )
    return Distilled(out / RESULT_FILE, scored.best, scored.teachers)


def _teller(say: Say, who: str, *, epochs: int) -> Callable[[Mapping[str, float | int]], None]:
    def tell(row: Mapping[str, float | int]) -> None:
        known = {name: value for name, value in row.items() if name not in {"epoch", "learning_rate"}}
        told = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in known.items())
        say(f"{who}, epoch {int(row['epoch']) + 1} of {epochs}: {told}")

    return tell


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
