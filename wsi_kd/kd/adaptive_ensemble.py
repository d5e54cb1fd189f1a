"""AE-KD: several teachers weighted so that the step taken is good for all of them.

Each teacher m is an objective, its distillation loss KD_m. Of the directions d in the space of the student's
logits, the one that lowers the worst of them most, with slack for teachers that contradict the others:

    minimize  1/2 ||d||^2 + v + C sum_m xi_m      subject to  <g_m, d> <= v + xi_m,  xi_m >= 0

has the dual  min 1/2 ||sum_m w_m g_m||^2  with  sum w = 1, 0 <= w_m <= C,  and  d = - sum_m w_m g_m. The
loss is sum_m w_m KD_m with the weights as constants, so that its gradient is that vector. C = 1 is the
shortest vector of the whole hull (MGDA), C = 1 / M the plain mean.

For KD_m = T^2 KL(p_m || p_s) at temperature T, mean over B samples, the gradient in the student's logits
needs no backward pass: g_m = T (p_s - p_m) / B. The weights thus project the student's probabilities on the
hull of the teachers'; a student inside of it is given no direction.

Source: Du, You, Li, Wu, Wang, Qian, Zhang, "Agree to disagree: adaptive ensemble knowledge distillation in
gradient space", NeurIPS 2020 (C 0.6, T 4). Their code compares gradients averaged over the batch, in which
what teachers say of different samples cancels ("batch_mean" here), and stops at the solver's start when they
are small; see `min_norm`.
"""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from wsi_kd.kd.min_norm import min_norm_weights

SPACES: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "sample": lambda gradients: gradients.flatten(1),
    "batch_mean": lambda gradients: gradients.mean(dim=1),
}
"""From gradients (teachers, samples, classes) to the vectors (teachers, any) that are compared."""


def teacher_gradients(
    student_logits: Float[Tensor, "samples classes"],
    teacher_logits: Sequence[Float[Tensor, "samples classes"]],
    *,
    temperature: float,
) -> Float[Tensor, "teachers samples classes"]:
    """Return the gradient of each teacher's loss in the student's logits, T (p_s - p_m) / B, without graph.

    >>> teacher_gradients(torch.zeros(1, 2), [torch.tensor([[0.0, 100.0]])], temperature=2.0)
    tensor([[[ 1., -1.]]])
    """
    ours = (student_logits.detach() / temperature).softmax(dim=1)
    theirs = torch.stack([(logits / temperature).softmax(dim=1) for logits in teacher_logits])
    return temperature * (ours - theirs) / len(ours)


def ensemble_weights(
    gradients: Float[Tensor, "teachers samples classes"], *, tolerance: float, space: str
) -> Float64[Tensor, "teachers"]:
    """Return the teachers' weights for a batch, on the CPU: they sum to 1, none is above `tolerance`, C.

    Raises:
        BadInput: a tolerance below 1 / teachers or above 1.
        KeyError: no such space.
    """
    vectors = SPACES[space](gradients).double()
    return min_norm_weights(vectors @ vectors.T, cap=tolerance)
