"""ABMIL against the formulas, and against other implementations' numbers."""

import numpy as np
import pytest
import torch

from wsi_kd.mil.abmil import Abmil, GatedAbmil
from wsi_kd.mil.pooling import segment_softmax


@pytest.mark.parametrize("kind", [Abmil, GatedAbmil])
def test_pooling_evidence_equals_classifying_the_pooled_vector(kind):
    torch.manual_seed(0)
    teacher = kind(hidden_dim=6, attention_dim=4, classes=3).double()
    instances, offsets = torch.randn(9, 6, dtype=torch.float64), torch.tensor([0, 4, 9])
    output = teacher(instances, offsets)
    for bag, span in enumerate([slice(0, 4), slice(4, 9)]):
        attention = output.attention_logits[span].softmax(0)
        torch.testing.assert_close(output.bag_logits[bag], teacher.bag_head(attention @ instances[span]))
    torch.testing.assert_close(output.evidence, teacher.bag_head(instances))


def test_gate_multiplies_the_attention():
    torch.manual_seed(0)
    gated, plain = (kind(hidden_dim=6, attention_dim=4, classes=2) for kind in (GatedAbmil, Abmil))
    plain.load_state_dict({key: value for key, value in gated.state_dict().items() if "gate" not in key})
    torch.nn.init.zeros_(gated.attention_gate.weight)
    torch.nn.init.zeros_(gated.attention_gate.bias)  # sigmoid(0) = 1/2
    instances, offsets = torch.randn(5, 6), torch.tensor([0, 5])
    bias = plain.attention_head.bias
    halved = (plain(instances, offsets).attention_logits - bias) / 2 + bias
    torch.testing.assert_close(gated(instances, offsets).attention_logits, halved)


def test_mask_leaves_logits_of_hidden_instances_and_changes_the_bag():
    torch.manual_seed(0)
    teacher = Abmil(hidden_dim=6, attention_dim=4, classes=2)
    instances, offsets = torch.randn(5, 6), torch.tensor([0, 5])
    keep = torch.tensor([True, True, False, True, True])
    whole, masked = teacher(instances, offsets), teacher(instances, offsets, keep)
    assert torch.equal(whole.attention_logits, masked.attention_logits)
    removed = teacher(instances[keep], torch.tensor([0, 4]))
    torch.testing.assert_close(masked.bag_logits, removed.bag_logits)
    assert not torch.allclose(masked.bag_logits, whole.bag_logits)


@pytest.mark.shared_data
@pytest.mark.parametrize(("name", "kind"), [("abmil", Abmil), ("gated", GatedAbmil)])
def test_equals_torchmil(shared_reference, name, kind):
    with np.load(shared_reference / "mil_abmil_torchmil.npz", allow_pickle=False) as numbers:
        read = {key: torch.from_numpy(numbers[key]) for key in numbers.files}
    teacher = kind(hidden_dim=16, attention_dim=8, classes=1).double()
    weights = {
        "attention_tanh.weight": read[f"{name}.w.pool.fc1.module.weight"],
        "attention_tanh.bias": read[f"{name}.w.pool.fc1.module.bias"],
        "attention_head.weight": read[f"{name}.w.pool.fc2.weight"],
        "attention_head.bias": torch.zeros(1),
        "bag_head.weight": read[f"{name}.w.classifier.module.weight"],
        "bag_head.bias": read[f"{name}.w.classifier.module.bias"],
    }
    if name == "gated":
        weights["attention_gate.weight"] = read["gated.w.pool.fc_gated.module.weight"]
        weights["attention_gate.bias"] = read["gated.w.pool.fc_gated.module.bias"]
    teacher.load_state_dict(weights)
    instances = read["X"][0].requires_grad_()
    offsets = torch.tensor([0, 12])
    output = teacher(instances, offsets)
    output.bag_logits.sum().backward()
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(output.bag_logits[:, 0], read[f"{name}.logit"], **close)
    torch.testing.assert_close(output.attention_logits, read[f"{name}.attention_raw"][0], **close)
    attention = segment_softmax(output.attention_logits, offsets)
    torch.testing.assert_close(attention, read[f"{name}.attention"][0], **close)
    torch.testing.assert_close(instances.grad, read[f"{name}.grad_X"][0], **close)
    mask = read["mask"].bool()
    ragged = teacher(read["X_pad"][mask], torch.tensor([0, 12, 19]))
    assert mask.sum(1).tolist() == [12, 7]
    torch.testing.assert_close(ragged.bag_logits[:, 0], read[f"{name}.pad.logit"], **close)


@pytest.mark.shared_data
def test_equals_the_released_attention_head_of_weno(shared_reference):
    with np.load(shared_reference / "weno_attention_single_steps.npz", allow_pickle=False) as numbers:
        read = {key: torch.from_numpy(numbers[key]) for key in numbers.files}
    names = {
        "attention_tanh": "attention.0",
        "attention_head": "attention.2",
        "bag_head": "top_layer",
    }
    teacher = Abmil(hidden_dim=16, attention_dim=8, classes=2).double()
    teacher.load_state_dict(
        {
            f"{ours}.{part}": read[f"init.teacher.{theirs}.{part}"]
            for ours, theirs in names.items()
            for part in ("weight", "bias")
        }
    )
    hidden = torch.cat([read[f"teacher.bag{bag}.features"] for bag in range(6)])
    for layer in ("classifier.1", "classifier.4"):
        weight, bias = read[f"init.teacher.{layer}.weight"], read[f"init.teacher.{layer}.bias"]
        hidden = torch.relu(torch.nn.functional.linear(hidden, weight, bias))
    output = teacher(hidden, read["offsets"])
    attention_raw = torch.cat([read[f"teacher.bag{bag}.attention_raw"] for bag in range(6)])
    torch.testing.assert_close(output.bag_logits, read["teacher.bag_logits"], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(output.attention_logits, attention_raw, rtol=1e-9, atol=1e-11)
    attention = torch.cat([read[f"teacher.bag{bag}.attention"] for bag in range(6)])
    softmax = segment_softmax(output.attention_logits, read["offsets"])
    torch.testing.assert_close(softmax, attention, rtol=1e-9, atol=1e-11)
