"""Teachers: with weights of their own, or trained on the data first and kept for the next run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.core.places import without_paths
from wsi_kd.core.tensors import publish_tensors, tensors_hash
from wsi_kd.distillation.data import Lesson, Prepared, teacher_loader
from wsi_kd.distillation.methods.plain import distill_plain
from wsi_kd.distillation.networks import NetworkPlan, create_network
from wsi_kd.distillation.task import Task, TrainPlan
from wsi_kd.kd.fit_state import portable
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.seeding import seeded

NETWORK_DRAW: Final = 2**31
"""Draw of `seeded` for the first weights of a network; epochs have the small ones."""
SCHEMA: Final = "wsi_kd teacher 1"
REUSED: Final = "reused"


class TeacherPlan(NamedTuple):
    """A teacher before it is there."""

    network: NetworkPlan
    lesson: Lesson
    training: TrainPlan
    identity: dict[str, Any]
    """The settings that shape it, as JSON knows them."""


class Teacher(NamedTuple):
    """A teacher that is ready."""

    name: str
    """Of its network."""
    network: nn.Module
    origin: str
    """given, trained or reused."""
    sha256: str
    """Of its weights."""
    file: Path | None
    """Where they are kept; None: they were given."""


def new_network(plan: NetworkPlan, *, input_shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """Build a network whose first weights depend on the seed alone."""
    with seeded(seed, NETWORK_DRAW, device=torch.device("cpu")):
        return create_network(plan, input_shape=input_shape, classes=classes)


def ready_teacher(
    plan: TeacherPlan,
    prepared: Prepared,
    *,
    folder: Path,
    on_epoch: Callable[[dict[str, float | int]], None] | None,
) -> Teacher:
    """Return the teacher: of given weights, as an earlier run kept it in `folder`, or trained now.

    What is kept is named after a hash of the data and of all settings that shape the teacher. Of a trained
    one the best epoch on the validation part is taken. A killed training goes on where it was.

    Raises:
        BadInput: as `create_network`, `teacher_loader` and `Distiller.fit`; a kept file that is damaged.
        RunFailed: as `Distiller.fit`.
    """
    data = prepared.data
    network = new_network(
        plan.network, input_shape=data.input_shape, classes=data.classes, seed=plan.training.seed
    )
    if plan.network.weights is not None:
        return Teacher(plan.network.name, network, "given", state_sha256(network), None)
    key = content_hash({**plan.identity, "data": prepared.fingerprint})[:16]
    path = folder / f"{key}.safetensors"
    if path.is_file():
        _load_kept(network, path)
        return Teacher(plan.network.name, network, REUSED, state_sha256(network), path)
    _train(network, plan, prepared, state_path=folder / f"{key}.state.safetensors", on_epoch=on_epoch)
    _keep(network, path, plan.identity)
    (folder / f"{key}.state.safetensors").unlink(missing_ok=True)
    return Teacher(plan.network.name, network, "trained", state_sha256(network), path)


def _train(
    network: nn.Module,
    plan: TeacherPlan,
    prepared: Prepared,
    *,
    state_path: Path,
    on_epoch: Callable[[dict[str, float | int]], None] | None,
) -> None:
    """Train on labels alone; afterwards the network has the weights of its best epoch."""
    task = Task(
        student=network,
        teachers=(),
        data=prepared.data._replace(train=teacher_loader(prepared, plan.lesson), unlabeled=None),
        criteria={"ce": (CrossEntropyLoss(), 1.0)},
        layers={},
        plan=plan.training,
        state_path=state_path,
        on_epoch=on_epoch,
    )
    outcome = distill_plain(task, unlabeled=False)
    network.load_state_dict(outcome.weights)


def _keep(network: nn.Module, path: Path, identity: dict[str, Any]) -> None:
    tensors = portable(network.state_dict())
    told = json.dumps(without_paths(identity))
    facts = {"schema": SCHEMA, "tensors_sha256": tensors_hash(tensors), "settings": told}
    publish_tensors(path, tensors, metadata=facts)


def _load_kept(network: nn.Module, path: Path) -> None:
    remedy = "delete it, and the teacher is trained anew"
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a readable teacher ({error}); {remedy}") from None
    if facts.get("schema") != SCHEMA or facts.get("tensors_sha256") != tensors_hash(tensors):
        raise BadInput(f"{path}: a damaged teacher, or none of this version; {remedy}")
    network.load_state_dict(tensors)


def state_sha256(network: nn.Module) -> str:
    """Return the hash of a network's weights and buffers, wherever they stand."""
    return tensors_hash(portable(network.state_dict()))
