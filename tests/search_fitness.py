"""A fitness of the tests that processes can import: a hill over genomes, with noise that makes all differ."""

import math

import torch

from wsi_kd.kd.search.genome import Genome


def hill(genome: Genome) -> float:
    """Return most for norm_n, pearson and a temperature of 4; the weight plays no role."""
    bonus = 2.0 * ("norm_n" in genome.transforms) + 1.0 * (genome.distance == "pearson")
    letters = torch.tensor([float(ord(letter)) for letter in genome._replace(weight=1.0).key])
    return bonus + 0.01 * float(letters.sin().sum()) - abs(math.log2(genome.temperature) - 2.0) / 10.0


def hill_slow_at_first(genome: Genome) -> float:
    """Return the same, so that processes end in another order than they began."""
    torch.randn(300 if genome.transforms else 3, 300).svd()
    return hill(genome)


def dies(genome: Genome) -> float:
    """End the process."""
    raise SystemExit(genome.told)
