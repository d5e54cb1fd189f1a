"""TransMIL and its attention against the formulas, and against other implementations' numbers."""

import numpy as np
import pytest
import torch

from wsi_kd.mil.nystrom_attention import NystromAttention, pseudo_inverse
from wsi_kd.mil.pooling import segment_softmax
from wsi_kd.mil.transmil import TransMil

CLOSE = {"rtol": 1e-7, "atol": 1e-10}


def both(ours, theirs, read):
    return {f"{ours}.{part}": read[f"{theirs}.{part}"] for part in ("weight", "bias")}


@pytest.fixture
def read(shared_reference):
    with np.load(shared_reference / "mil_transmil_torchmil.npz", allow_pickle=False) as numbers:
        return {key: torch.from_numpy(numbers[key]) for key in numbers.files}


@pytest.mark.shared_data
def test_attention_equals_the_reference_module(read):
    attention = NystromAttention(dim=16, heads=2, landmarks=4, residual_kernel=5).double()
    attention.load_state_dict(
        both("to_out", "nystrom_ref.w.to_out.0", read)
        | {
            "to_qkv.weight": read["nystrom_ref.w.to_qkv.weight"],
            "residual.weight": read["nystrom_ref.w.res_conv.weight"][..., 0],
        }
    )
    attended = attention(read["nystrom_ref.in"][0])
    torch.testing.assert_close(attended.tokens, read["nystrom_ref.out"][0], **CLOSE)
    first_row = read["nystrom_ref.attn"][0, :, 3, 3:].mean(0)  # behind three tokens of padding
    torch.testing.assert_close(attended.first_row, first_row, **CLOSE)


def weights_of_torchmil(name, read, *, width):
    plain = {"to_out.weight": torch.eye(width), "to_out.bias": torch.zeros(width)}
    plain["residual.weight"] = torch.zeros(2, 1, 33)
    weights = {"class_token": read[f"{name}.w.cls_token"][0]}
    for layer, ours in enumerate(("first", "second")):
        theirs = f"{name}.w.layers.{layer}"
        weights |= both(f"{ours}_norm", f"{theirs}.norm1", read)
        weights |= {f"{ours}_attention.{key}": value for key, value in plain.items()}
        weights[f"{ours}_attention.to_qkv.weight"] = read[f"{theirs}.att_module.qkv_nn.weight"]
    for index, theirs in enumerate(("proj", "proj1", "proj2")):
        weights |= both(f"position.{index}", f"{name}.w.pos_layer.{theirs}", read)
    return weights | both("norm", f"{name}.w.norm", read) | both("bag_head", f"{name}.w.classifier", read)


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "width"), [("transmil", 16), ("transmil_fc", 8)])
def test_equals_torchmil(read, name, width):
    teacher = TransMil(hidden_dim=width, classes=1, heads=2, landmarks=4).double()
    teacher.load_state_dict(weights_of_torchmil(name, read, width=width))
    instances, offsets = read["X"][0].requires_grad_(), torch.tensor([0, 12])
    hidden = instances
    if name == "transmil_fc":
        weight, bias = read["transmil_fc.w.fc1.weight"], read["transmil_fc.w.fc1.bias"]
        hidden = torch.nn.functional.linear(instances, weight, bias)
    output = teacher(hidden, offsets)
    torch.testing.assert_close(output.bag_logits[:, 0], read[f"{name}.logit"], **CLOSE)
    expected = read[f"{name}.attention"][0].clamp(min=1e-8)
    attention = segment_softmax(output.attention_logits, offsets)
    torch.testing.assert_close(attention, expected / expected.sum(), **CLOSE)
    if name == "transmil":
        output.bag_logits.sum().backward()
        torch.testing.assert_close(instances.grad, read["transmil.grad_X"][0], **CLOSE)


def test_attention_is_exact_where_every_token_is_a_landmark():
    torch.manual_seed(0)
    attention = NystromAttention(dim=8, heads=2, landmarks=6).double()
    tokens = torch.randn(6, 8, dtype=torch.float64)
    queries, keys, values = (
        part.view(6, 2, 4).transpose(0, 1) for part in attention.to_qkv(tokens).chunk(3, 1)
    )
    softmax = (queries @ keys.mT / 2).softmax(-1)
    torch.nn.init.zeros_(attention.residual.weight)
    exact = attention.to_out((softmax @ values).transpose(0, 1).reshape(6, 8))
    attended = attention(tokens)
    torch.testing.assert_close(attended.first_row, softmax[:, 0].mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(attended.tokens, exact, atol=0.05, rtol=0)
    assert attended.first_row.sum().item() == pytest.approx(1.0, abs=0.05)


def test_pseudo_inverse_solves():
    logits = torch.randn(3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = (3 * torch.eye(5, dtype=torch.float64) + logits).softmax(-1)
    torch.testing.assert_close(
        pseudo_inverse(matrices) @ matrices,
        torch.eye(5, dtype=torch.float64).expand(3, 5, 5),
        atol=1e-3,
        rtol=0,
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 10, 17, 1000])
def test_any_number_of_instances_fits_the_grid(count):
    torch.manual_seed(0)
    teacher = TransMil(hidden_dim=8, classes=2)
    output = teacher(torch.randn(count, 8), torch.tensor([0, count]))
    assert all(part.isfinite().all() for part in output[:3])
    assert (len(output.attention_logits), tuple(output.evidence.shape)) == (count, (count, 2))


def test_the_square_is_filled_with_the_first_instances():
    torch.manual_seed(0)
    teacher = TransMil(hidden_dim=8, classes=2).double()
    bag = torch.randn(7, 8, dtype=torch.float64)
    filled = torch.cat([bag, bag[:2]])
    short, full = teacher(bag, torch.tensor([0, 7])), teacher(filled, torch.tensor([0, 9]))
    torch.testing.assert_close(short.bag_logits, full.bag_logits)
    torch.testing.assert_close(short.evidence, full.evidence[:7])


def test_a_hidden_instance_has_the_least_attention_and_its_own_evidence():
    torch.manual_seed(0)
    teacher = TransMil(hidden_dim=8, classes=2)
    bag, keep = torch.randn(5, 8), torch.tensor([True, False, True, True, True])
    output = teacher(bag, torch.tensor([0, 5]), keep)
    assert output.attention_logits[1].item() == pytest.approx(np.log(1e-8), rel=1e-6)
    torch.testing.assert_close(output.evidence[1], teacher.bag_head(teacher.norm(bag[1])))
