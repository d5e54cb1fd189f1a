import numpy as np
import pytest
import torch

from wsi_kd.mil.projectors import create_projector
from wsi_kd.mil.stain_jitter import (
    DAB,
    EOSIN,
    HEMATOXYLIN,
    DensityChange,
    StainJitter,
    change_stains,
    draw_changes,
)

CPU = torch.device("cpu")
KINDS = ("hed", "stain_matrix")


def levels(tiles=4, edge_px=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (tiles, edge_px, edge_px, 3), generator=generator).float()


def unit(*rows):
    rows = np.array(rows)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def draw(kind, *, tiles=4, seed=0, **how):
    torch.manual_seed(seed)
    return draw_changes(StainJitter(kind, **how), tiles, device=CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_changes_nothing(kind):
    tiles = levels()
    assert (change_stains(tiles, draw(kind)) - tiles).abs().max() < 2e-3


@pytest.mark.parametrize("kind", KINDS)
def test_white_stays_white_at_any_strength(kind):
    white = torch.full((4, 2, 2, 3), 255.0)
    np.testing.assert_allclose(change_stains(white, draw(kind, strength=0.5)), 255.0, atol=1e-3)


def test_equal_factors_keep_gray_gray():
    gray = torch.tensor([30.0, 99.0, 200.0]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    stains = torch.tensor(unit(HEMATOXYLIN, EOSIN, DAB)).float()
    matrix = torch.linalg.inv(stains) @ (1.3 * stains)
    shown = change_stains(gray.contiguous(), DensityChange(matrix[None], torch.zeros(1, 3)))
    assert (shown - shown[..., :1]).abs().max() < 1e-2
    expected = 256 * ((gray[..., 0].numpy() + 1) / 256) ** 1.3 - 1
    np.testing.assert_allclose(shown[..., 0], expected, rtol=1e-4)


def test_hed_scales_a_stain_alone_by_hand():
    """A pixel of pure eosin, its factor 1.1 and shift 0.05: density 1.1 c + 0.05 along eosin."""
    stains = unit(HEMATOXYLIN, EOSIN, DAB)
    pixel = 256 * np.exp(-0.8 * stains[1]) - 1
    matrix = np.linalg.inv(stains) @ (np.array([[1.0], [1.1], [1.0]]) * stains)
    change = DensityChange(torch.tensor(matrix[None]).float(), torch.tensor(0.05 * stains[1]).float()[None])
    shown = change_stains(torch.tensor(pixel).float().view(1, 1, 1, 3), change)
    expected = 256 * np.exp(-(1.1 * 0.8 + 0.05) * stains[1]) - 1
    np.testing.assert_allclose(shown.flatten(), expected, rtol=1e-4)


def test_hed_draws_factors_and_shifts_within_their_bounds():
    stains = torch.tensor(unit(HEMATOXYLIN, EOSIN, DAB))
    change = draw("hed", tiles=3000, strength=0.2, bias=0.1)
    diagonal = stains @ change.matrix.double() @ torch.linalg.inv(stains)
    factors = torch.diagonal(diagonal, dim1=1, dim2=2)
    shifts = change.offset.double() @ torch.linalg.inv(stains)
    assert (diagonal - torch.diag_embed(factors)).abs().max() < 1e-5
    for drawn, middle, reach in ((factors, 1.0, 0.2), (shifts, 0.0, 0.1)):
        assert drawn.min() >= middle - reach - 1e-5
        assert drawn.max() <= middle + reach + 1e-5
        assert (drawn.mean(dim=0) - middle).abs().max() < 0.05 * reach
        assert (drawn.std(dim=0) - reach / 3**0.5).abs().max() < 0.05 * reach


def test_moved_stains_keep_their_amount_and_turn_by_the_noise():
    stains = torch.tensor(unit(HEMATOXYLIN, EOSIN))
    moved = stains @ draw("stain_matrix", tiles=4000, strength=0.05).matrix.double()
    assert (moved.norm(dim=-1) - 1).abs().max() < 1e-5
    squared_angle = 2 - 2 * (moved * stains).sum(dim=-1)  # small angles; two directions at right angles
    assert (squared_angle.mean(dim=0) / (2 * 0.05**2) - 1).abs().max() < 0.06


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_change_and_tiles_differ(kind):
    first, again, other = (draw(kind, seed=seed, strength=0.1) for seed in (1, 1, 2))
    assert torch.equal(first.matrix, again.matrix)
    assert not torch.equal(first.matrix, other.matrix)
    assert not torch.equal(first.matrix[0], first.matrix[1])


@pytest.mark.gpu
def test_a_seed_gives_the_same_picture_on_a_card():
    change = draw("hed", strength=0.2, bias=0.05)
    torch.manual_seed(0)
    there = draw_changes(StainJitter("hed", 0.2, 0.05), 4, device=torch.device("cuda"))
    shown = change_stains(levels().cuda(), there).cpu()
    np.testing.assert_allclose(shown, change_stains(levels(), change), atol=0.02)


def test_a_projector_shows_other_stains_only_while_it_learns_and_in_any_pieces():
    torch.manual_seed(0)
    projector = create_projector("cnn_small", feature_dim=3 * 16 * 16, hidden_dim=8)
    pixels = levels(7, 16).to(torch.uint8).flatten(1)
    jitter = StainJitter("hed", 0.3, 0.0)
    shown = []
    for chunk in (100, 3):
        projector.learn_by(chunk=chunk, augmentation="dihedral", stains=jitter)
        torch.manual_seed(5)
        hidden = projector.train()(pixels)
        hidden.square().sum().backward()
        shown.append((hidden.detach(), projector.head.weight.grad.clone()))
        projector.zero_grad()
    for one, other in zip(*shown, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        plain = projector(pixels)
    projector.learn_by(chunk=100, augmentation="none")
    torch.testing.assert_close(projector.eval()(pixels), plain)
    assert (shown[0][0] - plain).abs().max() > 1e-3
