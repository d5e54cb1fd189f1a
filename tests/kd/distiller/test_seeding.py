"""Draws of an epoch are its own, and the caller's are left alone."""

import random

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from wsi_kd.kd.seeding import loader_generators, seeded

CPU = torch.device("cpu")


def draws() -> tuple[float, float, float]:
    return torch.rand(1).item(), random.random(), float(np.random.random())


def inside(seed: int, draw: int) -> tuple[float, float, float]:
    with seeded(seed, draw, device=CPU):
        return draws()


def test_the_same_seed_and_epoch_draw_the_same() -> None:
    first = inside(3, 1)
    draws()
    assert inside(3, 1) == first
    others = [inside(3, 2), inside(4, 1), inside(4, 0), inside(2, 2), inside(0, 4)]
    assert all(ours != theirs for other in others for ours, theirs in zip(other, first, strict=True))


def test_the_callers_draws_go_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    expected = [draws(), draws()]
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    found = [draws()]
    with seeded(9, 9, device=CPU):
        draws()
    assert [*found, draws()] == expected


def test_generators_of_loaders_are_found_once() -> None:
    data = TensorDataset(torch.zeros(4, 1))
    own, sampling, batching = (torch.Generator().manual_seed(i) for i in range(3))
    shuffled = DataLoader(data, shuffle=True, generator=own)
    sampled = DataLoader(data, sampler=RandomSampler(data, generator=sampling))
    batched = DataLoader(
        data, batch_sampler=BatchSampler(RandomSampler(data, generator=batching), 2, drop_last=False)
    )
    assert loader_generators(shuffled, shuffled, sampled, batched, [1, 2]) == [own, sampling, batching]
    assert loader_generators(DataLoader(data)) == []
