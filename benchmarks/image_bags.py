"""Bags of labeled images: one class is positive, and no image is in two bags of a draw.

Half of the bags are positive and hold exactly `witnesses(...)` images of the positive class, the others none.
As many bags are made as the images allow; 60 % of each kind train, 20 % select, 20 % test.
"""

from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from bag_parts import make_bags
from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.errors import BadInput
from wsi_kd.core.shapes import FeatureArray

VAL_SHARE: Final = 0.2
TEST_SHARE: Final = 0.2


class BagCounts(NamedTuple):
    """Positive bags of each part; there are as many negative ones."""

    train: int
    val: int
    test: int


class ImageParts(NamedTuple):
    """Rows of images, bag after bag, of each part; the positive bags come first."""

    train: Int64[np.ndarray, "train_bags instances"]
    val: Int64[np.ndarray, "val_bags instances"]
    test: Int64[np.ndarray, "test_bags instances"]


def witnesses(rate: float, *, instances: int) -> int:
    """Positive images of a positive bag.

    >>> witnesses(0.05, instances=100)
    5

    Raises:
        BadInput: none, or nothing but positive images.
    """
    count = round(rate * instances)
    if not 1 <= count <= instances:
        raise BadInput(
            f"witness rate {rate}: {count} of {instances} images of a bag are positive; expected 1 at least; "
            "change problem.witness_rates or problem.instances"
        )
    return count


def count_bags(positives: int, negatives: int, *, rate: float, instances: int) -> BagCounts:
    """Tell how many bags `positives` and `negatives` images make at a witness rate.

    n positive and n negative bags with w witnesses take n w positive and n (2 instances - w) negative images.

    Raises:
        BadInput: too few images for a bag of each kind in every part.
    """
    witness = witnesses(rate, instances=instances)
    pairs = min(positives // witness, negatives // (2 * instances - witness))
    val, test = round(VAL_SHARE * pairs), round(TEST_SHARE * pairs)
    counts = BagCounts(pairs - val - test, val, test)
    if min(counts) < 1:
        raise BadInput(
            f"witness rate {rate}: {positives} positive and {negatives} negative images make {pairs} "
            f"positive bags of {instances}, too few for three parts; lower problem.instances or the rate"
        )
    return counts


def draw_image_bags(
    positive: Bool[np.ndarray, "images"], *, rate: float, instances: int, seed: int
) -> ImageParts:
    """Draw bags without replacement from all images; `positive` says which are of the positive class."""
    generator = np.random.default_rng(seed)
    some, others = (generator.permutation(np.flatnonzero(which)) for which in (positive, ~positive))
    witness = witnesses(rate, instances=instances)
    counts = count_bags(len(some), len(others), rate=rate, instances=instances)
    pairs = sum(counts)
    found = some[: pairs * witness].reshape(pairs, witness)
    rest, clear = np.split(others[: pairs * (2 * instances - witness)], [pairs * (instances - witness)])
    mixed = generator.permuted(np.hstack([found, rest.reshape(pairs, -1)]), axis=1)
    cuts = np.cumsum(counts)[:2]
    parts = zip(np.split(mixed, cuts), np.split(clear.reshape(pairs, instances), cuts), strict=True)
    return ImageParts(*(np.concatenate(kinds) for kinds in parts))


def bags_of_images(
    features: FeatureArray, positive: Bool[np.ndarray, "images"], rows: Int64[np.ndarray, "bags instances"]
) -> BagSet:
    """Gather the features of the images in `rows`; a bag is positive when one of its images is."""
    truth = positive[rows]
    return make_bags(
        features[rows.reshape(-1)],
        sizes=[rows.shape[1]] * len(rows),
        labels=truth.any(axis=1).astype(np.int64),
        tile_labels=truth.reshape(-1).astype(np.int8),
    )
