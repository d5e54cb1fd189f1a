"""Starts of a narrow network from a trained wide one, and how soon training brings each to the same place."""

from functools import cache
from typing import Final, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor, nn

from wsi_kd.claims.digits import Samples, digits
from wsi_kd.claims.training import accuracy, draw_batches, mlp, train_network
from wsi_kd.kd.copy_average_init import copy_average_init, importance, refit

Start: TypeAlias = Literal["copy and average", "copies alone", "k-means", "random"]
STARTS: Final[tuple[Start, ...]] = ("copy and average", "copies alone", "k-means", "random")
WIDE: Final = 48
NARROW: Final = 8
STEPS: Final = 600
LOOK_EVERY: Final = 10
BATCH: Final = 64


class Trained(NamedTuple):
    """A wide network and its data."""

    network: nn.Sequential
    train: Samples
    test: Samples


def start_and_train(start: Start, seed: int) -> tuple[float, float, float]:
    """Return a start's relative error of logits, its accuracy, and its steps to what random ends at.

    The steps are counted in tens until the error on the test part is no higher than where the random start,
    fitted as well, has come after all its steps.
    """
    wide = _wide(seed)
    network = _build(start, wide, seed)
    first = _error(network, wide)
    first_accuracy = accuracy(network, wide.test.inputs, wide.test.labels)
    errors = _train(network, wide, seed)
    goal = _random_end(seed)
    steps = next((step for step, error in errors if error <= goal * (1 + 1e-9)), STEPS)
    return first, first_accuracy, float(steps)


@cache
def _wide(seed: int) -> Trained:
    train, test = digits(seed, [1000, 797])
    network = mlp([64, WIDE, 10], seed=seed)
    train_network(
        network,
        train.inputs,
        train.labels,
        steps=800,
        batch=BATCH,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=5e-3),
        seed=seed,
    )
    return Trained(network.requires_grad_(requires_grad=False), train, test)


@cache
def _random_end(seed: int) -> float:
    wide = _wide(seed)
    return _train(_build("random", wide, seed), wide, seed)[-1][1]


def _build(start: Start, wide: Trained, seed: int) -> nn.Sequential:
    first, second = wide.network[0], wide.network[2]
    if not (isinstance(first, nn.Linear) and isinstance(second, nn.Linear)):
        raise TypeError("the wide network has another form")
    inputs = wide.train.inputs
    if start == "copy and average":
        pair = copy_average_init(first, second, NARROW, activation=F.relu, calibration=inputs)
        return nn.Sequential(pair[0], nn.ReLU(), pair[1])
    network = mlp([64, NARROW, 10], seed=seed + 100)
    own, last = network[0], network[2]
    if not (isinstance(own, nn.Linear) and isinstance(last, nn.Linear)):
        raise TypeError("the narrow network has another form")
    with torch.no_grad():
        if start == "copies alone":
            kept = importance(first, second, activation=F.relu, inputs=inputs).argsort(descending=True)[
                :NARROW
            ]
            own.weight.copy_(first.weight[kept])
            own.bias.copy_(first.bias[kept])
        elif start == "k-means":
            rows = _centers(torch.cat([first.weight, first.bias[:, None]], dim=1), seed)
            own.weight.copy_(rows[:, :-1])
            own.bias.copy_(rows[:, -1])
        refit(last, F.relu(own(inputs)), wide.network(inputs))
    return network


def _centers(rows: Tensor, seed: int) -> Tensor:
    found = KMeans(NARROW, n_init=4, random_state=seed).fit(rows.numpy())
    return torch.from_numpy(found.cluster_centers_).to(rows)


def _train(network: nn.Sequential, wide: Trained, seed: int) -> list[tuple[int, float]]:
    """Train on the wide network's logits; return steps and error on the test part."""
    network.requires_grad_(requires_grad=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    errors = [(0, _error(network, wide))]
    batches = draw_batches(len(wide.train.inputs), steps=STEPS, batch=BATCH, seed=seed)
    for step, rows in enumerate(batches, start=1):
        inputs = wide.train.inputs[rows]
        optimizer.zero_grad()
        torch.autograd.backward(F.mse_loss(network(inputs), wide.network(inputs)))
        optimizer.step()
        if step % LOOK_EVERY == 0:
            errors.append((step, _error(network, wide)))
    return errors


@torch.no_grad()
def _error(network: nn.Sequential, wide: Trained) -> float:
    """Return the mean squared difference of the logits, relative to the wide network's variance."""
    target = wide.network(wide.test.inputs)
    apart = (network(wide.test.inputs) - target).square().sum()
    return float(apart / (target - target.mean(dim=0)).square().sum())
