"""Every epoch draws from generators of its own: an epoch is the same whatever was drawn before it.

That is what makes a resumed training equal an uninterrupted one, in loaders and augmentations that draw from
torch, numpy or `random` alike, without any of their states on disk.
"""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch

BEFORE_EPOCHS: Final = 0
PRETRAINING: Final = 2**32 - 1
"""Draws that are no epoch's: epoch e has e + 1."""


@contextmanager
def seeded(seed: int, draw: int, *, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, numpy and `random` with (seed, draw); outside they are as before.

    >>> with seeded(0, 1, device=torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with seeded(0, 1, device=torch.device("cpu")):
    ...     torch.equal(first, torch.rand(1))
    True
    """
    # hashed together, as the sum of seed and draw would give seed 1 the draws of seed 0 one epoch later
    words = [int(word) for word in np.random.SeedSequence([seed, draw]).generate_state(3)]
    former, former_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(words[0])
        random.seed(words[1])
        np.random.seed(words[2])
        try:
            yield
        finally:
            random.setstate(former)
            np.random.set_state(former_numpy)


def loader_generators(*loaders: Iterable[Any]) -> list[torch.Generator]:
    """Return the generators that loaders and their samplers own, each once, in a fixed order."""
    places: list[Any] = []
    for loader in loaders:
        sampler = getattr(loader, "sampler", None)
        batches = getattr(loader, "batch_sampler", None)
        places += [loader, sampler, batches, getattr(batches, "sampler", None)]
    found = [getattr(place, "generator", None) for place in places]
    own = {id(generator): generator for generator in found if isinstance(generator, torch.Generator)}
    return list(own.values())
