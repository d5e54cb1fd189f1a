"""Mixtures of batches: labels say exactly what is in the inputs, teachers see what students see."""

import functools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    CLASSES,
)
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.augmentation import (
    Augment,
    CutMix,
    GaussianNoise,
    InOrder,
    Mixup,
    OneOf,
    describe_augment,
    draw_box,
    draw_share,
    mix_labels,
)

SAMPLES = 8
STRONG = InOrder((GaussianNoise(0.3), Mixup(alpha=0.4, classes=CLASSES)))


def told_apart() -> tuple[Tensor, Tensor]:
    """Pictures of one number each, which is the sample's class."""
    labels = torch.arange(SAMPLES)
    return labels.double()[:, None, None, None].expand(SAMPLES, 2, 6, 5).contiguous(), labels


@pytest.mark.parametrize("augment", [Mixup(alpha=1.0, classes=SAMPLES), CutMix(alpha=1.0, classes=SAMPLES)])
def test_labels_say_how_much_of_each_sample_is_there(augment: Augment) -> None:
    torch.manual_seed(0)
    inputs, labels = told_apart()
    for _ in range(20):
        mixed, soft = augment(inputs, labels)
        assert soft is not None
        assert torch.allclose(soft.sum(dim=1), torch.ones(SAMPLES))
        present = soft.double() @ labels.double()
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), present, atol=1e-6)
    assert torch.equal(inputs, told_apart()[0])  # the loader's tensor is left alone


def test_mixup_is_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_kd.kd.augmentation.draw_share", lambda alpha: 0.75)
    monkeypatch.setattr(torch, "randperm", lambda number: torch.tensor([1, 2, 0]))
    inputs = torch.tensor([[0.0], [4.0], [8.0]])
    mixed, soft = Mixup(alpha=0.2, classes=3)(inputs, torch.tensor([0, 1, 1]))
    assert mixed.tolist() == [[1.0], [5.0], [6.0]]
    assert soft is not None
    assert soft.tolist() == [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.25, 0.75, 0.0]]


def test_a_cut_box_holds_the_other_picture_and_nothing_else() -> None:
    torch.manual_seed(1)
    inputs, labels = told_apart()
    changed = 0
    for _ in range(20):
        mixed, soft = CutMix(alpha=1.0, classes=SAMPLES)(inputs, labels)
        for own, picture in enumerate(mixed[:, 0]):
            other = (picture != own).nonzero()
            if len(other):
                changed += 1
                (top, left), (bottom, right) = other.min(dim=0).values, other.max(dim=0).values + 1
                box = picture[top:bottom, left:right]
                assert (box == box[0, 0]).all()
                assert soft[own, own].item() == pytest.approx(1.0 - box.numel() / picture.numel())
        assert torch.equal(mixed[:, 0], mixed[:, 1])
    assert changed > 20


