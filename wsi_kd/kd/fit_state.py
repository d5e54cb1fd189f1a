"""All that a distillation needs to go on after a kill as if nothing had happened: one file, new each epoch.

One safetensors file holds the tensors and, as metadata, the JSON of the rest: two files could be torn apart
by a kill between their writes. Random draws need no state, see `seeding`; generators that a loader owns do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.tensors import publish_tensors, sealed, tensors_below, tensors_hash, unsealed
from wsi_kd.kd.evaluation import Evaluation

SCHEMA: Final = "wsi_kd distillation state 3"
HistoryRow: TypeAlias = dict[str, float | int]
Facts: TypeAlias = dict[str, Any]


class Learners(NamedTuple):
    """What learns in a distillation."""

    student: nn.Module
    losses: nn.Module


class Best(NamedTuple):
    """The best epoch on the validation part so far."""

    epoch: int
    evaluation: Evaluation
    weights: dict[str, Tensor]
    """The student's, on the CPU."""
    losses: dict[str, Tensor]
    """Those of the layers that losses learn."""


@dataclass
class FitState:
    """A distillation between two epochs."""

    module: nn.Module
    """Student and criteria; no teacher."""
    learners: Learners
    """Its parts."""
    optimizer: torch.optim.Optimizer
    identity: Facts
    """What tells this distillation from another."""
    epoch: int = 0
    """The next epoch."""
    history: list[HistoryRow] = field(default_factory=list)
    best: Best | None = None
    pretrained: dict[str, dict[str, float]] | None = None
    """Figures of the losses that learned before the student, by criterion; None: not yet done."""


def save_state(
    state: FitState, path: Path, *, generators: Sequence[torch.Generator], plan: Sequence[Facts]
) -> None:
    """Write the state, replacing the former one; `plan` holds the weights of each epoch done.

    Raises:
        RunFailed: the optimizer keeps something that is neither tensor nor number, or the disk is full.
    """
    optimizer_tensors, optimizer_facts = _optimizer_parts(state.optimizer)
    tensors = {f"module.{name}": value for name, value in tensors_of(state.module).items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors.items()}
    tensors |= {f"generator.{i}": generator.get_state() for i, generator in enumerate(generators)}
    facts: Facts = {"identity": state.identity, "plan": list(plan), "optimizer": optimizer_facts}
    facts |= {"epoch": state.epoch, "history": state.history, "best": None}
    facts["pretrained"] = state.pretrained
    if state.best is not None:
        tensors |= {f"best.student.{name}": value for name, value in state.best.weights.items()}
        tensors |= {f"best.losses.{name}": value for name, value in state.best.losses.items()}
        facts["best"] = {"epoch": state.best.epoch, **state.best.evaluation._asdict()}
    stored = portable(tensors)
    facts["tensors_sha256"] = tensors_hash(stored)
    publish_tensors(path, stored, metadata={"schema": SCHEMA, **sealed(facts, allow_nan=True)})


