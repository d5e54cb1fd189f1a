"""The bag's label as an unbiased, noisy label of its instances: no teacher is in it.

An instance that is not of class c still lies in a bag of class c with some probability r_c, its *background*;
one that is of class c always does. With f_c(x) = sigmoid(s_c) the probability that the instance itself is of
class c, the label B_c of its bag (one against all) is therefore

    P(B_c = 1 | x) = r_c + (1 - r_c) f_c(x)

and its cross entropy is lowest where f is the truth: the "forward" correction of Patrini et al., "Making deep
neural networks robust to label noise: a loss correction approach" (CVPR 2017, theorem 2), for the noise that
multiple-instance labels are by definition. With a share w of the instances of a bag of class c being of class
c (the witness rate), and n_c of all n instances lying in bags of class c,

    r_c = (1 - w) n_c / (n - w n_c).

Plain cross entropy with the bag's label (every instance takes it) fits r_c + (1 - r_c) f_c by a sigmoid: it
ranks instances as well with much data, and wastes capacity on the step from r_c to 1 with little.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def background_rates(
    bag_labels: Int64[Tensor, "bags"],
    bag_sizes: Int64[Tensor, "bags"],
    *,
    classes: int,
    witness_rate: float,
) -> Float[Tensor, "positives"]:
    """Return r_c of the positive classes 1, 2, ...

    `witness_rate` in (0, 1) is the share of a positive bag's instances that are of its class.

    Raises:
        ValueError: `witness_rate` is not in (0, 1).

    >>> background_rates(torch.tensor([0, 1]), torch.tensor([100, 100]), classes=2, witness_rate=0.5).tolist()
    [0.333...]
    """
    if not 0.0 < witness_rate < 1.0:
        raise ValueError(f"expected a witness rate above 0 and below 1, found {witness_rate}")
    own = [torch.where(bag_labels == label, bag_sizes, 0).sum() for label in range(1, classes)]
    inside = torch.stack(own).double()
    total = bag_sizes.sum().double()
    return ((1.0 - witness_rate) * inside / (total - witness_rate * inside)).float()


def bag_label_losses(
    instance_logits: Float[Tensor, "instances positives"],
    labels: Int64[Tensor, "instances"],
    *,
    background: Float[Tensor, "positives"],
) -> Float[Tensor, "instances"]:
    """Return the cross entropy of the bag's label given r_c + (1 - r_c) sigmoid(s_c), mean over the classes.

    `labels` holds the label of each instance's bag.

    >>> sure = torch.tensor([[20.0], [-20.0]])
    >>> losses = bag_label_losses(sure, torch.tensor([1, 0]), background=torch.tensor([0.4]))
    >>> [round(loss, 3) for loss in losses.tolist()]  # -log(1) and -log(1 - 0.4)
    [0.0, 0.511]
    """
    own = labels[:, None] == torch.arange(1, instance_logits.shape[1] + 1, device=labels.device)
    inside = -(background + (1.0 - background) * instance_logits.sigmoid()).log()
    outside = F.softplus(instance_logits) - (-background).log1p()
    return torch.where(own, inside, outside).mean(dim=1)
