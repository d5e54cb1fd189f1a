"""Every test draws the same numbers, whichever ran before it, and in every run: torch seeds itself anew."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from checked_calls import begin_test

SEED = 0


def begin_alike() -> None:
    """Seed what draws without a generator of its own; check all functions' first calls again."""
    begin_test()
    random.seed(SEED)
    np.random.seed(SEED)
    if "torch" in sys.modules:  # whoever has not imported it has drawn nothing from it
        sys.modules["torch"].default_generator.manual_seed(SEED)


@contextmanager
def begun_apart() -> Iterator[None]:
    """Begin alike inside, and go on afterwards as if nothing had been drawn there."""
    torch = sys.modules.get("torch")
    kept = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    begin_alike()
    try:
        yield
    finally:
        begin_test()
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        if torch:
            torch.set_rng_state(kept[2])
