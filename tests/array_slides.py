"""Slides in memory, for tests of reading."""

from pathlib import Path

import numpy as np

from wsi_kd.core.units import Box


class ArraySlide:
    """A slide in memory: level 0 given, level k the exact mean of `downsample` squares; outside is white."""

    def __init__(self, pixels, *, downsamples=(1,), bounds=None):
        self.levels = [shrink(pixels, d) for d in downsamples]
        self.level_downsamples = tuple(float(d) for d in downsamples)
        self.bounds = bounds or Box(0, 0, pixels.shape[1], pixels.shape[0])
        self.level_dimensions = tuple((level.shape[1], level.shape[0]) for level in self.levels)
        self.path, self.properties, self.background = Path("array"), {}, (255, 255, 255)
        self.format, self.associated, self.icc_profile = "array", {}, None
        self.requests = []

    def close(self):
        self.levels = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    def read_region(self, *, x_level0_px, y_level0_px, level, width_px, height_px):
        self.requests.append((level, width_px, height_px))
        d = self.level_downsamples[level]
        x, y = round(x_level0_px / d), round(y_level0_px / d)
        out = np.full((height_px, width_px, 3), 255, np.uint8)
        part = self.levels[level][max(y, 0) : y + height_px, max(x, 0) : x + width_px]
        out[max(-y, 0) : max(-y, 0) + part.shape[0], max(-x, 0) : max(-x, 0) + part.shape[1]] = part
        return out


def shrink(pixels, factor):
    height, width = (edge // factor for edge in pixels.shape[:2])
    cut = pixels[: height * factor, : width * factor].astype(float)
    return np.round(cut.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))).astype(np.uint8)
