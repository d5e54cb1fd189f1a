"""Image projectors: chunks against the whole, memory, symmetries, shapes and refusals."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.mil.colors import color_statistics
from wsi_kd.mil.image_networks import IMAGE_NETWORKS, alexnet_cifar, cnn_small, resnet18
from wsi_kd.mil.projectors import ImageProjector, LinearProjector, create_projector, turn
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.scaling import FeatureScaling

PX = 16
SHAPE = {"classes": 2, "hidden_dim": 8, "attention_dim": 4, "dropout": 0.0, "student_hidden_dim": 0}


def tiles(count, px=PX, seed=0):
    rows = np.random.default_rng(seed).integers(0, 256, (count, 3 * px * px), dtype=np.uint8)
    return torch.from_numpy(rows)


def image_projector(name="cnn_small", px=PX, hidden_dim=8):
    torch.manual_seed(0)
    return create_projector(name, feature_dim=3 * px * px, hidden_dim=hidden_dim)


def gradients(module, rows):
    module.zero_grad(set_to_none=True)
    weights = torch.linspace(-1.0, 1.0, 8, dtype=next(module.parameters()).dtype)
    hidden = module(rows)
    (hidden * weights).square().sum().backward()
    return [hidden.detach(), *(parameter.grad.clone() for parameter in module.parameters())]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", ["cnn_small", "alexnet_cifar", "resnet18"])
def test_gradients_in_chunks_equal_those_of_the_whole_bag(name, dtype, tolerance):
    projector = image_projector(name).to(dtype)
    rows = tiles(7)
    projector.learn_by(chunk=7, augmentation="none")
    whole = gradients(projector, rows)
    projector.learn_by(chunk=3, augmentation="none")
    for found, expected in zip(gradients(projector, rows), whole, strict=True):
        scale = expected.abs().max()
        assert scale > 0
        assert (found - expected).abs().max() <= tolerance * scale


def test_augmentation_shows_a_chunk_the_same_in_both_passes():
    projector = image_projector().double()
    rows = tiles(9)
    results = []
    for chunk in (9, 2):
        projector.learn_by(chunk=chunk, augmentation="dihedral")
        torch.manual_seed(3)
        results.append(gradients(projector, rows))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()
    projector.learn_by(chunk=2, augmentation="none")
    assert not torch.allclose(gradients(projector, rows)[0], results[0][0])


def test_without_gradient_or_in_eval_mode_tiles_are_shown_as_they_are():
    projector = image_projector().double()
    rows = tiles(5)
    projector.learn_by(chunk=2, augmentation="dihedral")
    with torch.no_grad():
        quiet = projector(rows)
        assert torch.equal(quiet, projector(rows))
    assert torch.allclose(projector.eval()(rows), quiet, rtol=0, atol=1e-12)
    state = torch.get_rng_state()
    projector.train()(rows)
    assert not torch.equal(torch.get_rng_state(), state)


def test_no_prediction_depends_on_the_chunk_of_training():
    projector = image_projector()
    rows = tiles(50)
    found = []
    for chunk in (3, 50):
        projector.learn_by(chunk=chunk, augmentation="dihedral")
        with torch.no_grad():
            found.append(projector(rows))
    assert torch.equal(*found)


def test_the_eight_symmetries_are_those_of_the_square():
    tile = torch.arange(3 * 4 * 4 * 2).view(3, 4, 4, 2)[:1]
    found = {tuple(turn(tile, torch.tensor([code])).flatten().tolist()) for code in range(8)}
    expected = set()
    for turned in (tile, tile.transpose(1, 2)):
        expected |= {tuple(torch.rot90(turned, k, (1, 2)).flatten().tolist()) for k in range(4)}
    assert len(found) == 8
    assert found == expected
    assert torch.equal(turn(tile, torch.tensor([0])), tile)


def test_each_tile_of_a_batch_is_turned_by_its_own_symmetry():
    several = torch.arange(8 * 9 * 3).view(8, 3, 3, 3)
    codes = torch.tensor([5, 0, 3, 1, 7, 2, 6, 4])
    alone = [turn(tile[None], code[None])[0] for tile, code in zip(several, codes, strict=True)]
    assert torch.equal(turn(several, codes), torch.stack(alone))


def test_pixels_are_scaled_to_minus_one_and_one_in_their_places():
    projector = image_projector(px=16, hidden_dim=2)
    seen = []
    projector.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    row = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    row[0, 2, 5, 1] = 255
    with torch.no_grad():
        projector(row.flatten(1))
    expected = torch.full((1, 3, 16, 16), -1.0)
    expected[0, 1, 2, 5] = 1.0
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize(
    ("build", "px", "width"),
    [
        (alexnet_cifar, 32, 192 * 3 * 3),
        (alexnet_cifar, 15, 192),
        (alexnet_cifar, 64, 192 * 3 * 3),
        (cnn_small, 28, 50 * 4 * 4),
        (cnn_small, 27, 50 * 3 * 3),
        (cnn_small, 16, 50),
        (cnn_small, 96, 50 * 5 * 5),
        (resnet18, 8, 512),
        (resnet18, 27, 512),
    ],
)
def test_networks_give_the_width_they_say(build, px, width):
    network = build(px)
    with torch.no_grad():
        assert network.layers(torch.randn(2, 3, px, px)).shape == (2, width)
    assert network.width == width


def test_alexnet_is_the_papers():
    convolutions = [part for part in alexnet_cifar(32).layers if isinstance(part, nn.Conv2d)]
    channels = [(part.in_channels, part.out_channels) for part in convolutions]
    assert channels == [(3, 96), (96, 192), (192, 384), (384, 384), (384, 192)]
    assert sum(isinstance(part, nn.MaxPool2d) for part in alexnet_cifar(32).layers) == 3


def test_resnet_has_eighteen_layers_with_weights():
    layers = resnet18(32).layers
    shortcuts = {
        id(part) for block in layers if hasattr(block, "shortcut") for part in block.shortcut.modules()
    }
    main = [part for part in layers.modules() if isinstance(part, nn.Conv2d) and id(part) not in shortcuts]
    assert len(main) + 1 == 18  # the classifier is the head of the projector
    assert sum(p.numel() for p in layers.parameters()) == 11_176_512  # torchvision's without its classifier


@pytest.mark.parametrize("name", sorted(IMAGE_NETWORKS))
def test_no_network_keeps_statistics_of_a_batch(name):
    network = IMAGE_NETWORKS[name].build(32).layers.double()
    assert not list(network.buffers())
    images = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([network(image[None]) for image in images])
        assert (network(images) - alone).abs().max() < 1e-10


def test_a_model_of_pixels_scores_packed_bags_as_one_by_one():
    torch.manual_seed(0)
    model = create_model(
        "gated_abmil", **SHAPE, feature_dim=3 * PX * PX, with_student=True, projector="cnn_small"
    )
    model.double().eval()
    rows, offsets = tiles(9), [0, 1, 6, 9]
    with torch.no_grad():
        packed = model(rows, torch.tensor(offsets))
        for bag, (start, end) in enumerate(pairwise(offsets)):
            alone = model(rows[start:end], torch.tensor([0, end - start]))
            assert (packed.bag_logits[bag] - alone.bag_logits[0]).abs().max() < 1e-9
            assert (packed.instance_logits[start:end] - alone.instance_logits).abs().max() < 1e-9


def test_linear_scales_projects_and_cuts_at_zero():
    torch.manual_seed(0)
    projector, scaling = create_projector("linear", feature_dim=5, hidden_dim=3), FeatureScaling(5)
    scaling.fit(mean=torch.arange(5.0), deviation=torch.full((5,), 2.0))
    rows = torch.randn(4, 5)
    assert isinstance(projector, LinearProjector)
    assert set(projector.state_dict()) == {"weight", "bias"}
    scaled = (rows - torch.arange(5.0)) / 2.0
    expected = torch.relu(scaled @ projector.weight.T + projector.bias)
    assert torch.allclose(projector(rows, scaling), expected, atol=1e-6)
    assert expected.max() > 0


def test_color_statistics_of_blocks_are_those_of_all():
    rows = tiles(700, px=64)  # more than one block
    colors = rows.view(700, -1, 3).double()
    expected = torch.cat([colors.mean(dim=1), colors.std(dim=1, correction=0)], dim=1)
    assert (color_statistics(rows) - expected).abs().max() < 1e-3


def test_distance_of_a_tile_is_that_of_its_colors():
    model = create_model(
        "gated_abmil", **SHAPE, feature_dim=3 * PX * PX, with_student=False, projector="cnn_small"
    )
    mean, deviation = torch.tensor([10.0, 20, 30, 0, 0, 0]), torch.tensor([2.0, 4, 5, 1, 1, 1])
    model.scaling.fit(mean=mean, deviation=deviation)
    flat = torch.tensor([12, 20, 20], dtype=torch.uint8).repeat(1, PX * PX)
    expected = ((1.0 + 0.0 + 4.0) / 6) ** 0.5
    assert model.distances(flat).tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("name", "feature_dim", "message"),
    [
        ("cnn_smal", 768, r"unknown projector 'cnn_smal'; known: .*did you mean 'cnn_small'"),
        (
            "cnn_small",
            100,
            "square RGB tiles, rows of 100 values are none; set embed.encoder to pixels",
        ),
        ("cnn_small", 3 * 15 * 15, "needs tiles of at least 16 px, these have 15; raise tile.tile_px"),
    ],
)
def test_what_cannot_be_read_as_tiles_is_refused(name, feature_dim, message):
    with pytest.raises(BadInput, match=message):
        create_projector(name, feature_dim=feature_dim, hidden_dim=4)


@pytest.mark.parametrize("name", sorted(IMAGE_NETWORKS))
def test_the_smallest_tile_has_a_pixel_left(name):
    px = IMAGE_NETWORKS[name].smallest_px
    projector = image_projector(name, px=px)
    assert isinstance(projector, ImageProjector)
    assert torch.isfinite(projector(tiles(2, px=px))).all()
    if name != "resnet18":
        with pytest.raises(BadInput, match="needs tiles of at least"):
            image_projector(name, px=px - 1)


PEAK = """
import re
from pathlib import Path
import torch
from wsi_kd.mil.projectors import create_projector
torch.set_num_threads(1)
projector = create_projector("cnn_small", feature_dim=3 * 32 * 32, hidden_dim=16)
# The first passes also load libraries and fill the allocator: they are not told.
for turn, (instances, chunk) in enumerate([(256, 128)] * 4 + [(1024, 128), (1024, 1024)]):
    projector.learn_by(chunk=chunk, augmentation="dihedral")
    rows = torch.zeros((instances, 3 * 32 * 32), dtype=torch.uint8)
    projector(rows).square().sum().backward()
    if turn < 3:
        continue
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin with the parent's
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_grows_with_a_bag_by_its_pixels_and_not_by_its_activations():
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many, whole = (float(line) for line in done.stdout.split())  # MiB, each at least the former
    pixels = (1024 - 256) * 3 * 32 * 32 / 2**20
    assert many - few < 8 * pixels  # 18 MiB
    assert whole - many > 50 * pixels
