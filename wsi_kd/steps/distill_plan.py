"""From the settings of a distillation to the plain values that sources, networks and methods take."""

from typing import Any

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.criteria import create_loss
from wsi_kd.distillation.data import DataOptions, Lesson, Prepared, prepare_data
from wsi_kd.distillation.networks import NetworkPlan
from wsi_kd.distillation.optimizers import create_schedule, optimizer_factory
from wsi_kd.distillation.sources.python_function import call_python_source
from wsi_kd.distillation.sources.registry import SOURCES
from wsi_kd.distillation.task import TrainPlan
from wsi_kd.distillation.teachers import TeacherPlan
from wsi_kd.kd.outputs import DistillationLoss
from wsi_kd.kd.schedules import Schedule
from wsi_kd.settings.base import Section
from wsi_kd.settings.distill import (
    DistillSettings,
    DistillTrainSettings,
    TeacherSettings,
    TeacherTrainSettings,
)
from wsi_kd.settings.distill_data import DataSettings, PythonSourceSettings
from wsi_kd.settings.distill_encoder import DistillEncoderSettings, EncoderTrainSettings
from wsi_kd.settings.distill_networks import Network, OptimizerSettings, ScheduleSettings


def read_data(data: DataSettings) -> Prepared:
    """Read the source and draw its parts.

    Raises:
        BadInput: as the source and `prepare_data`.
    """
    common = DataOptions(**{name: getattr(data, name) for name in DataOptions._fields})
    if isinstance(data, PythonSourceSettings):
        made: Any = call_python_source(data.name, data.arguments)
    else:
        own = options_of(data, beside={"name", *DataOptions._fields})
        made = SOURCES[data.name](**own)
    return prepare_data(made, common, where=f"data {data.name}")


def network_plan(network: Network) -> NetworkPlan:
    """Return what `create_network` takes; timm's and the user's keywords stand under `arguments`."""
    options = options_of(network, beside={"name", "weights"})
    return NetworkPlan(network.name, options.get("arguments", options), network.weights)


def teacher_plan(teacher: TeacherSettings, settings: DistillSettings) -> TeacherPlan:
    """Return what `ready_teacher` takes."""
    train = teacher.train
    identity = teacher.model_dump(mode="json") | {"batch_size": settings.data.batch_size}
    return TeacherPlan(
        network=network_plan(teacher.network),
        lesson=Lesson(train.classes, train.elsewhere, train.samples, all_labels=train.all_labels),
        training=train_plan(train, device=settings.train.device),
        identity=identity,
    )


def train_plan(
    train: TeacherTrainSettings | DistillTrainSettings | EncoderTrainSettings, *, device: str
) -> TrainPlan:
    """Return epochs, optimizer, schedule and seed as the methods take them."""
    return TrainPlan(
        epochs=train.epochs,
        optimizer=_optimizer(train.optimizer),
        learning_rate_schedule=_schedule(train.schedule),
        device=device,
        seed=train.seed,
    )


def criteria_of(
    settings: DistillSettings | DistillEncoderSettings,
) -> dict[str, tuple[DistillationLoss, float]]:
    """Build the losses, by the names of the criteria.

    Raises:
        BadInput: an unknown loss or option, a name that two criteria have.
    """
    criteria: dict[str, tuple[DistillationLoss, float]] = {}
    for criterion in settings.criteria:
        name = criterion.name or criterion.type
        if name in criteria:
            raise BadInput(f"criteria: two are called '{name}'; give one of them another `name`")
        criteria[name] = (create_loss(criterion.type, criterion.options), criterion.weight)
    return criteria


def layers_of(settings: DistillSettings) -> dict[str, tuple[str, str | tuple[str, ...]]]:
    """Return the pairs of layers, by the names of their criteria."""
    return {c.name or c.type: c.layers for c in settings.criteria if c.layers is not None}


def weight_schedules_of(settings: DistillSettings | DistillEncoderSettings) -> dict[str, Schedule]:
    """Return what multiplies the weights, by the names of the criteria."""
    made = {c.name or c.type: _schedule(c.schedule) for c in settings.criteria}
    return {name: schedule for name, schedule in made.items() if schedule is not None}


def options_of(section: Section, *, beside: set[str]) -> dict[str, Any]:
    """Return a section's values by name as Python has them, those `beside` left out."""
    return section.model_dump(exclude=beside)


def names_of(settings: DistillSettings) -> list[str]:
    """Return all names that may be of the form `python:module.function`."""
    networks = [settings.student, *(teacher.network for teacher in settings.teachers)]
    return [settings.data.name, *(network.name for network in networks), *(c.type for c in settings.criteria)]


def state_key(settings: DistillSettings, **others: Any) -> dict[str, Any]:
    """Return what tells one distillation from another; `workers` changes nothing but speed."""
    told = settings.model_dump(mode="json")
    told["data"].pop("workers")
    told["method"].pop("workers", None)
    return {**told, **others}


def _optimizer(optimizer: OptimizerSettings) -> Any:
    options = options_of(optimizer, beside={"name", "learning_rate"})
    return optimizer_factory(optimizer.name, options, learning_rate=optimizer.learning_rate)


def _schedule(schedule: ScheduleSettings | None) -> Schedule | None:
    if schedule is None:
        return None
    return create_schedule(schedule.name, options_of(schedule, beside={"name"}))
