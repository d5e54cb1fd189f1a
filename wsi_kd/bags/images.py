"""Bags made of images that are at hand as arrays (MNIST, CIFAR-10, cut patches) instead of feature files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int8, Int64, UInt8

from wsi_kd.bags.datasets import BagSet

COLORS = 3
GRAY_AXES = 3


def image_bags(
    images: UInt8[np.ndarray, "instances side side *colors"],
    *,
    bag_sizes: Sequence[int],
    labels: Int64[np.ndarray, "bags"],
    tile_labels: Int8[np.ndarray, "instances"],
    slide_ids: Sequence[str] = (),
) -> BagSet:
    """Return the bags that image projectors learn from: the first `bag_sizes[0]` images are the first bag.

    Gray images (instances, side, side) become three equal colors. Without `slide_ids` the bags are numbered.

    Raises:
        ValueError: sizes that do not add up to the images, or other than one label a bag.
    """
    if sum(bag_sizes) != len(images) or len(bag_sizes) != len(labels):
        raise ValueError(
            f"{len(bag_sizes)} bags of {sum(bag_sizes)} instances, {len(labels)} labels and {len(images)} "
            "images do not fit; expected one label a bag and one image an instance"
        )
    colored = np.repeat(images[..., None], COLORS, axis=3) if images.ndim == GRAY_AXES else images
    side = int(images.shape[1])
    header: dict[str, Any] = {"encoder": "pixels", "encoder_settings": {"input_px": side, "dtype": "uint8"}}
    return BagSet(
        slide_ids=tuple(slide_ids) or tuple(f"bag_{bag:05d}" for bag in range(len(bag_sizes))),
        features=np.ascontiguousarray(colored).reshape(len(images), -1),
        offsets=np.concatenate([[0], np.cumsum(bag_sizes)]).astype(np.int64),
        labels=labels,
        tile_labels=tile_labels,
        coords=np.zeros((len(images), 2), np.int64),
        header=header,
    )
