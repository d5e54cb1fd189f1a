"""What factor transfer is told about its paraphraser reaches it, and the teacher's side learns nothing."""

import copy
import math

import pytest
import torch

from wsi_kd.core.errors import RunFailed
from wsi_kd.kd.losses.factor_transfer import FactorTransferLoss
from wsi_kd.kd.losses.paraphraser import Paraphraser, pretrain_paraphraser
from wsi_kd.kd.outputs import Outputs


def maps(seed, channels):
    return torch.rand(6, channels, 5, 5, generator=torch.Generator().manual_seed(seed))


def outputs(values):
    return Outputs(values.new_zeros(len(values), 2), {"ft": values})


def prepared(**settings):
    torch.manual_seed(0)
    loss = FactorTransferLoss(**({"max_unexplained": math.inf} | settings))
    loss.pair = "ft"
    loss.prepare(outputs(maps(0, 3)), outputs(maps(1, 4)))
    return loss


@pytest.mark.parametrize("reconstruction", ["squared", "l1"])
def test_epochs_rate_and_distance_are_those_of_the_paraphrasers_training(reconstruction):
    settings = {"epochs": 3, "learning_rate": 0.02}
    loss = prepared(reconstruction=reconstruction, **settings)
    alone = copy.deepcopy(loss.paraphraser)
    batches = [maps(2, 4), maps(3, 4)]

    told = loss.pretrain([(outputs(batch), None) for batch in batches])
    done = pretrain_paraphraser(alone, batches, distance=reconstruction, max_unexplained=math.inf, **settings)

    assert told == {"unexplained": done.unexplained}
    for found, expected in zip(loss.paraphraser.parameters(), alone.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert not any(parameter.requires_grad for parameter in loss.paraphraser.parameters())
    assert not loss.paraphraser.training


def test_the_bound_on_what_is_lost_is_asked_for():
    loss = prepared(epochs=1, learning_rate=1e-6, max_unexplained=0.5)

    with pytest.raises(RunFailed, match=r"unexplained and 0\.50 is allowed"):
        loss.pretrain([(outputs(maps(2, 4)), None)])
    assert not loss.pretrained


def test_no_gradient_reaches_the_teacher():
    loss = prepared(epochs=1)
    loss.pretrain([(outputs(maps(2, 4)), None)])
    student, teacher = maps(4, 3).requires_grad_(), maps(5, 4).requires_grad_()

    loss(outputs(student), outputs(teacher), None).backward()

    assert teacher.grad is None
    assert student.grad.abs().max().item() > 0.0


def test_six_layers_have_six_leaky_units_the_last_one_included():
    """Kernels that copy the middle: a positive number stays, a negative one is divided by 10 six times."""
    paraphraser = Paraphraser(1, factor_channels=1)
    with torch.no_grad():
        for name, parameter in paraphraser.named_parameters():
            parameter.zero_()
            if name.endswith("weight"):
                parameter[0, 0, 1, 1] = 1.0
    given = torch.tensor([[[[2.0, -1.0]]]])

    torch.testing.assert_close(paraphraser.encoder(given), torch.tensor([[[[2.0, -1e-3]]]]))
    torch.testing.assert_close(paraphraser(given), torch.tensor([[[[2.0, -1e-6]]]]), rtol=1e-5, atol=0)
