"""Distillation gradients against the numbers of the released code (IST-DASLab/KDVR), in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from wsi_kd.kd.teacher_gradient import mean_gradient
from wsi_kd.kd.variance_reduction import DistillationGradient

pytestmark = pytest.mark.shared_data

CLOSE = {"rtol": 1e-10, "atol": 1e-13}


@pytest.fixture(scope="module")
def released(shared_reference):
    with np.load(shared_reference / "kdvr_gradient_identity.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


class Released(nn.Module):
    """The released code's network: one linear layer under the name `linear`."""

    def __init__(self, numbers, who):
        super().__init__()
        self.linear = nn.Linear(12, 10, dtype=torch.float64)
        self.load_state_dict({name: numbers[f"{who}.{name}"] for name in self.state_dict()})

    def forward(self, inputs):
        return self.linear(inputs)


@pytest.mark.parametrize("weight", [0.3, 0.7])
def test_gradients_are_those_of_the_released_code(released, weight):
    student, teacher = Released(released, "student"), Released(released, "teacher")

    DistillationGradient(student, teacher, weight=weight)(released["x"], released["y"]).backward()

    for name, parameter in student.named_parameters():
        for kind in (f"modified.l{weight}", f"kd.l{weight}.T1"):
            torch.testing.assert_close(parameter.grad, released[f"{kind}.grad.{name}"], **CLOSE)
    hot = released[f"kd.l{weight}.T2.grad.linear.weight"]
    assert (student.linear.weight.grad - hot).abs().max() > 1e-3


def test_the_step_with_the_full_gradient_is_that_of_the_released_code(released):
    student, teacher = Released(released, "student"), Released(released, "teacher")
    rows = [slice(start, start + 8) for start in (0, 8, 16)]
    full = mean_gradient(teacher, [(released["x_full"][part], released["y_full"][part]) for part in rows])
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, weight_decay=0.01)

    DistillationGradient(student, teacher, weight=0.7, full_gradient=full)(
        released["x"], released["y"]
    ).backward()
    optimizer.step()

    for name, value in student.named_parameters():
        torch.testing.assert_close(full[name], released[f"grad.teacher_full24.{name}"], **CLOSE)
        torch.testing.assert_close(value.data, released[f"update_student.l0.7.{name}"], **CLOSE)
