"""DTFD against the formulas, and against another implementation's numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsi_kd.mil.dtfd import Dtfd
from wsi_kd.mil.pooling import segment_softmax

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def small(*, pseudo_bags=4, classes=2):
    torch.manual_seed(0)
    return Dtfd(hidden_dim=6, attention_dim=3, classes=classes, pseudo_bags=pseudo_bags).double().eval()


@pytest.mark.shared_data
def test_equals_torchmil(shared_reference):
    with np.load(shared_reference / "mil_dtfd_torchmil.npz", allow_pickle=False) as numbers:
        read = {key: torch.from_numpy(numbers[key]) for key in numbers.files}
    names = {
        "instance_attention.0": "attention_pool.fc1.module",
        "pseudo_bag_attention.0": "u_attention_pool.fc1.module",
        "pseudo_bag_head": "classifier.module",
        "bag_head": "u_classifier.module",
    }
    weights = {
        f"{ours}.{part}": read[f"dtfd.w.{theirs}.{part}"]
        for ours, theirs in names.items()
        for part in ("weight", "bias")
    }
    weights["instance_attention.2.weight"] = read["dtfd.w.attention_pool.fc2.weight"]
    weights["pseudo_bag_attention.2.weight"] = read["dtfd.w.u_attention_pool.fc2.weight"]
    weights["instance_attention.2.bias"] = weights["pseudo_bag_attention.2.bias"] = torch.zeros(1)
    teacher = Dtfd(hidden_dim=16, attention_dim=8, classes=1, pseudo_bags=3).double().eval()
    teacher.load_state_dict(weights)
    # three pseudo-bags of four consecutive permuted instances; here instance r goes to pseudo-bag r mod 3
    dealt = read["X"][0][read["permutation"].view(3, 4).T.flatten()]
    offsets = torch.tensor([0, 12])
    torch.testing.assert_close(teacher(dealt, offsets).bag_logits[:, 0], read["afs.logit"], **CLOSE)
    pseudo = teacher.first_tier(dealt, offsets)
    pseudo_logits = teacher.pseudo_bag_head(pseudo.embedding)[:, 0]
    torch.testing.assert_close(pseudo_logits, read["afs.pseudo_logit"][0], **CLOSE)
    activation = F.linear(read["X"][0], teacher.pseudo_bag_head.weight)[:, 0]
    torch.testing.assert_close(activation, read["afs.inst_cam"][0], **CLOSE)


def test_two_tiers_by_the_formulas():
    teacher, bag = small(pseudo_bags=2, classes=3), torch.randn(5, 6, dtype=torch.float64)
    offsets = torch.tensor([0, 5])
    pooled = []
    for group in ([0, 2, 4], [1, 3]):
        attention = teacher.instance_attention(bag[group]).softmax(0)
        pooled.append((attention * bag[group]).sum(0))
    z = torch.stack(pooled)
    expected = teacher.bag_head((teacher.pseudo_bag_attention(z).softmax(0) * z).sum(0))
    torch.testing.assert_close(teacher(bag, offsets).bag_logits[0], expected, **CLOSE)
    losses = teacher.auxiliary_losses(bag, offsets, torch.tensor([2]))
    wanted = F.cross_entropy(teacher.pseudo_bag_head(z), torch.tensor([2, 2]))
    torch.testing.assert_close(losses, wanted[None], **CLOSE)


def test_empty_pseudo_bags_count_for_nothing():
    few, many = small(pseudo_bags=2), small(pseudo_bags=7)
    bag, offsets = torch.randn(2, 6, dtype=torch.float64), torch.tensor([0, 2])
    torch.testing.assert_close(many(bag, offsets).bag_logits, few(bag, offsets).bag_logits, **CLOSE)
    losses = [model.auxiliary_losses(bag, offsets, torch.tensor([1])) for model in (few, many)]
    torch.testing.assert_close(*losses, **CLOSE)
    assert many.first_tier(bag, offsets).filled.tolist() == [True] * 2 + [False] * 5
    losses[1].sum().backward()
    assert all(weight.grad.isfinite().all() for weight in many.parameters() if weight.grad is not None)


def test_one_pseudo_bag_is_plain_attention():
    teacher, offsets = small(pseudo_bags=1), torch.tensor([0, 9])
    bag = torch.randn(9, 6, dtype=torch.float64)
    attention = teacher.instance_attention(bag).softmax(0)
    output = teacher(bag, offsets)
    torch.testing.assert_close(output.bag_logits[0], teacher.bag_head((attention * bag).sum(0)), **CLOSE)
    torch.testing.assert_close(segment_softmax(output.attention_logits, offsets), attention[:, 0], **CLOSE)


@pytest.mark.parametrize("masked", [False, True])
def test_training_deals_evenly_at_random_and_by_seed(masked):
    teacher = small().train()
    offsets = torch.tensor([0, 3, 40])
    keep = torch.arange(40) % 3 != 1 if masked else torch.ones(40, dtype=torch.bool)
    bags = torch.randn(40, 6, dtype=torch.float64)
    dealt = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        pseudo = teacher.first_tier(bags, offsets, keep if masked else None)
        dealt.append(pseudo.of_instance)
        counts = torch.bincount(pseudo.of_instance[keep], minlength=8)
        assert counts[4:].max() - counts[4:].min() <= 1
        assert counts[:4].sum() == keep[:3].sum()
        assert pseudo.filled.tolist() == (counts > 0).tolist()
    assert torch.equal(dealt[0], dealt[1])
    assert not torch.equal(dealt[0], dealt[2])


def test_eval_mode_deals_round_and_round():
    offsets = torch.tensor([0, 6, 9])
    keep = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1]).bool()
    dealt = small(pseudo_bags=3).first_tier(torch.zeros(9, 6, dtype=torch.float64), offsets, keep).of_instance
    assert dealt[keep].tolist() == [0, 1, 2, 0, 1, 3, 4]
    assert set(dealt[~keep].tolist()) <= {0, 3}
