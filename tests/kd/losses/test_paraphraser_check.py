"""The check of a trained paraphraser by the teacher's head: what it keeps of the teacher's accuracy."""

import math

import pytest
import torch
from torch import nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.losses.factor_transfer import FactorTransferLoss
from wsi_kd.kd.losses.paraphraser import Paraphraser, accuracies_through, unexplained_variance
from wsi_kd.kd.outputs import Outputs


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_pattern(seed, samples):
    """Maps of four channels that are multiples of one."""
    hidden = torch.rand((samples, 1, 5, 5), generator=torch.Generator().manual_seed(seed))
    return hidden * torch.tensor([2.0, 4.0, 1.0, 2.0])[:, None, None]


def by_sign(maps):
    """A head that tells two classes by the sign of the first channel."""
    score = maps[:, 0].mean(dim=(1, 2))
    return torch.stack([-score, score], dim=1)


class Negated(Paraphraser):
    def forward(self, maps):
        return -maps


def test_accuracy_is_read_through_the_reconstruction():
    """Five of ten maps are negative; a reconstruction of the other sign turns all."""
    maps = draw(0, 10, 1, 2, 2).abs()
    maps[:5] *= -1.0
    labels = torch.tensor([0] * 5 + [1] * 4 + [0])
    batches = [(maps[:3], labels[:3]), (maps[3:], labels[3:])]

    found = accuracies_through(Negated(1, factor_channels=1), batches, head=by_sign)

    assert found == pytest.approx((0.9, 0.1))


def signed(seed, samples):
    """Maps of one pattern whose sign the teacher's logits tell; the labels of the first two are wrong."""
    maps = one_pattern(seed, samples) * torch.tensor([-1.0, 1.0]).repeat(samples // 2)[:, None, None, None]
    labels = torch.arange(samples) % 2
    labels[:2] = 1 - labels[:2]
    return Outputs(by_sign(maps), {"ft": maps}), labels


def checked_loss(**settings):
    torch.manual_seed(0)
    loss = FactorTransferLoss(learning_rate=0.01, **settings)
    loss.pair = "ft"
    teacher, _ = signed(0, 4)
    loss.prepare(teacher, teacher)
    loss.check_by(by_sign)
    return loss


@pytest.mark.parametrize("labeled", [True, False])
def test_a_good_paraphraser_keeps_the_teacher_s_accuracy(labeled):
    loss, batches = checked_loss(epochs=60), [signed(seed, 32) for seed in range(4)]

    told = loss.pretrain([(teacher, labels if labeled else None) for teacher, labels in batches])

    assert told["unexplained"] < 0.35
    assert told["kept"] > 0.98
    assert unexplained_variance(loss.paraphraser, [signed(9, 32)[0].features["ft"]]) < 0.35


def test_a_paraphraser_that_lost_the_classes_is_refused():
    """It is hardly trained: what it gives is next to a constant, and one class is all the teacher finds."""
    loss = checked_loss(epochs=1, max_unexplained=math.inf)
    loss.learning_rate = 1e-6

    with pytest.raises(RunFailed, match=r"the teacher finds 0\.5.. of the classes, 0\.9.* take another"):
        loss.pretrain([signed(seed, 32) for seed in range(2)])
    with pytest.raises(BadInput, match="is not trained"):
        loss(signed(1, 4)[0], signed(1, 4)[0], None)


def test_a_head_of_another_network_is_refused():
    loss = checked_loss(epochs=1, max_unexplained=math.inf)
    loss.check_by(lambda maps: -by_sign(maps))

    with pytest.raises(BadInput, match=r"the head given to check_by decides as the teacher in 0\.00 of the"):
        loss.pretrain([signed(0, 32)])


def test_the_checked_head_is_no_part_of_the_loss():
    """A network's head would bring its parameters into the optimizer and the state."""
    loss = checked_loss()
    before = list(loss.state_dict())
    loss.check_by(nn.Linear(2, 2))

    assert list(loss.state_dict()) == before
