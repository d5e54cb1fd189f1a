"""Gaussian bags whose truth is known, and plans small enough for tests."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from wsi_kd.bags.datasets import BagSet
from wsi_kd.training.plan import Architecture, Distillation, Masking, Mining, Optimization, Prototyping

DIM = 64


def gaussian_bags(seed, *, bags=200, instances=100, witness_rate=0.10, easy=4.0, hard=2.5):
    """Negatives: four unit-variance clusters of norm 2. Positive bags come first.

    Their witnesses are shifted, half by `easy` along one axis, half by `hard` along another.
    """
    axes, _ = np.linalg.qr(np.random.default_rng(12345).standard_normal((DIM, DIM)))
    rng = np.random.default_rng(seed)
    features = np.empty((bags, instances, DIM), np.float32)
    tile_labels = np.zeros((bags, instances), np.int8)
    witnesses = max(1, round(witness_rate * instances))
    for bag in range(bags):
        drawn = 2.0 * axes[2:6][rng.integers(0, 4, instances)] + rng.standard_normal((instances, DIM))
        if bag < bags // 2:
            chosen = rng.permutation(instances)[:witnesses]
            half = (witnesses + 1) // 2
            drawn[chosen[:half]] += easy * axes[0]
            drawn[chosen[half:]] += hard * axes[1]
            tile_labels[bag, chosen] = 1
        features[bag] = drawn
    return BagSet(
        slide_ids=tuple(f"bag_{bag:03d}" for bag in range(bags)),
        features=features.reshape(-1, DIM),
        offsets=np.arange(bags + 1, dtype=np.int64) * instances,
        labels=(np.arange(bags) < bags // 2).astype(np.int64),
        tile_labels=tile_labels.reshape(-1),
        coords=np.zeros((bags * instances, 2), np.int64),
        header={},
    )


class Plans(NamedTuple):
    """Plain values of a small run."""

    architecture: Architecture
    optimization: Optimization
    distillation: Distillation
    mining: Mining
    masking: Masking
    prototyping: Prototyping


PLANS = Plans(
    Architecture(teacher="gated_abmil", hidden_dim=32, attention_dim=16, dropout=0.25, student_hidden_dim=0),
    Optimization(
        epochs=4,
        patience=20,
        learning_rate=3e-3,
        weight_decay=1e-2,
        gradient_clip=5.0,
        token_budget=1_000,
        bags_per_step=4,
        seed=0,
        precision="float32",
        device="cpu",
    ),
    Distillation(
        schedule="joint",
        pseudo_label="evidence",
        label_floor=0.0,
        teacher_average=0.0,
        negative_weight=0.1,
        student_weight=1.0,
        warm_up_epochs=0,
        instance_batch=64,
        student_pooling="topk",
        top_k=5,
    ),
    Mining(
        rule="threshold",
        start_epoch=1,
        hidden_fraction=0.9,
        pieces=10,
        threshold=0.9,
        drop_probability=0.5,
        max_drop_fraction=0.5,
        symmetric=True,
        guard=True,
        guard_drop=0.1,
    ),
    Masking(mask_ratio=0.05, average=0.9, consistency_weight=0.5, warm_up_epochs=1),
    Prototyping(
        pooling="topk",
        prototype_decay=0.9,
        label_decay=0.5,
        positive_fraction=0.2,
        temperature=0.1,
        contrast_instances=32,
        contrast_weight=0.5,
        bag_weight=1.0,
        warm_up_epochs=1,
    ),
)


@pytest.fixture(scope="session")
def plans():
    return PLANS


@pytest.fixture(scope="session")
def make_bags():
    return gaussian_bags


@pytest.fixture(scope="session")
def small_parts():
    """16 training and 12 validation bags of 20 instances."""
    return tuple(
        gaussian_bags(seed, bags=bags, instances=20, witness_rate=0.3) for seed, bags in ((1, 16), (2, 12))
    )


@pytest.fixture
def work_dir(tmp_path) -> Path:
    return tmp_path / "run"
