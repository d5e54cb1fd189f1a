"""What a searched loss is made of: transforms of one side, distances between both.

All see maps (samples, channels, height, width); logits and vectors are maps of one position. Names and kinds
follow the search spaces of KD-Zero (Li, Dong, Li, Wei, Yang, NeurIPS 2023) and Auto-KD (Li, Dong, Wei,
Yang, ICCV 2023); neither has released its operations, so that the formulas here are our own. A mask drawn at
random, which such spaces have too, is none of them: it would make one genome many losses.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_kd.core.errors import unknown_name
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.search.genome import Genome

Transform: TypeAlias = Callable[[Tensor, float], Tensor]
"""From maps and a temperature to maps of the same samples (of others, where samples are compared)."""
Distance: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
"""From the student's and the teacher's maps of one shape, and a temperature, to a scalar."""

BATCH, CHANNELS, SPACE = (0,), (1,), (2, 3)
SCALES: Final = (1, 2)
"""Sides of the grids that `multi_scale` averages to, beside the maps themselves."""
VARIANCE_FLOOR: Final = 1e-8
TEMPERED: Final = frozenset({"kl", "softmax_c", "softmax_hw", "softmax_n"})
"""What the temperature changes."""


class Operations(NamedTuple):
    """Transforms and distances by name."""

    transforms: Mapping[str, Transform]
    distances: Mapping[str, Distance]

    def check(self, genome: Genome) -> None:
        """Check that a genome's names are known.

        Raises:
            BadInput: naming the nearest known one.
        """
        for transform in genome.transforms:
            if transform not in self.transforms:
                raise unknown_name("transform of a searched loss", transform, self.transforms)
        if genome.distance not in self.distances:
            raise unknown_name("distance of a searched loss", genome.distance, self.distances)


def _normalized(maps: Tensor, temperature: float, *, over: tuple[int, ...]) -> Tensor:
    """Zero mean and unit variance over some axes; where they hold one value or equal ones, 0."""
    del temperature
    centered = maps - maps.mean(dim=over, keepdim=True)
    return centered / (centered.square().mean(dim=over, keepdim=True) + VARIANCE_FLOOR).sqrt()


def _softmax(maps: Tensor, temperature: float, *, over: tuple[int, ...]) -> Tensor:
    scaled = maps / temperature
    return (scaled - scaled.logsumexp(dim=over, keepdim=True)).exp()


def _absolute(maps: Tensor, temperature: float) -> Tensor:
    del temperature
    return maps.abs()


def _squared(maps: Tensor, temperature: float) -> Tensor:
    del temperature
    return maps.square()


def _spatial_attention(maps: Tensor, temperature: float) -> Tensor:
    """Mean square over the channels: where something is."""
    del temperature
    return maps.square().mean(dim=1, keepdim=True)


def _channel_attention(maps: Tensor, temperature: float) -> Tensor:
    """Mean over the positions: what is there."""
    del temperature
    return maps.mean(dim=SPACE, keepdim=True)


def _mask(maps: Tensor, temperature: float) -> Tensor:
    """Keep what is above the sample's mean, set the rest to 0."""
    del temperature
    return torch.where(maps > maps.mean(dim=(1, 2, 3), keepdim=True), maps, torch.zeros_like(maps))


def _multi_scale(maps: Tensor, temperature: float) -> Tensor:
    """The maps' positions, and behind them their means over a 1 x 1 and a 2 x 2 grid."""
    del temperature
    grids = [maps, *(F.adaptive_avg_pool2d(maps, side) for side in SCALES)]
    return torch.cat([grid.flatten(2) for grid in grids], dim=2)[..., None]


def _local(maps: Tensor, temperature: float) -> Tensor:
    """Each position less the mean of the 3 x 3 around it (of those inside the map)."""
    del temperature
    return maps - F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)


def _batch_similarity(maps: Tensor, temperature: float) -> Tensor:
    """Cosines between samples, (samples, samples, 1, 1)."""
    del temperature
    rows = unit(maps.flatten(1), dim=1)
    return (rows @ rows.T)[:, :, None, None]


def _channel_similarity(maps: Tensor, temperature: float) -> Tensor:
    """Products of each sample's channels, mean over positions, (samples, channels, channels, 1)."""
    del temperature
    rows = maps.flatten(2)
    return (rows @ rows.transpose(1, 2) / rows.shape[2])[..., None]


def _l1(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    del temperature
    return F.l1_loss(student, teacher)


def _l2(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    del temperature
    return F.mse_loss(student, teacher)


def _smooth_l1(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    del temperature
    return F.smooth_l1_loss(student, teacher)


def _kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL of softmax over channels of both / T, teacher first, mean over samples and positions."""
    ours = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1).mean()


def _cosine(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """1 - cosine of each sample's values."""
    del temperature
    cosines = (unit(student.flatten(1), dim=1) * unit(teacher.flatten(1), dim=1)).sum(dim=1)
    return 1.0 - cosines.mean()


def _pearson(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """1 - correlation of each sample's values."""
    ours, theirs = student.flatten(1), teacher.flatten(1)
    return _cosine(
        ours - ours.mean(dim=1, keepdim=True), theirs - theirs.mean(dim=1, keepdim=True), temperature
    )


OPERATIONS: Final = Operations(
    transforms={
        "abs": _absolute,
        "batch_similarity": _batch_similarity,
        "channel_attention": _channel_attention,
        "channel_similarity": _channel_similarity,
        "local": _local,
        "mask": _mask,
        "multi_scale": _multi_scale,
        "norm_c": partial(_normalized, over=CHANNELS),
        "norm_hw": partial(_normalized, over=SPACE),
        "norm_n": partial(_normalized, over=BATCH),
        "pow2": _squared,
        "softmax_c": partial(_softmax, over=CHANNELS),
        "softmax_hw": partial(_softmax, over=SPACE),
        "softmax_n": partial(_softmax, over=BATCH),
        "spatial_attention": _spatial_attention,
    },
    distances={
        "cosine": _cosine,
        "kl": _kl,
        "l1": _l1,
        "l2": _l2,
        "pearson": _pearson,
        "smooth_l1": _smooth_l1,
    },
)
"""The suffixes name the axes that a mean or a sum goes over: n samples, c channels, hw positions."""
