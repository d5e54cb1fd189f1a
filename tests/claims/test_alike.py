"""Copies trained at once are what each would be alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsi_kd.claims.alike import Alike
from wsi_kd.claims.training import mlp


def test_copies_start_as_the_network():
    network, inputs = mlp([6, 5, 4, 3], seed=0), torch.randn(7, 6)
    logits = Alike(network, copies=2)(inputs)

    assert logits.shape == (2, 7, 3)
    for copied in logits:
        torch.testing.assert_close(copied, network(inputs))


def test_each_copy_learns_as_if_it_were_alone():
    torch.manual_seed(1)
    inputs, labels = torch.randn(20, 6), torch.arange(20) % 3
    losses = [F.cross_entropy, lambda logits, labels: 3.0 * F.cross_entropy(-logits, labels)]
    network = mlp([6, 5, 3], seed=0)
    alike = Alike(network, copies=2)
    optimizer = torch.optim.AdamW(alike.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        sum(loss(logits, labels) for loss, logits in zip(losses, alike(inputs), strict=True)).backward()
        optimizer.step()

    for number, loss in enumerate(losses):
        alone = mlp([6, 5, 3], seed=0)
        own = torch.optim.AdamW(alone.parameters(), lr=0.01)
        for _ in range(20):
            own.zero_grad()
            loss(alone(inputs), labels).backward()
            own.step()
        torch.testing.assert_close(alike.one(number)(inputs), alone(inputs), rtol=1e-4, atol=1e-5)
    assert (alike.one(0)(inputs) - alike.one(1)(inputs)).abs().max() > 0.1
    assert torch.equal(network(inputs), mlp([6, 5, 3], seed=0)(inputs))


def test_another_network_is_refused():
    with pytest.raises(TypeError, match="ReLU"):
        Alike(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), copies=2)
    with pytest.raises(TypeError, match="biases"):
        Alike(nn.Sequential(nn.Linear(2, 2, bias=False)), copies=2)
