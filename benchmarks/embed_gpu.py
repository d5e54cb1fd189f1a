"""Encoders on a GPU beside the matrix-product rate of the same call: goals by encoder, share of the limit."""

import time
from collections.abc import Callable
from statistics import median
from typing import Final

import torch

from bench_record import Value
from embed_parts import build
from wsi_kd.features.network_encoder import NetworkEncoder

GOALS: Final = {
    "resnet50": (4.11, 30_000.0),
    "vit_small_patch16_224": (4.61, 35_000.0),
    "vit_base_patch16_224": (17.58, 13_000.0),
    "vit_large_patch16_224": (61.6, 4_500.0),
}
"""GMAC a tile of 224 px, and tiles a second to reach on an H200."""
GPU_COLUMNS: Final = {
    "encoder": "",
    "compiled": "",
    "tiles/s": ",.0f",
    "goal": ",.0f",
    "matrix products (TF/s)": ",.0f",
    "share of their limit": ".2f",
}
BATCH: Final = 512
PRODUCT_EDGE: Final = 8192
STEADY_S: Final = 10.0


def gpu_rows() -> list[list[Value]]:
    """Measure each encoder in bfloat16, as it is and compiled, on random tiles from page-locked memory."""
    rows: list[list[Value]] = []
    for name, (gmac, goal) in GOALS.items():
        for compiled in (False, True):
            encoder = build(name, precision="bfloat16", device="cuda")
            assert isinstance(encoder, NetworkEncoder)
            if compiled:
                encoder.compile()
            rate, limit = embed_rate(encoder), product_rate()
            rows.append([name, "yes" if compiled else "no", rate, goal, limit, 2e-3 * gmac * rate / limit])
    return rows


def embed_rate(encoder: NetworkEncoder) -> float:
    """Return tiles a second of `begin`, with two batches begun at a time, after the gate and warm-up."""
    batches = [encoder.batch_array(BATCH) for _ in range(2)]
    for batch in batches:
        batch[...] = torch.randint(0, 256, batch.shape, dtype=torch.uint8).numpy()
        encoder.begin(batch, BATCH)()
    rates = []
    for _ in range(5):
        begun: list[Callable[[], object]] = []
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < STEADY_S / 5:
            begun.append(encoder.begin(batches[done % 2], BATCH))
            done += 1
            if len(begun) > 1:
                begun.pop(0)()
        begun.pop()()
        rates.append(done * BATCH / (time.perf_counter() - started))
    return median(rates)


def product_rate() -> float:
    """Return TF/s of a large bfloat16 product on the same card."""
    left, right = (
        torch.randn(PRODUCT_EDGE, PRODUCT_EDGE, device="cuda", dtype=torch.bfloat16) for _ in range(2)
    )
    seconds = []
    for _ in range(7):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            left @ right
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - started) / 10)
    return 2 * PRODUCT_EDGE**3 / median(seconds) / 1e12
