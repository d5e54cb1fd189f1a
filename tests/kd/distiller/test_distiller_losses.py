"""Every loss of the registry trains inside the distiller, from its own pair of convolutions."""

from typing import Any

import pytest
import torch
from distillation_parts import CLASSES, adamw, make_distiller
from torch import nn

from wsi_kd.kd import LOSSES
from wsi_kd.kd.outputs import FEATURES, TEACHERS


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


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_falls(name: str) -> None:
    loss = LOSSES[name]()
    teachers = [make_pictures(8, seed=1), make_pictures(6, seed=2)][: 1 + (TEACHERS in loss.needs)]
    reads = FEATURES in loss.needs
    distiller = make_distiller(
        make_pictures(4, seed=0),
        teachers,
        criteria={name: (loss, 1.0)},
        layers={name: ("0", "0")} if reads else {},
        optimizer=adamw,
    )
    batches = make_batches()
    distiller.prepare(batches[0])
    if hasattr(loss, "pretrain"):
        maps = [outputs[0].features[name] for outputs in distiller.teacher_outputs(batches)]
        assert maps[0].shape == (12, 8, 8, 8)
        assert not maps[0].requires_grad
        loss.pretrain(maps, epochs=30, max_unexplained=1.0)
    history = distiller.fit(batches, batches, epochs=8).history
    assert history[-1][name] < history[0][name]
