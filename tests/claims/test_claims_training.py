"""What claims train with: parts of the digits, batches by seed, networks by seed, accuracy."""

import pytest
import torch
from torch import nn

from wsi_kd.claims.digits import digits
from wsi_kd.claims.training import accuracy, draw_batches, mlp, train_network
from wsi_kd.core.errors import BadInput


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.5)


def test_the_parts_hold_every_digit_once() -> None:
    parts = digits(3, [900, 60, 837])
    assert [len(part.labels) for part in parts] == [900, 60, 837]
    every = torch.cat([part.inputs for part in parts])
    assert float(every.min()) == 0.0
    assert float(every.max()) == 1.0
    # scikit-learn's images: their 1,797 rows hold 312.36 of ink each on average, the same in whatever order
    assert float(every.double().sum() * 16 / 1797) == pytest.approx(312.5877, abs=0.2)
    counts = torch.cat([part.labels for part in parts]).bincount()
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_seed_alone_cuts_the_parts() -> None:
    first = digits(0, [100, 50])
    torch.rand(7)
    again = digits(0, [100, 50])
    assert torch.equal(first[1].inputs, again[1].inputs)
    assert not torch.equal(first[1].labels, digits(1, [100, 50])[1].labels)


@pytest.mark.parametrize("sizes", [[], [0, 5], [1797, 1], [-3, 20]])
def test_impossible_parts_are_refused(sizes: list[int]) -> None:
    with pytest.raises(BadInput, match="1797 in all"):
        digits(0, sizes)


def test_batches_see_every_sample_before_any_twice() -> None:
    drawn = list(draw_batches(10, steps=7, batch=4, seed=0))
    assert [len(rows) for rows in drawn] == [4] * 7
    for first, second in (drawn[0:2], drawn[2:4], drawn[4:6]):
        assert len(set(first.tolist()) | set(second.tolist())) == 8
    again = list(draw_batches(10, steps=7, batch=4, seed=0))
    assert all(torch.equal(mine, other) for mine, other in zip(drawn, again, strict=True))


@pytest.mark.parametrize("batch", [0, 11])
def test_impossible_batches_are_refused(batch: int) -> None:
    with pytest.raises(BadInput, match="1 to 10"):
        list(draw_batches(10, steps=1, batch=batch, seed=0))


def test_a_network_depends_on_its_seed_alone() -> None:
    first = mlp([4, 3, 2], seed=5)
    state = torch.get_rng_state()
    second = mlp([4, 3, 2], seed=5)
    assert torch.equal(first[0].weight, second[0].weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0].weight, mlp([4, 3, 2], seed=6)[0].weight)


def test_one_step_is_gradient_descent_on_cross_entropy() -> None:
    network = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(network.weight)
    train_network(
        network, torch.ones(4, 1), torch.zeros(4, dtype=torch.int64), steps=1, batch=4, optimizer=sgd, seed=0
    )
    # at equal logits the gradient is probability - truth = (-1/2, 1/2); the step is -0.5 of it
    assert network.weight.tolist() == [[0.25], [-0.25]]
    assert not network.training


def test_soft_labels_train_too() -> None:
    network = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(network.weight)
    train_network(network, torch.ones(2, 1), torch.full((2, 2), 0.5), steps=3, batch=2, optimizer=sgd, seed=0)
    assert network.weight.tolist() == [[0.0], [0.0]]


def test_digits_are_learned_the_same_twice() -> None:
    train, test = digits(0, [600, 400])
    scores = []
    for _ in range(2):
        network = mlp([64, 32, 10], seed=0)
        train_network(network, *train, steps=150, batch=64, optimizer=sgd, seed=0)
        scores.append(accuracy(network, *test))
    assert scores[0] == scores[1]
    assert scores[0] > 0.85


def test_accuracy_counts_and_leaves_the_mode() -> None:
    network = nn.Sequential(nn.Identity(), nn.Dropout(0.9))
    network.train()
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert accuracy(network, logits, torch.tensor([0, 1, 1, 1])) == 0.75
    assert network.training
