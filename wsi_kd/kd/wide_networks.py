"""What a distillation will come to, from kernels alone: which soft ratio and temperature to take.

A wide student is linear in its weights: z(x) = dw.phi(x) with the neural tangent kernel K = phi phi'. With
the loss rho H(y_t, s(z / T)) + (1 - rho) H(y, s(z)) of a binary task (s the sigmoid, y_t = s(z_t / T) the
teacher's word, y in {0, 1} the label, rho the soft ratio) it is trained to the effective logits,

    z_eff:  (rho / T) (s(z / T) - y_t) + (1 - rho) (s(z) - y) = 0

whose left side grows in z, so that it has one root: z_t at rho = 1, and larger and larger where labels rule.
Then, K_n the kernel of the n training samples,

    z(x) = K(x, X) K_n^-1 z_eff,    |dw_n|^2 = z_eff' K_n^-1 z_eff,

which never falls when samples are added. How fast it grows is the data inefficiency
I(n) = d ln |dw_n| / d ln n: near 0 for a target inside the kernel's space, 1/2 for one with a jump, such as
hard labels.

What it assumes: a binary task, an infinitely wide student trained to the end from outputs of 0. The bound on
the transfer risk is loose by orders of magnitude. `soft_ratio.suggest_soft_ratio` guesses both in seconds.

Source: Ji and Zhu, "Knowledge distillation in wide neural networks: risk bound, data efficiency and imperfect
teacher", NeurIPS 2020 (arXiv 2010.10090); formulas derived anew in docs/kd_theory.md.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput

BISECTIONS: Final = 200
"""Each halves the bracket; float64 is exhausted long before."""
UNFITTED: Final = 1e-3
"""Share of the logits' norm that the trained student may miss: one of a regular kernel misses 1e-8."""
JITTER: Final = 1e-10
"""Share of the kernel's mean diagonal that is added to it, so that equal samples can be solved."""


class KernelStudent(NamedTuple):
    """An infinitely wide student, trained to the end."""

    coefficients: Float[Tensor, "samples"]
    norm: float
    """|dw_n|, of the change of its weights."""

    def predict(self, kernel: Float[Tensor, "points samples"]) -> Float[Tensor, "points"]:
        """Return logits from the kernel between new points and the training samples."""
        return kernel.double() @ self.coefficients


def effective_logits(
    teacher_logits: Float[Tensor, "samples"],
    labels: Int64[Tensor, "samples"],
    *,
    soft_ratio: float,
    temperature: float = 1.0,
    times_squared_temperature: bool = False,
) -> Float[Tensor, "samples"]:
    """Return the logits that minimize each sample's distillation loss, in float64.

    Args:
        teacher_logits: of class 1 against class 0.
        labels: 0 or 1.
        soft_ratio: rho, above 0 up to 1; at 0 the logits are infinite.
        temperature: T, above 0.
        times_squared_temperature: whether the soft term bears the factor T^2 of `KdLoss`; the paper has none,
            and without it a temperature of 10 makes a soft ratio of .95 behave like labels.

    Raises:
        BadInput: labels other than 0 and 1, logits that are not finite, a ratio or temperature out of range.
    """
    check_task(teacher_logits, labels)
    if not 0.0 < soft_ratio <= 1.0:
        raise BadInput(f"soft ratio {soft_ratio:g}: expected above 0 and at most 1")
    if not temperature > 0.0:
        raise BadInput(f"temperature {temperature:g}: expected above 0")
    teacher, truth = teacher_logits.double(), labels.double()
    soft = soft_ratio * (temperature if times_squared_temperature else 1.0 / temperature)
    target = torch.sigmoid(teacher / temperature)

    def slope(logits: Tensor) -> Tensor:
        return soft * (torch.sigmoid(logits / temperature) - target) + (1.0 - soft_ratio) * (
            torch.sigmoid(logits) - truth
        )

    reach = _bracket(teacher, soft=soft, hard=1.0 - soft_ratio, temperature=temperature)
    low, high = -reach, reach
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        over = slope(middle) > 0.0
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return teacher.clone() if soft_ratio == 1.0 else (low + high) / 2.0


def kernel_student(kernel: Float[Tensor, "rows columns"], logits: Float[Tensor, "samples"]) -> KernelStudent:
    """Train the infinitely wide student of a kernel on logits to the end.

    Raises:
        BadInput: a kernel that is not square, symmetric and positive definite even with a little jitter, or
            is so nearly singular that no student of it gives these logits.
    """
    factor = _cholesky(kernel, samples=len(logits))
    coefficients = _solve(kernel, factor, logits)
    return KernelStudent(coefficients, math.sqrt(max(float(coefficients @ logits.double()), 0.0)))


def weight_norms(
    kernel: Float[Tensor, "rows columns"], logits: Float[Tensor, "samples"], counts: Sequence[int]
) -> list[float]:
    """Return |dw_n| of the student trained on the first n samples, for each n of `counts`; it never falls.

    Raises:
        BadInput: as `kernel_student`; counts that are not 1 to all samples.
    """
    if not counts or min(counts) < 1 or max(counts) > len(logits):
        raise BadInput(f"counts {list(counts)}: expected numbers from 1 to {len(logits)}")
    largest = max(counts)
    factor = _cholesky(kernel[:largest, :largest], samples=largest)
    _solve(kernel[:largest, :largest], factor, logits[:largest])
    # the first n entries of the solution depend on the first n samples alone
    whitened = torch.linalg.solve_triangular(factor, logits[:largest].double()[:, None], upper=False)[:, 0]
    sums = whitened.square().cumsum(0)
    return [math.sqrt(float(sums[count - 1])) for count in counts]


