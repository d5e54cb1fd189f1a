"""Does the soft ratio that kernels suggest hold for a trained network: odd against even digits."""

from functools import cache
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from wsi_kd.claims.digits import Samples, digits
from wsi_kd.claims.training import draw_batches, mlp
from wsi_kd.kd.soft_ratio import suggest_soft_ratio

RATIOS: Final = (1.0, 0.8, 0.6, 0.4, 0.2, 0.05)
SIZES: Final = (300, 150, 1200)
"""Digits for the teacher, the student and the test."""
STEPS: Final = 300
BATCH: Final = 50


class _Task(NamedTuple):
    train: Samples
    test: Samples
    logits: Tensor
    """Of the teacher, on the student's digits."""
    suggested: float


class Trained(NamedTuple):
    """Test accuracy of the trained students of one seed."""

    accuracy: dict[float, float]
    """By soft ratio."""
    suggested: float
    """The soft ratio that the kernels chose, without a look at the test part."""


def train_students(seed: int) -> Trained:
    """Train a network at every soft ratio, and ask the kernels which one they would have taken."""
    task = _task(seed)
    return Trained({ratio: _train(task, ratio, seed) for ratio in RATIOS}, task.suggested)


@cache
def _task(seed: int) -> _Task:
    for_teacher, train, test = (_odd(part) for part in digits(seed, SIZES))
    teacher = LogisticRegression(C=0.1, max_iter=500).fit(
        for_teacher.inputs.numpy(), for_teacher.labels.numpy()
    )
    logits = torch.from_numpy(teacher.decision_function(train.inputs.numpy())).float()
    suggestion = suggest_soft_ratio(
        train.inputs, logits, train.labels, ratios=RATIOS, temperatures=(1.0,), seed=seed
    )
    return _Task(train, test, logits, suggestion.best.soft_ratio)


def _odd(part: Samples) -> Samples:
    return Samples(part.inputs, part.labels % 2)


def _train(task: _Task, ratio: float, seed: int) -> float:
    network = mlp([64, 64, 1], seed=seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    soft = torch.sigmoid(task.logits)
    target = ratio * soft + (1.0 - ratio) * task.train.labels.float()  # at temperature 1 one mixed label
    for rows in draw_batches(len(soft), steps=STEPS, batch=BATCH, seed=seed):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network(task.train.inputs[rows])[:, 0], target[rows])
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        found = network(task.test.inputs)[:, 0] > 0
    return float(found.eq(task.test.labels.bool()).double().mean())
