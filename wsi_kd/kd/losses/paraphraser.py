"""Networks of factor transfer, the paraphraser's pre-training, and the check that it did not die.

The paraphraser is a convolutional autoencoder of the teacher's feature map: three 3x3 convolutions C -> C ->
kC -> kC, three transposed ones back, a leaky ReLU of slope 0.1 after each, the last included, no batch norm
(Kim, Park, Kwak, "Paraphrasing complex network: network compression via factor transfer", NeurIPS 2018, and
its released code). What is between, of kC channels, is the factor. The translator is its first half for the
student's channels.

The authors train it by SGD (0.1, momentum 0.9) on the mean absolute difference, RepDistiller and others on
the squared one. A leaky output and a large rate can leave it dead, giving next to a constant, and then the
student learns from noise without any sign of it; so it is trained by Adam here, and refused if it explains
too little of the features.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed, unknown_name
from wsi_kd.kd.losses.pairing import at_least_float32

Maps: TypeAlias = Float[Tensor, "samples channels height width"]
RECONSTRUCTION_DISTANCES: Final[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "squared": F.mse_loss,
    "l1": F.l1_loss,
}

SLOPE = 0.1


def factor_encoder(channels: int, factor_channels: int) -> nn.Sequential:
    """Build three 3x3 convolutions, a leaky ReLU after each."""
    widths = [channels, channels, factor_channels, factor_channels]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class Paraphraser(nn.Module):
    """Autoencoder of feature maps; `encoder` makes the factor."""

    def __init__(self, channels: int, *, factor_channels: int) -> None:
        super().__init__()
        self.encoder = factor_encoder(channels, factor_channels)
        widths = [factor_channels, factor_channels, channels, channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, maps: Maps) -> Maps:
        """Return the reconstruction."""
        reconstruction: Tensor = self.decoder(self.encoder(maps))
        return reconstruction


class Pretraining(NamedTuple):
    """How the paraphraser's training went."""

    losses: list[float]
    """Mean loss of each epoch."""
    unexplained: float
    """Squared error of the reconstruction after the last epoch, divided by the features' variance."""


class Accuracies(NamedTuple):
    """Share of samples that the teacher's head puts into their class."""

    direct: float
    through: float
    """From the reconstruction instead of the features."""


def pretrain_paraphraser(
    paraphraser: Paraphraser,
    batches: Iterable[Maps],
    *,
    epochs: int,
    learning_rate: float,
    distance: str = "squared",
    max_unexplained: float = 0.35,
) -> Pretraining:
    """Train the paraphraser on the teacher's feature maps, then check it and freeze it.

    Args:
        paraphraser: trained in place; afterwards in eval mode, its parameters without gradient.
        batches: the teacher's features, gone through once an epoch and once for the check: a list, or
            a loader's view that can start again.
        epochs: passes over the batches.
        learning_rate: Adam's.
        distance: what is made small, mean over all elements; the authors' is "l1".
        max_unexplained: largest `Pretraining.unexplained` that is accepted; 1 is a constant's.

    Raises:
        BadInput: no epochs, no batches (or an iterator that ends after one pass), constant features, an
            unknown distance.
        RunFailed: the paraphraser explains less of the features than asked.
    """
    if epochs < 1:
        raise BadInput(f"pre-training the paraphraser: epochs is {epochs}; it must be at least 1")
    if distance not in RECONSTRUCTION_DISTANCES:
        raise unknown_name("distance of the reconstruction", distance, RECONSTRUCTION_DISTANCES)
    paraphraser.requires_grad_(requires_grad=True).train()
    optimizer = torch.optim.Adam(paraphraser.parameters(), lr=learning_rate)
    losses = [_one_epoch(paraphraser, batches, optimizer=optimizer, distance=distance) for _ in range(epochs)]
    optimizer.zero_grad(set_to_none=True)
    paraphraser.requires_grad_(requires_grad=False).eval()
    unexplained = unexplained_variance(paraphraser, batches)
    if not unexplained <= max_unexplained:
        raise RunFailed(
            f"the paraphraser leaves {unexplained:.2f} of the variance of the teacher's features unexplained "
            f"and {max_unexplained:.2f} is allowed; train it longer (epochs) or at another learning_rate, "
            "give it more channels (rate), or take another seed: some draws are dead from the start"
        )
    return Pretraining(losses, unexplained)


@torch.no_grad()
def unexplained_variance(paraphraser: Paraphraser, batches: Iterable[Maps]) -> float:
    """Return the reconstruction's squared error divided by the features' variance about each channel's mean.

    Raises:
        BadInput: there are no batches, or the features are constant.
    """
    error = total = squares = torch.zeros((), dtype=torch.float64)
    count = 0
    for batch in batches:
        maps = at_least_float32(batch)
        wide = maps.double().cpu()
        error = error + (paraphraser(maps).double().cpu() - wide).square().sum()
        total = total + wide.sum(dim=(0, 2, 3))
        squares = squares + wide.square().sum(dim=(0, 2, 3))
        count += wide.shape[0] * wide.shape[2] * wide.shape[3]
    _require_batches(count)
    spread = (squares - total.square() / count).sum()
    if not spread > 0:
        raise BadInput("pre-training the paraphraser: the teacher's features are constant; tap another layer")
    return float(error / spread)


@torch.no_grad()
def accuracies_through(
    paraphraser: Paraphraser,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    head: Callable[[Tensor], Tensor],
) -> Accuracies:
    """Compare what the teacher's `head` (maps to logits) makes of features and of their reconstruction.

    `batches` are (maps, classes): (samples, channels, height, width) and (samples,) int64. A factor that lost
    what the classes need cannot teach them.

    Raises:
        BadInput: there are no batches.
    """
    direct = through = count = 0
    for maps, labels in batches:
        direct += int((head(maps).argmax(dim=1) == labels).sum())
        through += int((head(paraphraser(at_least_float32(maps))).argmax(dim=1) == labels).sum())
        count += len(labels)
    _require_batches(count)
    return Accuracies(direct / count, through / count)


def _one_epoch(
    paraphraser: Paraphraser,
    batches: Iterable[Maps],
    *,
    optimizer: torch.optim.Optimizer,
    distance: str,
) -> float:
    total, count = 0.0, 0
    for batch in batches:
        maps = at_least_float32(batch)
        with torch.enable_grad():
            loss = RECONSTRUCTION_DISTANCES[distance](paraphraser(maps), maps)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        total += loss.item() * len(maps)
        count += len(maps)
    _require_batches(count)
    return total / count


def _require_batches(count: int) -> None:
    if not count:
        raise BadInput(
            "pre-training the paraphraser: there are no features; give a list of batches, "
            "not an iterator that ends after one pass"
        )