def restore_state(
    state: FitState, path: Path, *, generators: Sequence[torch.Generator], plan: Sequence[Facts]
) -> None:
    """Fill `state` from a file, random generators of loaders included; nothing is changed if it does not fit.

    Raises:
        BadInput: the file is damaged, or of another distillation, or its epochs had other weights.
    """
    facts, tensors = _read(path)
    _check_facts(facts, state, plan=plan, where=path)
    _check_tensors(tensors_below("module.", tensors), tensors_of(state.module), where=path)
    if tensors_hash(tensors) != facts["tensors_sha256"]:
        raise BadInput(f"{path}: damaged (sha256 differs); delete it to train from the start")
    stored = tensors_below("generator.", tensors)
    if len(stored) != len(generators):
        raise BadInput(
            f"{path}: the loaders had {len(stored)} generators of their own and now have {len(generators)}; "
            "pass the same loaders, or delete it to train from the start"
        )
    state.module.load_state_dict(tensors_below("module.", tensors))
    _restore_optimizer(state.optimizer, tensors_below("optimizer.", tensors), facts["optimizer"])
    for i, generator in enumerate(generators):
        generator.set_state(stored[str(i)])
    state.epoch, state.history, state.pretrained = facts["epoch"], facts["history"], facts["pretrained"]
    best = facts["best"]
    kept = [tensors_below(f"best.{part}.", tensors) for part in ("student", "losses")]
    state.best = best and Best(best.pop("epoch"), Evaluation(**best), *kept)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state; one that keeps anything but tensors is refused.

    Raises:
        RunFailed: see above.
    """
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise RunFailed(
                f"'{name}' of {type(module).__name__} is {type(value).__name__}; only tensors can be saved"
            )
    return state


def portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, none sharing its memory with another (tied weights do)."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], Facts]:
    """Split an optimizer's state into tensors and the rest."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: Facts = {}
    for index, moments in state["state"].items():
        for name, value in moments.items():
            place = tensors if isinstance(value, Tensor) else numbers
            place[f"{index}.{name}"] = value
    groups = [
        {key: _number(value) for key, value in group.items() if key != "params"}
        for group in state["param_groups"]
    ]
    for name, value in [*numbers.items(), *(item for group in groups for item in group.items())]:
        if not _plain(value):
            raise RunFailed(
                f"{type(optimizer).__name__}: its '{name}' is {type(value).__name__}; only tensors and "
                "numbers can be saved, so train without state_path"
            )
    return tensors, {"state": numbers, "groups": groups}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], facts: Facts) -> None:
    moments: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *facts["state"].items()]:
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    for group, stored in zip(groups, facts["groups"], strict=True):
        # JSON knows neither tuples (Adam's betas) nor tensors (a learning rate that is one, timm's steps)
        group |= {name: _like(group.get(name), value) for name, value in stored.items()}
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _number(value: Any) -> Any:
    """Return the number that a group keeps as a tensor; anything else as it is."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _like(own: Any, stored: Any) -> Any:
    if isinstance(own, Tensor):
        return torch.full_like(own, stored)
    return tuple(stored) if isinstance(own, tuple) else stored


def _plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _check_tensors(stored: Mapping[str, Tensor], own: Mapping[str, Tensor], *, where: Path) -> None:
    """Compare names and shapes before anything is loaded: torch copies what fits and complains then."""
    shapes = [{name: tuple(value.shape) for name, value in tensors.items()} for tensors in (stored, own)]
    differing = sorted(name for name in {*stored, *own} if shapes[0].get(name) != shapes[1].get(name))
    if differing:
        found, expected = (one.get(differing[0], "absent") for one in shapes)
        raise BadInput(
            f"{where}: of other networks or losses ({len(differing)} tensors differ, such as {differing[0]}: "
            f"{found} there, {expected} here); delete it to train from the start"
        )


def _check_facts(facts: Facts, state: FitState, *, plan: Sequence[Facts], where: Path) -> None:
    remedy = "pass what it was trained with, or delete it to train from the start"
    for name, value in state.identity.items():
        found = facts["identity"].get(name)
        if found != value:
            raise BadInput(
                f"{where}: of another distillation ({name} was {found}, now it is {value}); {remedy}"
            )
    for epoch, (was, now) in enumerate(zip(facts["plan"], plan, strict=False)):
        if was != now:
            raise BadInput(
                f"{where}: epoch {epoch} was trained with {was}, now it would be with {now}; {remedy}"
            )


def _read(path: Path) -> tuple[Facts, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as handle:
            header = handle.metadata() or {}
            if header.get("schema") != SCHEMA:
                raise BadInput(
                    f"{path}: no distillation state of this version; delete it to train from the start"
                )
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # not a mapping
            return unsealed(header), tensors
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{path}: not readable as distillation state ({reason}); delete it to train from the start"
        ) from None
