"""CLAM and DSMIL against the formulas, and against other implementations' numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsi_kd.mil.abmil import GatedAbmil
from wsi_kd.mil.clam_mb import ClamMb
from wsi_kd.mil.clam_sb import ClamSb
from wsi_kd.mil.dsmil import Dsmil
from wsi_kd.mil.pooling import segment_softmax

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def read_numbers(path):
    with np.load(path, allow_pickle=False) as numbers:
        return {key: torch.from_numpy(numbers[key]) for key in numbers.files}


def both(ours, theirs, read):
    return {f"{ours}.{part}": read[f"{theirs}.{part}"] for part in ("weight", "bias")}


@pytest.mark.shared_data
def test_clam_equals_the_released_code(shared_reference):
    read = read_numbers(shared_reference / "mil_clam_original.npz")
    attention, own = "sb_gated.w.attention_net.3.attention", "sb_gated.w.instance_classifiers"
    teacher = ClamSb(hidden_dim=12, attention_dim=8, classes=2, samples=3).double()
    teacher.load_state_dict(
        both("attention_tanh", f"{attention}_a.0", read)
        | both("attention_gate", f"{attention}_b.0", read)
        | both("attention_head", f"{attention}_c", read)
        | both("bag_head", "sb_gated.w.classifiers", read)
        | {
            f"instance_heads.{part}": torch.cat([read[f"{own}.{label}.{part}"] for label in (0, 1)])
            for part in ("weight", "bias")
        }
    )
    projector = "sb_gated.w.attention_net.0"
    hidden = torch.relu(F.linear(read["h"], read[f"{projector}.weight"], read[f"{projector}.bias"]))
    twice, offsets = torch.cat([hidden, hidden]), torch.tensor([0, 12, 24])
    output = teacher(twice, offsets)
    torch.testing.assert_close(output.bag_logits[:1], read["sb_gated.logits"], **CLOSE)
    torch.testing.assert_close(output.attention_logits[:12], read["sb_gated.attention_raw"][0], **CLOSE)
    losses = teacher.auxiliary_losses(twice, offsets, torch.tensor([0, 1]))
    expected = torch.stack([read["sb_gated.inst_loss_y0"], read["sb_gated.inst_loss_y1"]])
    torch.testing.assert_close(losses, expected, **CLOSE)


@pytest.mark.shared_data
def test_the_branches_of_clam_equal_the_released_code(shared_reference):
    """Its bag logits are float32 whatever the weights are: the rest is exact."""
    read = read_numbers(shared_reference / "mil_clam_original.npz")
    attention, projector = "mb_gated.w.attention_net.3.attention", "mb_gated.w.attention_net.0"
    stacked = {"bag_head": "mb_gated.w.classifiers", "instance_heads": "mb_gated.w.instance_classifiers"}
    teacher = ClamMb(hidden_dim=12, attention_dim=8, classes=2, samples=3).double()
    teacher.load_state_dict(
        both("attention_tanh", f"{attention}_a.0", read)
        | both("attention_gate", f"{attention}_b.0", read)
        | both("attention_head", f"{attention}_c", read)
        | {
            f"{ours}.{part}": torch.cat([read[f"{theirs}.{label}.{part}"] for label in (0, 1)])
            for ours, theirs in stacked.items()
            for part in ("weight", "bias")
        }
    )
    hidden = torch.relu(F.linear(read["h"], read[f"{projector}.weight"], read[f"{projector}.bias"]))
    twice, offsets = torch.cat([hidden, hidden]), torch.tensor([0, 12, 24])
    output = teacher(twice, offsets)
    raw = read["mb_gated.attention_raw"]
    torch.testing.assert_close(output.branch_logits[:12], raw.T, **CLOSE)
    torch.testing.assert_close(raw.softmax(dim=1) @ hidden, read["mb_gated.bag_feature"], **CLOSE)
    for found, wanted in ((output.bag_logits, "logits"), (output.bag_logits.softmax(dim=1), "prob")):
        torch.testing.assert_close(found[:1], read[f"mb_gated.{wanted}"].double(), rtol=1e-6, atol=1e-8)
    losses = teacher.auxiliary_losses(twice, offsets, torch.tensor([0, 1]))
    expected = torch.stack([read["mb_gated.inst_loss_y0"], read["mb_gated.inst_loss_y1"]])
    torch.testing.assert_close(losses, expected, **CLOSE)


def test_branches_by_hand_with_three_classes():
    torch.manual_seed(0)
    teacher = ClamMb(hidden_dim=4, attention_dim=3, classes=3, samples=2).double()
    instances, offsets = torch.randn(9, 4, dtype=torch.float64), torch.tensor([0, 1, 4, 9])
    output, labels = teacher(instances, offsets), torch.tensor([0, 2, 1])
    rows = [slice(0, 1), slice(1, 4), slice(4, 9)]
    for bag, span in enumerate(rows):
        weights = output.branch_logits[span].softmax(dim=0)
        torch.testing.assert_close(
            output.bag_logits[bag], (weights * output.evidence[span]).sum(dim=0), **CLOSE
        )
        branch = output.branch_logits[span, output.bag_logits[bag].argmax()]
        assert torch.equal(output.attention_logits[span], branch)
    heads = teacher.instance_heads(instances).view(9, 3, 2)
    expected = [torch.zeros(())]
    for span, own, samples in (([1, 2, 3], 2, 1), ([4, 5, 6, 7, 8], 1, 2)):
        total = torch.zeros(())
        for label in range(3):
            order = sorted(span, key=lambda row: -output.branch_logits[row, label].item())
            chosen = order[:samples] + (order[-samples:] if label == own else [])
            target = torch.tensor([int(label == own)] * samples + [0] * (len(chosen) - samples))
            total = total + F.cross_entropy(heads[chosen, label], target)
        expected.append(total / 3)
    losses = teacher.auxiliary_losses(instances, offsets, labels)
    torch.testing.assert_close(losses, torch.stack(expected).double(), **CLOSE)


def test_with_two_classes_attention_is_the_positive_branch_whatever_is_predicted():
    torch.manual_seed(0)
    teacher, offsets = ClamMb(hidden_dim=4, attention_dim=3, classes=2), torch.tensor([0, 3, 8])
    for bias in (-9.0, 9.0):
        torch.nn.init.constant_(teacher.bag_head.bias[1:], bias)
        output = teacher(torch.randn(8, 4), offsets)
        assert (output.bag_logits.argmax(dim=1) == int(bias > 0)).all()
        assert torch.equal(output.attention_logits, output.branch_logits[:, 1])


@pytest.mark.shared_data
def test_clam_equals_torchmil(shared_reference):
    read = read_numbers(shared_reference / "mil_clam_sb_torchmil.npz")
    teacher = ClamSb(hidden_dim=16, attention_dim=8, classes=1).double()
    weights = (
        both("attention_tanh", "clam.w.pool.fc1.module", read)
        | both("attention_gate", "clam.w.pool.fc_gated.module", read)
        | both("bag_head", "clam.w.classifier.module", read)
        | {"attention_head.weight": read["clam.w.pool.fc2.weight"], "attention_head.bias": torch.zeros(1)}
    )
    assert teacher.load_state_dict(weights, strict=False).missing_keys == [
        "instance_heads.weight",
        "instance_heads.bias",
    ]
    mask = read["mask"].bool()
    output = teacher(read["X_pad"][mask], torch.tensor([0, 12, 19]))
    torch.testing.assert_close(output.bag_logits[:, 0], read["clam.pad.logit"], **CLOSE)
    torch.testing.assert_close(output.attention_logits, read["clam.pad.attention_raw"][mask], **CLOSE)


def test_clam_clusters_by_hand():
    torch.manual_seed(0)
    teacher = ClamSb(hidden_dim=4, attention_dim=3, classes=3, samples=2).double()
    instances, offsets = torch.randn(9, 4, dtype=torch.float64), torch.tensor([0, 1, 4, 9])
    output, labels = teacher(instances, offsets), torch.tensor([0, 2, 1])
    keep = torch.tensor([1, 1, 1, 1, 1, 1, 0, 1, 1]).bool()
    losses = teacher.auxiliary_losses(instances, offsets, labels, keep=keep)
    heads = teacher.instance_heads(instances).view(9, 3, 2)
    expected = [torch.zeros(())]
    for rows, label, samples in (([1, 2, 3], 2, 1), ([4, 5, 7, 8], 1, 2)):
        order = sorted(rows, key=lambda row: -output.attention_logits[row].item())
        chosen = order[:samples] + order[-samples:]
        target = torch.tensor([1] * samples + [0] * samples)
        expected.append(F.cross_entropy(heads[chosen, label], target))
    torch.testing.assert_close(losses, torch.stack(expected).double(), **CLOSE)
    losses.sum().backward()
    assert teacher.instance_heads.weight.grad.abs().sum() > 0
    assert teacher.attention_head.weight.grad is None


def test_clam_scores_bags_as_gated_attention_does():
    torch.manual_seed(0)
    clam, gated = (kind(hidden_dim=4, attention_dim=3, classes=2) for kind in (ClamSb, GatedAbmil))
    gated.load_state_dict({key: weight for key, weight in clam.state_dict().items() if "instance" not in key})
    instances, offsets = torch.randn(5, 4), torch.tensor([0, 2, 5])
    for part, other in zip(clam(instances, offsets)[:3], gated(instances, offsets)[:3], strict=True):
        assert torch.equal(part, other)


@pytest.mark.shared_data
def test_dsmil_equals_torchmil(shared_reference):
    read = read_numbers(shared_reference / "mil_dsmil_torchmil.npz")
    teacher = Dsmil(hidden_dim=16, attention_dim=8, classes=1).double()
    teacher.load_state_dict(
        both("instance_head", "dsmil.w.inst_classifier", read)
        | both("query", "dsmil.w.q_nn", read)
        | both("bag_head", "dsmil.w.bag_classifier", read)
        | {"value.weight": torch.eye(16), "value.bias": torch.zeros(16)}
    )
    instances, offsets = read["X"][0].requires_grad_(), torch.tensor([0, 12])
    streams, output = teacher.streams(instances, offsets), teacher(instances, offsets)
    streams.bag_stream_logits.sum().backward()
    torch.testing.assert_close(streams.bag_stream_logits[:, 0], read["dsmil.bag_logit"], **CLOSE)
    torch.testing.assert_close(output.evidence[:, 0], read["dsmil.inst_logit"][0], **CLOSE)
    torch.testing.assert_close(output.bag_logits[:, 0], read["dsmil.bag_pred"], **CLOSE)
    attention = segment_softmax(output.attention_logits, offsets)
    torch.testing.assert_close(attention, read["dsmil.attention"][0], **CLOSE)
    torch.testing.assert_close(instances.grad, read["dsmil.grad_X"][0], **CLOSE)


@pytest.mark.shared_data
def test_dsmil_equals_the_released_head_of_weno(shared_reference):
    read = read_numbers(shared_reference / "weno_dsmil_single_steps.npz")
    teacher = Dsmil(hidden_dim=16, attention_dim=16, classes=2).double()
    teacher.load_state_dict(
        both("instance_head", "init.teacher.fc_dsmil.0", read)
        | both("query", "init.teacher.q_dsmil", read)
        | both("value", "init.teacher.v_dsmil.1", read)
        | {
            "bag_head.weight": read["init.teacher.fcc_dsmil.weight"].flatten(start_dim=1),
            "bag_head.bias": read["init.teacher.fcc_dsmil.bias"],
        }
    )
    hidden = torch.cat([read[f"teacher.bag{bag}.features"] for bag in range(6)])
    for layer in ("classifier.1", "classifier.4"):
        weight, bias = read[f"init.teacher.{layer}.weight"], read[f"init.teacher.{layer}.bias"]
        hidden = torch.relu(F.linear(hidden, weight, bias))
    offsets = read["offsets"]
    streams = teacher.streams(hidden, offsets)
    instance_logits = torch.cat([read[f"teacher.bag{bag}.instance_logits"] for bag in range(6)])
    attention = torch.cat([read[f"teacher.bag{bag}.attention"] for bag in range(6)])
    torch.testing.assert_close(streams.bag_stream_logits, read["teacher.bag_logits"], **CLOSE)
    torch.testing.assert_close(streams.instance_logits, instance_logits, **CLOSE)
    output = teacher(hidden, offsets)
    torch.testing.assert_close(segment_softmax(output.attention_logits, offsets), attention[:, 1], **CLOSE)


def test_dsmil_by_the_formulas_with_three_classes():
    torch.manual_seed(0)
    teacher = Dsmil(hidden_dim=4, attention_dim=3, classes=3).double()
    bag = torch.randn(6, 4, dtype=torch.float64)
    output = teacher(bag, torch.tensor([0, 6]))
    scores, queries, values = teacher.instance_head(bag), teacher.query(bag), teacher.value(bag)
    critical = scores.argmax(dim=0)
    logits = torch.stack([queries @ queries[row] / 3**0.5 for row in critical], dim=1)
    vectors = logits.softmax(dim=0).T @ values
    bag_stream = teacher.bag_head(vectors.flatten())
    torch.testing.assert_close(output.bag_logits[0], (scores.amax(dim=0) + bag_stream) / 2, **CLOSE)
    torch.testing.assert_close(output.attention_logits, (logits[:, 1] + logits[:, 2]) / 2, **CLOSE)
    assert torch.equal(output.evidence, scores)