def data_inefficiency(
    kernel: Float[Tensor, "rows columns"],
    logits: Float[Tensor, "samples"],
    counts: Sequence[int],
    *,
    draws: int = 5,
    seed: int = 0,
) -> list[float]:
    """Return I between neighbors of `counts`: the slope of ln E|dw_n| over ln n, over orders of the samples.

    About 0: the target lies in the kernel's space, a few samples tell it. About .5: it has a jump.

    Raises:
        BadInput: as `weight_norms`; counts that do not grow.
    """
    if any(later <= earlier for earlier, later in pairwise(counts)) or len(counts) < 2:  # noqa: PLR2004  # a slope needs two
        raise BadInput(f"counts {list(counts)}: expected two or more, growing")
    generator = torch.Generator().manual_seed(seed)
    sums = [0.0] * len(counts)
    for _ in range(draws):
        order = torch.randperm(len(logits), generator=generator)
        norms = weight_norms(kernel[order][:, order], logits[order], counts)
        sums = [total + norm for total, norm in zip(sums, norms, strict=True)]
    steps = zip(counts, counts[1:], sums, sums[1:], strict=False)
    return [
        math.log(later / earlier) / math.log(more / fewer) if earlier > 0.0 else 0.0
        for fewer, more, earlier, later in steps
    ]


def transfer_risk_bound(
    student_norm: float,
    teacher_norm: float,
    *,
    logits: Float[Tensor, "points"],
    feature_norms: Float[Tensor, "points"],
) -> float:
    """Bound the share of points where the student's sign is not the perfect teacher's (rho = 1).

    The angle between the two weight vectors, arccos(|dw_n| / |dw_*|), and that between the teacher's weights
    and a point's boundary add up.

    Args:
        student_norm: |dw_n|.
        teacher_norm: |dw_*|, of the weights that give the teacher's logits exactly.
        logits: the teacher's at new points.
        feature_norms: |phi(x)| = sqrt(K(x, x)) there.

    Raises:
        BadInput: a teacher's norm of 0, or below the student's.
    """
    if not (teacher_norm > 0.0 and student_norm <= teacher_norm * (1.0 + 1e-6)):
        raise BadInput(
            f"norms {student_norm:g} (student) and {teacher_norm:g} (teacher): the student's is a projection "
            "of the teacher's, so it cannot be larger; pass logits that the kernel can express"
        )
    alpha = math.acos(min(student_norm / teacher_norm, 1.0))
    cosines = (logits.double().abs() / (feature_norms.double() * teacher_norm)).clamp(max=1.0)
    return float((torch.arccos(cosines) > math.pi / 2.0 - alpha).double().mean())


def _bracket(teacher: Tensor, *, soft: float, hard: float, temperature: float) -> Tensor:
    """Return a logit beyond which the slope cannot vanish, both ways.

    There the label's part, at most hard exp(-z), and the soft one, at least half of what the teacher leaves,
    must have crossed.
    """
    room = torch.sigmoid(-teacher.abs() / temperature)  # what the soft target leaves to 0 or 1
    needed = torch.log1p(2.0 * hard / (soft * room))
    return teacher.abs() + temperature * (needed + 4.0) + needed + 4.0


def _cholesky(kernel: Tensor, *, samples: int) -> Tensor:
    if tuple(kernel.shape) != (samples, samples):
        raise BadInput(f"kernel of shape {tuple(kernel.shape)} for {samples} logits; expected a square one")
    matrix = kernel.double()
    if not bool(matrix.isfinite().all()) or not torch.allclose(matrix, matrix.T, rtol=1e-5, atol=1e-8):
        raise BadInput("the kernel is not symmetric and finite; pass K(X, X) of one kernel function")
    eye = torch.eye(samples, dtype=matrix.dtype, device=matrix.device)
    factor: Tensor
    factor, fault = torch.linalg.cholesky_ex(matrix + JITTER * matrix.diagonal().mean() * eye)
    if int(fault):
        raise BadInput(
            f"the kernel is singular at sample {int(fault)}: it tells fewer samples apart than there are; "
            "take a kernel of more features, or leave out samples that are the same"
        )
    return factor


def _solve(kernel: Tensor, factor: Tensor, logits: Tensor) -> Tensor:
    """Return the coefficients, once it is known that they give the logits: jitter hides a singular kernel."""
    wanted = logits.double()
    coefficients = torch.cholesky_solve(wanted[:, None], factor)[:, 0]
    missed = torch.linalg.vector_norm(kernel.double() @ coefficients - wanted)
    if bool(missed > UNFITTED * torch.linalg.vector_norm(wanted)):
        raise BadInput(
            "the kernel is singular: samples that it cannot tell apart have different logits; take a kernel "
            "of more features, or leave out samples that are the same"
        )
    return coefficients


def check_task(teacher_logits: Tensor, labels: Tensor) -> None:
    """Check that both are (samples,), of a binary task, and finite.

    Raises:
        BadInput: see above.
    """
    if teacher_logits.ndim != 1 or teacher_logits.shape != labels.shape or not len(labels):
        raise BadInput(
            f"teacher's logits {tuple(teacher_logits.shape)} and labels {tuple(labels.shape)}: expected "
            "(samples,) each, the logit of class 1 against class 0"
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise BadInput("labels are not all 0 or 1: this analysis is of binary tasks; pick two classes")
    if not bool(teacher_logits.isfinite().all()):
        raise BadInput("the teacher's logits are not finite; check its weights and inputs")
