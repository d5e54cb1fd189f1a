"""Claims whose outcome is known, for tests of what runs, keeps and shows them; other processes find them."""

import math
import os
from pathlib import Path

import torch

from wsi_kd.claims.claim import Check, Claim, Found, Series, observe
from wsi_kd.core.errors import BadInput

COUNTED = "WSI_KD_COUNTED_CALLS"
"""Environment variable with a file to which `counted` adds a letter a call, in whatever process."""
HOSTILE = '<script>alert("x")</script> & \u202e[red] \x07'


def good(seeds: int) -> Found:
    rows = [observe("KD, n=300", [0.8 + 0.01 * seed for seed in range(seeds)]), observe("CE", [0.5])]
    series = [Series("KD", (300.0, 30000.0), (0.8, 0.95)), Series("CE", (300.0, 30000.0), (0.7, math.nan))]
    return Found(
        rows,
        [Check("KD - CE", 0.31, 0.15), Check("error", 1e-17, at_most=1e-12)],
        series,
        x_label="samples",
        y_label="accuracy",
    )


def bad(seeds: int) -> Found:
    return Found(
        [observe("KD", [0.5] * seeds)], [Check("KD - CE", -0.02, 0.01), Check("KD", 0.5, 0.4, why="few")]
    )


def undefined(seeds: int) -> Found:
    rows = [observe("KD", [math.nan] * seeds), observe("loss", [math.inf])]
    return Found(rows, [Check("KD - CE", math.nan, 0.01)])


def unchecked(seeds: int) -> Found:
    return Found([observe("KD", [0.5] * seeds)], [])


def counted(seeds: int) -> Found:
    with Path(os.environ[COUNTED]).open("a", encoding="utf-8") as calls:
        calls.write("x")
    return Found([observe("process", [float(os.getpid())])], [Check("seeds", float(seeds), 1.0)])


def drawing(seeds: int) -> Found:
    """Draws from the global generator: the figure must not depend on what was drawn before."""
    figure = float(torch.rand(()))
    threads = float(torch.get_num_threads())
    return Found([observe("drawn", [figure] * seeds)], [Check("threads", threads, 1.0, 1.0)])


def broken(seeds: int) -> Found:
    raise BadInput(f"{seeds} seeds: no data")


def hostile(seeds: int) -> Found:
    del seeds
    return Found(
        [observe(HOSTILE, [0.1, 0.2])],
        [Check(HOSTILE, 0.0, 1.0)],
        [Series(HOSTILE, (1.0, 2.0), (0.1, 0.2))],
        x_label=HOSTILE,
        y_label=HOSTILE,
    )


def killed(seeds: int) -> Found:
    os._exit(seeds)


def drawn_claim(run, *, method: str = "") -> Claim:
    return Claim(
        method=method or run.__name__,
        paper="Nobody, Nowhere 2020, arXiv 0000.00000",
        claims="distillation helps",
        setting="figures made up",
        run=run,
        seeds=3,
        reference="KD .81, CE .50",
    )


def hostile_claim() -> Claim:
    return Claim("hostile", HOSTILE, HOSTILE, HOSTILE, hostile, 2, HOSTILE)
