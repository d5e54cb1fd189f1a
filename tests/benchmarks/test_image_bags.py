"""Bags of labeled images: exact witness counts, no image twice, and clear refusals."""

import numpy as np
import pytest

from image_bags import bags_of_images, count_bags, draw_image_bags, witnesses
from wsi_kd.core.errors import BadInput

POSITIVE = np.arange(1000) % 10 == 3


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.10, 0.20, 0.50, 0.70])
def test_every_positive_bag_holds_its_witnesses_and_no_image_is_used_twice(rate):
    parts = draw_image_bags(np.repeat(POSITIVE, 13), rate=rate, instances=100, seed=0)
    positive = np.repeat(POSITIVE, 13)
    for rows in parts:
        half = len(rows) // 2
        assert positive[rows].sum(axis=1).tolist() == [round(100 * rate)] * half + [0] * half
    used = np.concatenate([rows.reshape(-1) for rows in parts])
    assert len(np.unique(used)) == len(used)


def test_counts_worked_by_hand():
    """1,300 and 11,700 images, bags of 100: at 10 % the negative ones end first, at 70 % the positive."""
    assert count_bags(1300, 11_700, rate=0.10, instances=100) == (37, 12, 12)  # 11,700 // 190 = 61
    assert count_bags(1300, 11_700, rate=0.70, instances=100) == (10, 4, 4)  # 1,300 // 70 = 18
    assert count_bags(1300, 11_700, rate=0.01, instances=100) == (34, 12, 12)  # 11,700 // 199 = 58


def test_the_draw_is_the_seeds():
    first, again, other = (
        draw_image_bags(POSITIVE, rate=0.2, instances=10, seed=seed).train for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_witnesses_stand_anywhere_in_their_bag():
    rows = draw_image_bags(POSITIVE, rate=0.1, instances=10, seed=0).train
    places = np.argmax(POSITIVE[rows[: len(rows) // 2]], axis=1)
    assert set(places.tolist()) == set(range(10))


def test_bags_hold_the_features_and_truth_of_their_images():
    features = np.arange(1000, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    rows = np.array([[3, 0], [1, 2]])
    bags = bags_of_images(features, POSITIVE, rows)
    assert bags.features[:, 1].tolist() == [3.0, 0.0, 1.0, 2.0]
    assert bags.tile_labels.tolist() == [1, 0, 0, 0]
    assert bags.labels.tolist() == [1, 0]
    assert bags.offsets.tolist() == [0, 2, 4]


def test_rounding_of_a_rate_decides_its_witnesses():
    assert [witnesses(rate, instances=100) for rate in (0.01, 0.054, 1.0)] == [1, 5, 100]


@pytest.mark.parametrize("rate", [0.0, 0.004, 1.01])
def test_a_rate_without_witnesses_is_refused(rate):
    with pytest.raises(BadInput, match=rf"^witness rate {rate}: \d+ of 100 images of a bag are positive; "):
        draw_image_bags(POSITIVE, rate=rate, instances=100, seed=0)


def test_too_few_images_are_refused_with_their_numbers():
    with pytest.raises(BadInput, match="100 positive and 900 negative images make 2 positive bags of 100"):
        draw_image_bags(POSITIVE, rate=0.5, instances=100, seed=0)
