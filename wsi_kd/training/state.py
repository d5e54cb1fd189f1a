"""All that a run needs to go on after a kill as if nothing had happened: one file, new after every epoch.

One safetensors file holds tensors and, as metadata, the JSON of the rest: two files could be torn apart by
a kill between their writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.tensors import publish_tensors, sealed, tensors_below, tensors_hash, unsealed
from wsi_kd.kd.pseudo_labels import AttentionRange
from wsi_kd.mil.weno import TeacherStudent

STATE_NAME: Final = "state.safetensors"

HistoryRow: TypeAlias = dict[str, float | int | str | None]


@dataclass
class TrainingState:
    """A run between two epochs."""

    model: TeacherStudent
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    """Draws the order of bags and instances and what mining hides; dropout draws from torch's global one."""
    epoch: int = 0
    """The next epoch."""
    history: list[HistoryRow] = field(default_factory=list)
    selected_epoch: int | None = None
    selected_loss: float | None = None
    selected_weights: dict[str, Tensor] = field(default_factory=dict)
    mining_stopped: bool = False
    """The guard has switched mining off for good."""
    attention_range: AttentionRange | None = None
    """Of the last epoch, for minmax_global."""
    average: TeacherStudent | None = None
    """The moving average of `model` that makes the pseudo labels; None: `model` makes them."""
    average_decay: float = 0.0
    """What the average keeps of itself at a step."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What a recipe remembers beside the model, by name; saved and restored with it."""

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average, where there is one, a step towards the model: m = d m + (1 - d) model."""
        if self.average is None:
            return
        for average, present in zip(self.average.parameters(), self.model.parameters(), strict=True):
            average.lerp_(present, 1.0 - self.average_decay)
        for kept, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(buffer)

    def select(self, loss: float) -> None:
        """Keep the present weights as the best so far."""
        self.selected_epoch, self.selected_loss = self.epoch, loss
        self.selected_weights = {
            name: value.detach().clone() for name, value in self.model.state_dict().items()
        }

    def roll_back(self) -> None:
        """Return to the selected weights; the optimizer starts fresh, its moments led here."""
        self.model.load_state_dict(self.selected_weights)
        self.optimizer.state.clear()
        if self.average is not None:
            self.average.load_state_dict(self.selected_weights)


def save_state(state: TrainingState, work_dir: Path, *, run_hash: str) -> None:
    """Write the state, replacing the former one."""
    tensors = _tensors(state)
    facts = {
        "run_hash": run_hash,
        "tensors_sha256": tensors_hash(tensors),
        "epoch": state.epoch,
        "history": state.history,
        "selected_epoch": state.selected_epoch,
        "selected_loss": state.selected_loss,
        "mining_stopped": state.mining_stopped,
    }
    publish_tensors(work_dir / STATE_NAME, tensors, metadata=sealed(facts))


def restore_state(state: TrainingState, work_dir: Path, *, run_hash: str) -> bool:
    """Fill `state` (fresh, of the same plan) from the file in `work_dir`, random generators included.

    Returns False, leaving `state` as it is, where there is no file or it belongs to other settings or other
    bags.

    Raises:
        BadInput: the file is damaged.
    """
    path = work_dir / STATE_NAME
    if not path.is_file():
        return False
    facts, tensors = _read(path)
    if facts.get("run_hash") != run_hash:
        return False
    if tensors_hash(tensors) != facts["tensors_sha256"]:
        raise BadInput(f"{path}: damaged (sha256 differs); delete it to train from the start")
    state.epoch, state.history = facts["epoch"], facts["history"]
    state.selected_epoch, state.selected_loss = facts["selected_epoch"], facts["selected_loss"]
    state.mining_stopped = facts["mining_stopped"]
    _restore_tensors(state, tensors)
    return True


def remove_state(work_dir: Path) -> None:
    """Remove the state of a finished run."""
    (work_dir / STATE_NAME).unlink(missing_ok=True)


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"selected.{name}": value for name, value in state.selected_weights.items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors["random.order"] = state.generator.get_state()
    tensors["random.cpu"] = torch.get_rng_state()
    device = _device(state)
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    if state.average is not None:
        tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    tensors |= {f"memory.{name}": value for name, value in state.memory.items()}
    if state.attention_range is not None:
        tensors["attention_range"] = torch.stack(state.attention_range)
    return {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}


def _restore_tensors(state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
    device = _device(state)
    state.model.load_state_dict(tensors_below("model.", tensors))
    state.selected_weights = {
        name: value.to(device) for name, value in tensors_below("selected.", tensors).items()
    }
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors_below("optimizer.", tensors).items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state.generator.set_state(tensors["random.order"])
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    if state.average is not None:
        state.average.load_state_dict(tensors_below("average.", tensors))
    state.memory = {name: value.to(device) for name, value in tensors_below("memory.", tensors).items()}
    if "attention_range" in tensors:
        low, high = tensors["attention_range"].to(device)
        state.attention_range = AttentionRange(low, high)


def _device(state: TrainingState) -> torch.device:
    return next(state.model.parameters()).device


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # not a mapping
            return unsealed(handle.metadata() or {}), tensors
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{path}: not readable as training state ({reason}); delete it to train from the start"
        ) from None
