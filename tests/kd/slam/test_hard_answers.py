"""SLaM of the teacher's likeliest class instead of its probabilities."""

import pytest
import torch

from wsi_kd.kd.losses.slam import SlamLoss
from wsi_kd.kd.outputs import Outputs


def test_the_answer_is_the_likeliest_class_and_the_others_stay_in_the_mix() -> None:
    """Of (.6, .3, .1) and k = 2 class 0 is said and 1 may be meant; f = (.2, .5, .3), alpha = .8."""
    teacher = Outputs(torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log())
    student = Outputs(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).log())
    settings = {"k": 2, "alpha": 0.8}

    hard = SlamLoss(hard_answer=True, **settings)(student, teacher, None)
    soft = SlamLoss(**settings)(student, teacher, None)

    mix = torch.tensor([0.8 * 0.2 + 0.2 * 0.8, 0.8 * 0.5 + 0.2 * 0.5, 0.8 * 0.3], dtype=torch.float64)
    assert hard.item() == pytest.approx(-mix[0].log().item())
    assert soft.item() == pytest.approx(
        -(torch.tensor([0.6, 0.3, 0.1]).double() * mix.log()).sum().item(), rel=1e-6
    )


def test_of_equally_likely_classes_the_first_is_said() -> None:
    teacher = Outputs(torch.zeros(1, 3, dtype=torch.float64))
    student = Outputs(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).log())

    found = SlamLoss(hard_answer=True, k=1, alpha=0.8)(student, teacher, None)

    assert found.exp().item() == pytest.approx(1.0 / 0.2)
