"""Augmentations of pictures: what stays where it is, what is drawn, what is refused."""

import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.augmentations import create_augment
from wsi_kd.distillation.image_augmentations import RandAugment, RandomCrop
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.losses.task import BinaryCrossEntropyLoss
from wsi_kd.kd.seeding import seeded

CPU = torch.device("cpu")


@pytest.fixture
def pictures():
    return torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.arange(16) % 4


def drawn(augment, pictures, *, seed=0):
    with seeded(seed, 0, device=CPU):
        return augment(pictures, None).inputs


def test_the_whole_picture_is_cropped_to_itself(pictures):
    """A share of 1 leaves the area; only pictures that are no wider than high stay whole on both sides."""
    found = drawn(RandomCrop(smallest=1.0, flip="none"), torch.full_like(pictures, 0.25))
    torch.testing.assert_close(found, torch.full_like(pictures, 0.25))


def test_a_crop_is_a_part_of_the_picture_at_full_size():
    """On a ramp of columns the crop is a ramp too: its slope is the share of the width, its values inside."""
    ramp = torch.linspace(0.0, 1.0, 64).expand(200, 1, 64, 64).contiguous()
    found = drawn(RandomCrop(smallest=0.25, flip="none"), ramp)
    rows = found[:, 0, 32]
    slope = (rows[:, -8] - rows[:, 8]) / (rows.shape[1] - 16) * 63

    torch.testing.assert_close(found[:, 0, 5], found[:, 0, 50])  # columns stay columns
    assert rows.min() >= 0.0
    assert rows.max() <= 1.0 + 1e-6
    assert slope.min() > 0.25  # sqrt(0.25 * 3 / 4) of the width is the narrowest
    assert slope.max() < 1.02
    assert slope.std() > 0.1


def test_half_of_the_pictures_are_mirrored():
    ramp = torch.linspace(0.0, 1.0, 32).expand(400, 1, 32, 32).contiguous()
    both = ramp + ramp.transpose(2, 3)

    def share(flip, pictures, axis):
        found = drawn(RandomCrop(smallest=0.9, flip=flip), pictures).movedim(axis, -1)
        return (found[..., -1].mean(dim=(1, 2)) < found[..., 0].mean(dim=(1, 2))).double().mean().item()

    assert share("none", ramp, 3) == 0.0
    assert share("horizontal", ramp, 3) == pytest.approx(0.5, abs=0.1)
    assert share("horizontal", both, 2) == 0.0
    assert share("both", both, 2) == pytest.approx(0.5, abs=0.1)
    assert share("both", both, 3) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("augment", [RandomCrop(), RandAugment()])
def test_draws_come_from_the_seeded_generators(augment, pictures):
    first = drawn(augment, pictures)

    assert torch.equal(first, drawn(augment, pictures))
    assert not torch.equal(first, drawn(augment, pictures, seed=1))
    assert first.shape == pictures.shape
    assert first.min() >= 0.0
    assert first.max() <= 1.0 + 1e-6


def test_labels_stay(pictures, labels):
    for augment in (RandomCrop(), RandAugment()):
        assert torch.equal(augment(pictures, labels).labels, labels)


def test_operations_are_drawn_for_each_picture(pictures):
    """Each of two is applied with the chance 1/2: a quarter of the pictures stays as it is, to a byte."""
    many = pictures[:1].expand(200, -1, -1, -1).contiguous()
    found = drawn(RandAugment(magnitude=9, deviation=0.0), many)
    apart = (found - many).abs().amax(dim=(1, 2, 3))

    still = (apart < 1.0 / 255).double().mean().item()
    assert 0.15 < still < 0.5  # some operations change nothing in this picture
    assert len({round(value, 4) for value in apart.tolist()}) > 20


def test_gray_pictures_stay_gray():
    gray = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    assert drawn(RandAugment(), gray).shape == gray.shape


def test_the_recipe_is_built_by_name_and_mixes_at_the_end(pictures, labels):
    recipe = create_augment(
        [
            {"name": "random_crop", "smallest": 0.5, "flip": "both"},
            {"name": "rand_augment", "magnitude": 7, "deviation": 0.5, "operations": 2},
            {
                "name": "one_of",
                "choices": [{"name": "mixup", "alpha": 0.1}, {"name": "cutmix", "alpha": 1.0}],
            },
        ],
        classes=4,
    )
    with seeded(0, 0, device=CPU):
        inputs, mixed = recipe(pictures, labels)

    assert inputs.shape == pictures.shape
    assert mixed.shape == (16, 4)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(16))


def test_teacher_and_student_see_the_same_picture_and_both_terms_are_told(pictures, labels):
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(432, 4)) for _ in range(2))
    seen = {"student": [], "teacher": []}
    for name, network in (("student", student), ("teacher", teacher)):
        network.register_forward_pre_hook(lambda network, args, name=name: seen[name].append(args[0].clone()))
    criteria = {"bce": (BinaryCrossEntropyLoss(), 1.0), "kd": (KdLoss(temperature=1.0), 1.0)}
    distiller = Distiller(
        student,
        teacher,
        criteria=criteria,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        augment=create_augment(
            [{"name": "random_crop", "smallest": 0.3, "flip": "both"}, {"name": "cutmix", "alpha": 1.0}],
            classes=4,
        ),
    )
    result = distiller.fit([(pictures, labels)], [(pictures, labels)], epochs=1)

    augmented = seen["teacher"][-1]
    assert any(torch.equal(augmented, inputs) for inputs in seen["student"])
    assert not torch.equal(augmented, pictures)
    assert torch.equal(seen["student"][-1], pictures)  # validation is not augmented
    row = result.history[0]
    assert row["loss"] == pytest.approx(row["bce"] + row["kd"], rel=1e-6)
    assert row["bce"] > 0.0 < row["kd"]


def test_what_cannot_be_is_refused(pictures):
    with pytest.raises(BadInput, match=r"RandomCrop: inputs are float32 tensor \(4, 7\); expected pictures"):
        RandomCrop()(torch.zeros(4, 7), None)
    with pytest.raises(BadInput, match=r"leave data\.standardize out"):
        RandAugment()(pictures - 0.5, None)
    with pytest.raises(BadInput, match="1 or 3 channels"):
        RandAugment()(torch.zeros(2, 4, 8, 8), None)
    with pytest.raises(BadInput, match=r"smallest is 0\.0"):
        RandomCrop(smallest=0.0)
    with pytest.raises(BadInput, match="magnitude of 0 to 10"):
        RandAugment(magnitude=11)
