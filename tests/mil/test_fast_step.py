"""What makes the step fast changes no number: dropout's mask, the folded scaling, the fused product."""

import pytest
import torch
from torch import nn

from wsi_kd.mil.abmil import fused_linear
from wsi_kd.mil.dropout import Dropout
from wsi_kd.mil.outputs import EvidenceTeacher
from wsi_kd.mil.registry import TEACHERS, WITHOUT_ATTENTION_DIM
from wsi_kd.mil.scaling import FeatureScaling, scaled_linear


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    dropped = Dropout(rate).train()(torch.ones(400_000))
    zeros = (dropped == 0).double().mean().item()
    assert zeros == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 400_000) ** 0.5)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=2e-4)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)


def test_dropout_drops_neighbors_independently_and_new_ones_at_each_call():
    torch.manual_seed(0)
    layer, ones = Dropout(0.5).train(), torch.ones(100_003)
    first, second = layer(ones) > 0, layer(ones) > 0
    for other in (second, first.roll(1), first.roll(4)):
        assert (first == other).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_dropout_is_the_identity_in_eval_mode_and_passes_gradients_of_what_it_kept():
    values = torch.randn(7, 3, requires_grad=True)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0).train()(values) is values
    torch.manual_seed(0)
    dropped = Dropout(0.5).train()(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, torch.where(dropped != 0, 2.0, 0.0))


def test_a_seed_fixes_the_mask():
    layer, ones = Dropout(0.25).train(), torch.ones(1000)
    torch.manual_seed(3)
    first = layer(ones)
    torch.manual_seed(3)
    assert torch.equal(layer(ones), first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_mask_keeps_what_two_random_bytes_put_at_the_rate_or_above(dtype):
    torch.manual_seed(3)
    mask = Dropout(0.25).train()(torch.ones(1000, dtype=dtype))
    torch.manual_seed(3)
    draws = torch.empty(251, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    kept = draws.view(torch.int16)[:1000] >= 65_536 // 4 - 32_768
    assert torch.equal(mask, torch.where(kept, torch.tensor(4 / 3, dtype=dtype), 0.0))


def fitted(features):
    scaling = FeatureScaling(features.shape[1])
    scaling.fit(mean=features.mean(0), deviation=features.std(0, correction=0))
    return scaling


@pytest.mark.parametrize("offset", [0.0, 3.0, 100.0])
def test_folded_scaling_equals_scaling_first(offset):
    torch.manual_seed(0)
    features = torch.randn(500, 64) * torch.linspace(0.1, 10.0, 64) + offset
    scaling, layer = fitted(features), nn.Linear(64, 16)
    exact = layer.double()((features.double() - scaling.mean.double()) / scaling.deviation.double())
    exact.square().sum().backward()
    gradient = layer.weight.grad.clone()
    layer.zero_grad()
    layer.float()
    found = scaled_linear(features, scaling, layer)
    found.square().sum().backward()
    # offset / smallest deviation is up to 1,000 here: what is lost is that times float32's 6e-8
    tolerance = 1e-6 * (1.0 + offset)
    torch.testing.assert_close(found, exact.float(), atol=tolerance, rtol=1e-5)
    largest = gradient.abs().max().item()
    torch.testing.assert_close(layer.weight.grad, gradient.float(), atol=tolerance * largest, rtol=1e-4)


def test_rounding_comes_after_scaling_so_that_large_means_cost_nothing():
    torch.manual_seed(0)
    features = torch.randn(1000, 2048) + 300.0  # bfloat16 tells 300 from 302 and not from 301
    scaling, layer = fitted(features), nn.Linear(2048, 8)
    exact = layer(scaling(features))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scaled_linear(features, scaling, layer)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0.02)


def test_layers_side_by_side_equal_the_layers():
    torch.manual_seed(0)
    layers, instances = [nn.Linear(5, width) for width in (3, 1, 4)], torch.randn(7, 5)
    for fused, layer in zip(fused_linear(instances, layers), layers, strict=True):
        torch.testing.assert_close(fused, layer(instances))


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_evidence_alone_is_the_evidence_of_the_output(name):
    torch.manual_seed(0)
    attention = {} if name in WITHOUT_ATTENTION_DIM else {"attention_dim": 4}
    teacher = TEACHERS[name](hidden_dim=8, classes=3, **attention).eval()
    if not isinstance(teacher, EvidenceTeacher):
        assert "abmil" not in name
        return
    instances = torch.randn(9, 8)
    expected = teacher(instances, torch.tensor([0, 4, 9])).evidence
    torch.testing.assert_close(teacher.evidence(instances), expected)
