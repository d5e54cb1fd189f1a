"""How far a student is from its teacher, without labels: representation and sharpness."""

import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.kd.losses.pairing import at_least_float32


def cka(first: Tensor, second: Tensor) -> Float[Tensor, ""]:
    """Return the linear centered kernel alignment of two representations of the same samples, in [0, 1].

        ||Y' X||^2 / (||X' X|| ||Y' Y||)    Frobenius norms, X and Y centered by column

    Kornblith, Norouzi, Lee, Hinton, "Similarity of neural network representations revisited", ICML 2019,
    eq. 3. It sees neither rotations nor one scale of either. A constant representation has 0.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    >>> round(cka(x, -5.0 * x.flip(1)).item(), 6)
    1.0
    """
    x, y = (_centered(values) for values in (first, second))
    # by samples: as many numbers as samples squared, whatever the width of features
    ours, theirs = x @ x.T, y @ y.T
    size = torch.linalg.matrix_norm(ours) * torch.linalg.matrix_norm(theirs)
    return torch.where(size > 0, (ours * theirs).sum() / torch.where(size > 0, size, 1.0), 0.0)


def representation_gap(student: Tensor, teacher: Tensor) -> float:
    """Return 1 - CKA of both sides' features or logits, (samples, ...) each."""
    return 1.0 - float(cka(student, teacher))


def sharpness(logits: Float[Tensor, "samples classes"]) -> float:
    """Return the mean over samples of log sum exp of the logits, each sample's mean taken off.

    The constant that logits are free by would otherwise be part of it. It is log(classes) for equal logits,
    and grows with the confidence.

    >>> round(sharpness(torch.tensor([[5.0, 5.0]])), 4)
    0.6931
    """
    wide = at_least_float32(logits)
    return float((wide.logsumexp(dim=1) - wide.mean(dim=1)).mean())


def sharpness_gap(
    student: Float[Tensor, "samples classes"], teacher: Float[Tensor, "samples classes"]
) -> float:
    """Return how much sharper one side is than the other."""
    return abs(sharpness(student) - sharpness(teacher))


def _centered(values: Tensor) -> Tensor:
    rows = values.detach().flatten(1).double()
    return rows - rows.mean(dim=0, keepdim=True)