def test_boxes_are_worked_by_hand() -> None:
    torch.manual_seed(0)
    boxes = [draw_box(8, 8, share=0.75) for _ in range(300)]  # sides of 4, cut at the edges to 2 or 3
    assert {box.rows.stop - box.rows.start for box in boxes} == {2, 3, 4}
    assert {(box.rows.start, box.rows.stop) for box in boxes} == {
        (max(center - 2, 0), min(center + 2, 8)) for center in range(8)
    }
    assert all(
        box.area == (box.rows.stop - box.rows.start) * (box.columns.stop - box.columns.start) for box in boxes
    )
    assert draw_box(8, 8, share=1.0).area == 0
    wide = [draw_box(2, 100, share=0.0) for _ in range(50)]
    assert {box.rows.stop - box.rows.start for box in wide} == {1, 2}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_a_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    shares = torch.tensor([draw_share(alpha) for _ in range(3000)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1.0 / (4.0 * (2.0 * alpha + 1.0)), rel=0.1)


def test_noise_has_its_deviation_and_leaves_labels() -> None:
    torch.manual_seed(0)
    inputs, labels = torch.zeros(100, 50), torch.zeros(100, dtype=torch.int64)
    noisy, same_labels = GaussianNoise(0.5)(inputs, labels)
    assert noisy.std().item() == pytest.approx(0.5, rel=0.03)
    assert noisy.mean().item() == pytest.approx(0.0, abs=0.03)
    assert same_labels is labels
    assert inputs.abs().max().item() == 0.0


def test_augmentations_in_order_and_by_choice() -> None:
    def double(inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
        return 2.0 * inputs, labels

    def add(inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
        return inputs + 1.0, labels

    one = torch.ones(1, 1)
    assert InOrder((double, add))(one, None)[0].item() == 3.0
    assert InOrder((add, double))(one, None)[0].item() == 4.0
    torch.manual_seed(0)
    made = [OneOf((double, add))(torch.full((1, 1), 5.0), None)[0].item() for _ in range(400)]
    assert set(made) == {10.0, 6.0}
    assert 160 < made.count(10.0) < 240


@pytest.mark.parametrize("augment", [Mixup(alpha=1.0, classes=3), CutMix(alpha=1.0, classes=3)])
def test_labels_may_be_soft_or_missing(augment: Augment) -> None:
    inputs = torch.rand(4, 1, 4, 4)
    assert augment(inputs, None)[1] is None
    soft = torch.tensor([[0.5, 0.5, 0.0]] * 4)
    mixed = augment(inputs, soft)[1]
    assert mixed is not None
    assert torch.allclose(mixed, soft)  # of equal labels the mixture is the same
    order, labels = torch.tensor([2, 0, 1]), torch.tensor([0, 2, 2])
    assert torch.equal(
        mix_labels(labels, order, share=0.25, classes=3),
        mix_labels(F.one_hot(labels, 3).float(), order, share=0.25, classes=3),
    )


@pytest.mark.parametrize(
    ("augment", "inputs", "labels", "told"),
    [
        (Mixup(alpha=1.0, classes=3), {"x": torch.ones(2, 2)}, None, "Mixup: inputs are a dict .*augment="),
        (Mixup(alpha=1.0, classes=3), torch.ones(2, 2, dtype=torch.int64), None, "Mixup: inputs are int64"),
        (GaussianNoise(1.0), (torch.ones(2, 2),), None, "GaussianNoise: inputs are a tuple of 1"),
        (CutMix(alpha=1.0, classes=3), torch.ones(2, 5), None, r"expected pictures .* take Mixup"),
        (
            Mixup(alpha=1.0, classes=3),
            torch.ones(2, 2),
            torch.tensor([0, 3]),
            "labels go from 0 to 3; .*0 to 2",
        ),
        (
            Mixup(alpha=1.0, classes=3),
            torch.ones(2, 2),
            torch.ones(2, 4),
            r"expected \(2,\) .* \(2, 3\) soft",
        ),
        (
            Mixup(alpha=1.0, classes=3),
            torch.ones(2, 2),
            torch.ones(3).long(),
            r"labels are int64 tensor \(3,\)",
        ),
    ],
)
def test_batches_that_cannot_be_mixed(augment: Augment, inputs: Any, labels: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        augment(inputs, labels)


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Mixup(alpha=0.0, classes=3), r"Mixup: alpha is 0\.0; it must be above 0"),
        (lambda: CutMix(alpha=math.nan, classes=3), "CutMix: alpha is nan"),
        (lambda: Mixup(alpha=1.0, classes=0), "Mixup: classes is 0"),
        (lambda: GaussianNoise(-1.0), r"GaussianNoise: deviation is -1\.0"),
        (lambda: OneOf(()), "OneOf: choices is 0"),
        (lambda: InOrder(()), "InOrder: parts is 0"),
    ],
)
def test_settings(build: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        build()


def test_descriptions_hold_no_address() -> None:
    class Own:
        def __call__(self, inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
            return inputs, labels

    told = [describe_augment(one) for one in (Own(), functools.partial(Own()), OneOf((Own(), STRONG)), None)]
    assert not any("0x" in one or " at " in one for one in told)
    assert told[2].endswith("InOrder(parts=(GaussianNoise(deviation=0.3), Mixup(alpha=0.4, classes=3)))))")
