"""Prototypes, votes and the contrastive loss against hand-worked values."""

import math

import pytest
import torch

from wsi_kd.training.prototypes import (
    contrastive_losses,
    move_prototypes,
    prototype_members,
    unit_length,
    vote,
)


def test_a_prototype_moves_towards_the_mean_of_its_members_and_keeps_length_one():
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    embeddings = torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    members = torch.tensor([[True, False], [True, False], [False, False]])
    moved = move_prototypes(prototypes, embeddings, members=members, decay=0.5)
    expected = torch.tensor([0.5 + 0.5 * 0.3, 0.5 * 0.9])
    torch.testing.assert_close(moved[0], expected / expected.norm())
    assert moved[1].tolist() == [0.0, 1.0]  # nobody moved it


def test_the_first_members_give_a_prototype_its_direction():
    embeddings = unit_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert embeddings[1].tolist() == [0.0, 0.0]
    members = torch.tensor([[True, False], [False, False]])
    moved = move_prototypes(torch.zeros(2, 2), embeddings, members=members, decay=0.99)
    torch.testing.assert_close(moved, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_negative_bags_move_the_negative_prototype_and_the_top_of_positive_bags_the_positive_one():
    log_odds = torch.tensor([0.1, 3.0, 2.0, -1.0, 9.0, 8.0, -5.0])
    offsets, labels = torch.tensor([0, 4, 6, 7]), torch.tensor([1, 0, 1])
    members = prototype_members(log_odds, offsets, labels, positive_fraction=0.5)
    assert members[:, 0].tolist() == [False, False, False, False, True, True, False]
    assert members[:, 1].tolist() == [False, True, True, False, False, False, True]
    least = prototype_members(log_odds, offsets, labels, positive_fraction=0.01)
    assert least[:, 1].nonzero().flatten().tolist() == [1, 6]  # one a positive bag at least


def test_the_nearer_prototype_has_the_vote_and_equals_are_negative():
    prototypes = torch.eye(2)
    embeddings = unit_length(torch.tensor([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]]))
    assert vote(embeddings, prototypes).tolist() == [0.0, 1.0, 0.0]


def test_the_contrastive_loss_by_hand():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    keys = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    apart = contrastive_losses(queries, keys, torch.tensor([0, 1]), temperature=0.5)
    first = -math.log(math.exp(2.0) / (math.exp(2.0) + math.exp(1.2)))
    second = -math.log(math.exp(1.6) / (math.exp(0.0) + math.exp(1.6)))
    assert apart.tolist() == pytest.approx([first, second], abs=1e-12)
    together = contrastive_losses(queries, keys, torch.tensor([1, 1]), temperature=0.5)
    other = -math.log(math.exp(1.2) / (math.exp(2.0) + math.exp(1.2)))
    assert together[0].item() == pytest.approx((first + other) / 2, abs=1e-12)


def test_the_contrastive_loss_has_the_right_gradient():
    generator = torch.Generator().manual_seed(0)
    queries, keys = (
        torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    families = torch.tensor([0, 1, 0, 1, 1])
    assert torch.autograd.gradcheck(
        lambda first, second: contrastive_losses(first, second, families, temperature=0.7), (queries, keys)
    )
