"""What a resumed training equals to the last bit: every loss, and data drawn in worker processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from distillation_parts import (
    CLASSES,
    adamw,
    batch_of,
    make_distiller,
    make_loader,
    same,
    weights_of,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import LOSSES
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.fitting import FitResult
from wsi_kd.kd.outputs import FEATURES, TEACHERS, UNLABELED


class Trained:
    """A distiller and what its training came to."""

    def __init__(self, distiller: Distiller, result: FitResult) -> None:
        self.weights, self.result = weights_of(distiller), result
        self.optimizer = distiller.optimizer.state_dict()["state"]

    def equals(self, other: "Trained") -> bool:
        return (
            self.result == other.result
            and same(self.weights, other.weights)
            and self.optimizer.keys() == other.optimizer.keys()
            and all(same(moments, other.optimizer[index]) for index, moments in self.optimizer.items())
        )


def make_pictures(channels: int, *, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(4 * channels, CLASSES),
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    inputs = torch.randn(3, 12, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    batches: list[Any] = list(zip(inputs, torch.arange(CLASSES).repeat(3, 4), strict=True))
    learned_from = list(inputs) if UNLABELED in LOSSES[name].needs else batches
    settings = {"max_unexplained": 1e9, "min_kept": 0.0, "epochs": 2} if name.startswith("ft") else {}

    def run(epochs: int, state: Path | None = None) -> Trained:
        loss = LOSSES[name](**settings)
        distiller = make_distiller(
            make_pictures(4, seed=0),
            [make_pictures(6, seed=1), make_pictures(6, seed=2)][: 1 + (TEACHERS in loss.needs)],
            criteria={name: (loss, 1.0)},
            layers={name: ("0", "0")} if FEATURES in loss.needs else {},
            optimizer=adamw,
        )
        return Trained(distiller, distiller.fit(learned_from, batches, epochs=epochs, state_path=state))

    whole = run(3)
    run(1, tmp_path / "state")
    torch.rand(3)
    assert run(3, tmp_path / "state").equals(whole)


class Unsteady(Dataset[tuple[Tensor, Tensor]]):
    """Draws with every sample, in whichever process that is."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, labels = batch_of(12)
        return inputs[index] + torch.rand(1), labels[index]


@pytest.mark.slow
def test_draws_in_worker_processes_are_repeated(tmp_path: Path) -> None:
    def run(epochs: int, state: Path | None = None) -> Trained:
        distiller = make_distiller()
        loader = DataLoader(Unsteady(), batch_size=6, shuffle=True, num_workers=1)
        return Trained(distiller, distiller.fit(loader, make_loader(), epochs=epochs, state_path=state))

    whole = run(3)
    run(1, tmp_path / "state")
    assert run(3, tmp_path / "state").equals(whole)


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    make_distiller().fit(make_loader(), make_loader(), epochs=1, state_path=state)
    with safe_open(state, "pt") as handle:
        metadata = handle.metadata()
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # no mapping
    save_file(tensors, state, metadata=metadata | {"schema": "wsi_kd distillation state 1"})
    with pytest.raises(
        BadInput, match="no distillation state of this version; delete it to train from the start"
    ):
        make_distiller().fit(make_loader(), make_loader(), epochs=2, state_path=state)
