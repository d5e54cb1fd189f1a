"""The cell types of a slide and how their nuclei look."""

from typing import NamedTuple

import numpy as np

from wsi_kd.demo.anatomy import Traits
from wsi_kd.demo.nuclei import NucleusKind, Stamps, draw_stamps


class Palette(NamedTuple):
    """The nuclei of one slide."""

    epithelial: Stamps
    reactive: Stamps
    spindle: Stamps
    lymphocyte: Stamps
    tumor: Stamps
    tumor_spacing_px: float


def draw_palette(traits: Traits, rng: np.random.Generator) -> Palette:
    """Draw the nuclei of one slide; grade moves tumor nuclei away from reactive ones, which are benign."""
    size, grade = traits.nuclear_scale, traits.grade
    tumor = NucleusKind(
        length_px=size * (9.6 + 3.4 * grade),
        width_px=size * (7.4 + 2.8 * grade),
        size_spread=0.12 + 0.10 * grade,
        irregularity=0.10 + 0.14 * grade,
        darkness=0.86 + 0.16 * grade,
        chromatin=0.20 + 0.12 * grade,
        nucleoli=2,
    )
    return Palette(
        epithelial=draw_stamps(NucleusKind(9.0 * size, 6.2 * size, 0.08, 0.05, 0.80, 0.16, 1), rng),
        reactive=draw_stamps(NucleusKind(11.5 * size, 7.2 * size, 0.12, 0.08, 0.92, 0.20, 1), rng),
        spindle=draw_stamps(NucleusKind(12.5 * size, 3.0 * size, 0.18, 0.06, 0.75, 0.12, 0), rng),
        lymphocyte=draw_stamps(NucleusKind(6.2 * size, 5.7 * size, 0.08, 0.04, 1.10, 0.18, 0), rng),
        tumor=draw_stamps(tumor, rng),
        tumor_spacing_px=size * (19.0 + 4.5 * grade),
    )
