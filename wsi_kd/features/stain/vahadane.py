"""Stain vectors by Vahadane's method: optical density as few non-negative stains a pixel.

    minimize over W, C >= 0   sum over pixels of 1/2 |d - c W|^2 + sparsity (c_H + c_E),   |rows of W| = 1

Vahadane, Peng, Sethi, Albarqouni, Wang, Baust, Steiger, Schlitter, Esposito, Navab: "Structure-preserving
color normalization and sparse stain separation for histological images", IEEE Trans. Med. Imaging 35 (2016),
equation 8. Both halves are solved in turn: concentrations exactly (two unknowns a pixel leave four cases),
stains by block coordinate descent (Mairal, Bach, Ponce, Sapiro: "Online dictionary learning for sparse
coding", ICML 2009, algorithm 2).
"""

import numpy as np
from jaxtyping import Float64

from wsi_kd.features.stain.fits import CannotFit, DensityRows, StainMatrix
from wsi_kd.features.stain.macenko import ordered

SPARSITY = 0.1
"""The paper's lambda."""
MAX_ROUNDS = 200
TOLERANCE = 1e-7
MAX_PIXELS = 40_000


def vahadane_matrix(
    density: DensityRows, *, start: StainMatrix, sparsity: float = SPARSITY, rounds: int = MAX_ROUNDS
) -> StainMatrix:
    """Find the directions of two stains.

    Args:
        density: of stained pixels; of more than `MAX_PIXELS` evenly spaced ones are used.
        start: stains to start from, such as Macenko's: the problem is not convex, and this makes the answer
            the same each time.
        sparsity: weight of the concentrations in the sum.
        rounds: at most so many; fewer where no number of `W` changes by more than `TOLERANCE`.

    Raises:
        CannotFit: a stain that no pixel holds, or two that have become one.
    """
    step = -(-len(density) // MAX_PIXELS)
    density = np.maximum(density[::step], 0.0)
    matrix = np.maximum(start, 0.0)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    for _ in range(rounds):
        amounts = concentrations(density, matrix, sparsity=sparsity)
        former, matrix = matrix, _improved(matrix, amounts, density)
        if np.abs(matrix - former).max() <= TOLERANCE:
            break
    return ordered(matrix)


def concentrations(
    density: DensityRows, matrix: StainMatrix, *, sparsity: float = 0.0
) -> Float64[np.ndarray, "pixels 2"]:
    """Return the c >= 0 that minimize 1/2 |d - c W|^2 + sparsity (c_H + c_E) for every pixel, exactly.

    With g >= 0 the cosine of both stains, b = W d - sparsity and u_2 = (b_2 - g b_1) / (1 - g^2), what the
    second stain would be without the bound: c_1 = max(0, b_1 - g max(0, u_2)), and c_2 likewise. (Both
    positive: u; one of them not: 0, and the positive part of the other's b.)

    >>> matrix = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    >>> concentrations(np.array([[1.6, 0.8, 0.0], [0.0, 1.0, 0.0]]), matrix).round(12).tolist()
    [[1.0, 1.0], [0.0, 0.8]]
    """
    single = density @ matrix.T - sparsity
    cosine = float(matrix[0] @ matrix[1])
    both = (single - cosine * single[:, ::-1]) / (1.0 - cosine**2)
    return np.asarray(np.maximum(single - cosine * np.maximum(both[:, ::-1], 0.0), 0.0))


def _improved(
    matrix: StainMatrix, amounts: Float64[np.ndarray, "pixels 2"], density: DensityRows
) -> StainMatrix:
    """Go once through the stains: each becomes what fits best beside the other, not negative, of length 1."""
    gram, target = amounts.T @ amounts, amounts.T @ density
    improved = matrix.copy()
    for stain in range(len(improved)):
        if gram[stain, stain] <= 0.0:
            raise CannotFit("one stain alone: no pixel holds the second one")
        row = improved[stain] + (target[stain] - gram[stain] @ improved) / gram[stain, stain]
        row = np.maximum(row, 0.0)
        length = float(np.linalg.norm(row))
        if length == 0.0:
            raise CannotFit("one stain alone: the second one vanished")
        improved[stain] = row / length
    return improved
