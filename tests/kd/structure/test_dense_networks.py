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
    context = 2 * width * (widths[-1] + 1)
    assert count_parameters(UNet(width, levels=levels)) == down + up + context + 3 * width + 3


def test_images_of_a_batch_do_not_mix_and_every_weight_learns():
    torch.manual_seed(0)
    network, images = UNet(3), torch.rand(3, 3, 16, 16) - 0.5
    torch.nn.init.normal_(network.last.weight, std=0.3)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))
    network(images).square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in network.parameters())


def test_every_pixel_is_seen_by_every_other_one_and_less_without_context():
    """Without it a pixel sees what the convolutions of three levels reach."""
    torch.manual_seed(1)
    network, images = UNet(4, levels=2), torch.rand(1, 3, 64, 64) - 0.5
    torch.nn.init.normal_(network.last.weight, std=0.3)
    images.requires_grad_()

    def seen() -> torch.Tensor:
        (slope,) = torch.autograd.grad(network(images)[0, :, 32, 32].sum(), images)
        return slope[0].abs().sum(dim=0).nonzero()

    assert len(seen()) == 64 * 64
    torch.nn.init.zeros_(network.context.weight)
    reach = seen()
    assert 8 < int(reach[:, 0].max() - reach[:, 0].min()) < 48


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
