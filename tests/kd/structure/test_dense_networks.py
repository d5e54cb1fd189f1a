"""The U-Net of any width: what it gives untrained, its size, and what it refuses."""

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.cost import count_parameters
from wsi_kd.kd.dense_networks import UNet


def block(before: int, after: int) -> int:
    return 9 * before * after + after + 9 * after * after + after


def test_untrained_it_changes_nothing_and_stays_in_range():
    torch.manual_seed(0)
    network, images = UNet(3), torch.rand(2, 3, 8, 12) * 2 - 1
    assert torch.equal(network(images), images)
    torch.nn.init.constant_(network.last.bias, 1.5)
    assert torch.equal(network(images), (images + 1.5).clamp(-1.0, 1.0))


@pytest.mark.parametrize(("width", "levels"), [(4, 2), (5, 1), (2, 0)])
def test_parameters_are_those_of_its_convolutions(width, levels):
    widths = [width * 2**level for level in range(levels + 1)]
    down = sum(block(before, after) for before, after in zip([3, *widths], widths, strict=False))
    up = sum(block(fine + 2 * fine, fine) for fine in widths[:-1])
    assert count_parameters(UNet(width, levels=levels)) == down + up + 3 * width + 3


def test_images_of_a_batch_do_not_mix_and_every_weight_learns():
    torch.manual_seed(0)
    network, images = UNet(3), torch.rand(3, 3, 16, 16) - 0.5
    torch.nn.init.normal_(network.last.weight, std=0.3)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))
    network(images).square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in network.parameters())


def test_far_pixels_are_seen_through_the_coarse_levels():
    torch.manual_seed(1)
    network, images = UNet(4, levels=2), torch.rand(1, 3, 32, 32) - 0.5
    torch.nn.init.normal_(network.last.weight, std=0.3)
    images.requires_grad_()
    network(images)[0, :, 16, 16].sum().backward()
    assert images.grad is not None
    seen = images.grad[0].abs().sum(dim=0).nonzero()
    assert (
        int(seen[:, 0].max() - seen[:, 0].min()) > 8
    )  # two 3 x 3 convolutions alone see 5 rows, two blocks 9


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: UNet(0), "width 0"),
        (lambda: UNet(3, levels=-1), "-1 levels"),
        (lambda: UNet(3)(torch.zeros(1, 3, 10, 8)), "multiples of 4"),
        (lambda: UNet(3)(torch.zeros(1, 3, 8, 10)), "multiples of 4"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()
