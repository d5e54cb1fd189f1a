"""The rest of a network behind a layer: its logits, its mode, and branches around the layer."""

import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.head import head_after
from wsi_kd.kd.taps import LayerTaps


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 3),
    )


def test_the_head_of_a_layer_s_output_gives_the_network_s_logits():
    network, images = make_network(), torch.randn(5, 1, 6, 6)
    network.train()
    head = head_after(network, "2", probe=torch.zeros(1, 1, 6, 6))
    network.eval()
    with LayerTaps(network, ["2"]) as taps, torch.no_grad():
        expected = network(images)
        maps = taps.take()["2"]
    network.train()
    before = network[1].running_mean.clone()

    found = head(maps)

    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
    assert not found.requires_grad
    assert network.training
    assert torch.equal(network[1].running_mean, before)
    assert not network[2]._forward_hooks


def test_a_branch_around_the_layer_shows_in_the_logits():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, inputs):
            return self.last(self.first(inputs) + inputs)

    torch.manual_seed(0)
    network, inputs = Around(), torch.randn(4, 3)
    head = head_after(network, "first", probe=torch.zeros(1, 3))

    assert (head(network.first(inputs)) - network(inputs)).abs().max().item() > 0.1


def test_layers_that_cannot_be_replaced_are_refused():
    network = make_network()
    with pytest.raises(BadInput, match=r"unknown layer of the teacher \(Sequential\) '9'"):
        head_after(network, "9", probe=torch.zeros(1, 1, 6, 6))
    with pytest.raises(BadInput, match="layer '2@0': one run of several cannot be replaced"):
        head_after(network, "2@0", probe=torch.zeros(1, 1, 6, 6))
