"""SLaM, student-label mixing: the student is blurred as the teacher errs, so that noise misleads it less.

On an unlabeled x the teacher says y(x), probabilities. It is right with probability alpha(x); else the truth
is one of the other k(x) - 1 classes that it holds for likeliest. With f the student's probabilities and top_k
the mask of these k classes, all operations by element:

    normalized     mix(f) = alpha f + (1 - alpha) (1 - f) top_k / (k - 1)
    unnormalized   mix(f) = alpha f + (1 - alpha) (1 - f) top_k
    loss           - sum_j y_j log mix(f)_j                                       mean over the samples

The expected loss is least at the truth, not at the teacher. k = 1 leaves no other class: mix(f) = f. With
alpha = 1 the loss is the cross entropy with y. With k = all classes the normalized form is the "forward"
correction of Patrini et al., CVPR 2017, by T = alpha I + (1 - alpha) / (K - 1) (1 1' - I). Of two classes
both forms are alpha f + (1 - alpha) (1 - f).

The slope of mix(f)_j in f_j is alpha - (1 - alpha) / (k - 1), or alpha - (1 - alpha): at alpha = 1 / k, or
1/2, the loss no longer sees the student, and below it teaches the opposite. `require_bound` refuses such
trust. An unnormalized mix does not sum to 1: its loss is no likelihood, and its least value no entropy.

alpha(x) is the isotonic regression, on labeled data that the teacher did not train on, of "the teacher is
right" on its margin (largest minus second largest probability), and at least a bound; k(x) the smallest k for
which that of "the truth is among its k likeliest" reaches a level.

Source: Kontonis, Iliopoulos, Trinh, Baykal, Menghani, Vee, "SLaM: student-label mixing for distillation with
unlabeled examples", NeurIPS 2023; its experiments take the unnormalized form (remark B.1).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.isotonic import RisingCurve, fit_rising


def student_label_mix(
    probability: Float[Tensor, "samples classes"],
    *,
    alpha: Float[Tensor, "samples"],
    mask: Bool[Tensor, "samples classes"],
    normalize: bool,
) -> Float[Tensor, "samples classes"]:
    """Return mix(f); a row of the mask with one class only leaves the student as it is.

    >>> f = torch.tensor([[0.5, 0.25, 0.25]])
    >>> mask = torch.tensor([[True, True, False]])
    >>> student_label_mix(f, alpha=torch.tensor([0.75]), mask=mask, normalize=False)
    tensor([[0.5000, 0.3750, 0.1875]])
    """
    kept, added = _shares(alpha, mask, normalize=normalize)
    return kept * probability + added * (1.0 - probability)


def mixed_cross_entropy(
    logits: Float[Tensor, "samples classes"],
    teacher_probability: Float[Tensor, "samples classes"],
    *,
    alpha: Float[Tensor, "samples"],
    mask: Bool[Tensor, "samples classes"],
    normalize: bool,
) -> Float[Tensor, ""]:
    """Return - sum_j y_j log mix(f)_j with f the softmax of the student's logits, mean over the samples.

    Where nothing is mixed in, log(alpha f) comes from the logits, so that a class that the student excludes
    has its finite loss and gradient; elsewhere mix(f) is above 0. Nothing is clamped.
    """
    kept, added = _shares(alpha, mask, normalize=normalize)
    log_probability = F.log_softmax(logits, dim=1)
    probability = log_probability.exp()
    mixes = added > 0
    mixed = torch.where(mixes, kept * probability + added * (1.0 - probability), torch.ones_like(probability))
    log_mix = torch.where(mixes, mixed.log(), kept.log() + log_probability)
    return -(teacher_probability * log_mix).sum(dim=1).mean()


def _shares(
    alpha: Float[Tensor, "samples"], mask: Bool[Tensor, "samples classes"], *, normalize: bool
) -> tuple[Float[Tensor, "samples 1"], Float[Tensor, "samples classes"]]:
    """Return the factors of f and of 1 - f."""
    k = mask.sum(dim=1, keepdim=True)
    kept = torch.where(k > 1, alpha[:, None], torch.ones_like(alpha[:, None]))
    others = (k - 1).clamp(min=1) if normalize else torch.ones_like(k)
    return kept, (1.0 - kept) * mask / others


def class_ranks(probability: Float[Tensor, "samples classes"]) -> Int64[Tensor, "samples classes"]:
    """Return the rank of each class, 0 for the likeliest; of equal ones the first class comes first."""
    order = probability.argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1)


def top_k_mask(
    probability: Float[Tensor, "samples classes"], k: Int64[Tensor, "samples"]
) -> Bool[Tensor, "samples classes"]:
    """Return which classes are among the k likeliest, exactly k of each sample also where some are equal."""
    return class_ranks(probability) < k[:, None]


def teacher_margin(probability: Float[Tensor, "samples classes"]) -> Float[Tensor, "samples"]:
    """Return the largest minus the second largest probability of each sample.

    >>> teacher_margin(torch.tensor([[0.5, 0.125, 0.375]]))
    tensor([0.1250])
    """
    first = probability.topk(2, dim=1).values
    return first[:, 0] - first[:, 1]


def estimate_alpha(
    margin: Float[Tensor, "samples"], correct: Bool[Tensor, "samples"], *, lower_bound: float
) -> RisingCurve:
    """Return alpha as a curve over the margin: the isotonic regression of `correct`, raised to `lower_bound`.

    >>> margin, correct = torch.tensor([0.1, 0.2, 0.8, 0.9]), torch.tensor([False, False, True, True])
    >>> estimate_alpha(margin, correct, lower_bound=0.75)(margin.double()).tolist()
    [0.75, 0.75, 1.0, 1.0]

    Raises:
        BadInput: no samples, margins that are not finite, a bound outside of 0 to 1.
    """
    if not 0.0 < lower_bound <= 1.0:
        raise BadInput(f"lower bound of alpha is {lower_bound}; expected a number above 0 and at most 1")
    return fit_rising(margin, correct.double())._replace(floor=lower_bound)


def estimate_k_margins(
    margin: Float[Tensor, "samples"],
    rank_of_truth: Int64[Tensor, "samples"],
    *,
    accuracy: float,
    classes: int,
) -> Float[Tensor, "fewer_classes"]:
    """Return from which margin on the truth is among the k likeliest with probability `accuracy`.

    Each is read off the isotonic regression of "among the k likeliest" on the margin: -inf, always; inf,
    never. They fall with k, as the regression of a larger k is nowhere lower. See `smallest_k`.

    Raises:
        BadInput: no samples, margins that are not finite, an accuracy outside of 0 to 1.
    """
    if not 0.0 < accuracy <= 1.0:
        raise BadInput(f"accuracy of the k likeliest classes is {accuracy}; expected above 0 and at most 1")
    found = torch.full((classes - 1,), float("-inf"), dtype=torch.float64, device=margin.device)
    for k in range(1, classes):
        place = fit_rising(margin, (rank_of_truth < k).double()).reached(accuracy)
        found[k - 1] = place
        if place == float("-inf"):
            break
    return found


def smallest_k(
    margin: Float[Tensor, "samples"], k_margins: Float[Tensor, "fewer_classes"]
) -> Int64[Tensor, "samples"]:
    """Return the smallest k whose margin is reached; all classes where none is.

    >>> smallest_k(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.8, 0.3])).tolist()
    [3, 2, 1]
    """
    return 1 + (margin[:, None] < k_margins).sum(dim=1)


def require_bound(bound: float, *, k: int | None, normalize: bool) -> None:
    """Check that a student mixed with alpha of at least `bound` still learns towards the truth.

    `k` is None where it differs by sample: 2 is then the hardest of those that mix at all.

    Raises:
        BadInput: the bound is not above 1 / k (normalized) or 1/2, or not at most 1.
    """
    if k == 1 and 0.0 < bound <= 1.0:
        return
    parts = 2 if k is None or not normalize else k
    if not 1.0 / parts < bound <= 1.0:
        raise BadInput(
            f"alpha of {bound:g}: expected above 1/{parts} and at most 1; at 1/{parts} the mix no longer "
            "depends on the student, and below it the loss teaches the opposite of the truth"
        )
