"""Isotonic regression: the rising curve closest to points, by pooling adjacent violators.

    minimize sum_i (f(x_i) - y_i)^2   over f with f(a) <= f(b) wherever a <= b

Points of one x count as their mean with their number as weight. Between the points that are kept f is linear,
outside of them constant, as scikit-learn's `IsotonicRegression(out_of_bounds="clip")`, to which a test holds
it. Pooling in any order ends at the one solution, so that all falling runs are pooled at once.

Source: Barlow, Bartholomew, Bremner, Brunk, "Statistical inference under order restrictions", 1972.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.core.errors import BadInput


class RisingCurve(NamedTuple):
    """A function that nowhere falls: linear between its points, constant outside, at least a floor."""

    at: Float[Tensor, "points"]
    """Where the points are, rising; repeated ones play no role."""
    values: Float[Tensor, "points"]
    floor: float = float("-inf")

    def __call__(self, where: Float[Tensor, "samples"]) -> Float[Tensor, "samples"]:
        """Return the values there."""
        right = torch.searchsorted(self.at, where.contiguous()).clamp(max=len(self.at) - 1)
        left = (right - 1).clamp(min=0)
        width = self.at[right] - self.at[left]
        share = (where - self.at[left]) / torch.where(width > 0, width, torch.ones_like(width))
        found = torch.lerp(self.values[left], self.values[right], share.clamp(0.0, 1.0))
        return found.clamp(min=self.floor)

    def reached(self, level: float) -> float:
        """Return from where on the curve is at least `level`: -inf, always; inf, never.

        >>> RisingCurve(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 0.5, 0.5])).reached(0.25)
        0.5
        """
        right = 0 if level <= self.floor else int((self.values < level).sum())
        if right in {0, len(self.values)}:
            return float("inf") if right else float("-inf")
        low, high = self.values[right - 1].item(), self.values[right].item()
        share = (level - low) / (high - low)
        begin, end = self.at[right - 1].item(), self.at[right].item()
        return min(begin + share * (end - begin), end)  # rounding must not go past the point itself


def fit_rising(where: Float[Tensor, "samples"], values: Float[Tensor, "samples"]) -> RisingCurve:
    """Return the rising curve of least squares, in float64; of every flat piece its two ends are kept.

    >>> fit_rising(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])).values.tolist()
    [0.0, 0.5, 0.5, 1.0]

    Raises:
        BadInput: no points, or some that are not finite.
    """
    if not len(where) or not (where.isfinite().all() and values.isfinite().all()):
        raise BadInput(f"isotonic regression of {len(where)} points; expected at least 1, all finite")
    at, group, counts = torch.unique(where.double(), return_inverse=True, return_counts=True)
    total = torch.zeros_like(at).index_add(0, group, values.double())
    weight = counts.double()
    first = torch.arange(len(at), device=at.device)
    while len(first) > 1:
        mean = total / weight
        starts = torch.cat([mean.new_ones(1, dtype=torch.bool), mean[1:] > mean[:-1]])
        if bool(starts.all()):
            break
        block = starts.cumsum(0) - 1
        merged = total.new_zeros(int(block[-1]) + 1)
        total, weight = merged.index_add(0, block, total), merged.index_add(0, block, weight)
        first = first[starts]
    last = torch.cat([first[1:] - 1, first.new_tensor([len(at) - 1])])
    ends = torch.stack([first, last], dim=1).flatten()
    kept = torch.cat([ends.new_ones(1, dtype=torch.bool), ends[1:] != ends[:-1]])
    return RisingCurve(at[ends[kept]], (total / weight).repeat_interleave(2)[kept])
