import numpy as np
import pytest
import torch

from wsi_kd.bags.images import image_bags
from wsi_kd.bags.packing import pack

RNG = np.random.default_rng(0)
LABELS = np.array([0, 1], np.int64)
TRUTH = np.array([0, 0, 1, 0, 1], np.int8)


def test_rows_are_the_images_end_to_end():
    images = RNG.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    bags = image_bags(images, bag_sizes=[2, 3], labels=LABELS, tile_labels=TRUTH)
    assert np.array_equal(bags.features.reshape(5, 4, 4, 3), images)
    assert bags.offsets.tolist() == [0, 2, 5]
    assert bags.slide_ids == ("bag_00000", "bag_00001")
    assert bags.header["encoder_settings"] == {"input_px": 4, "dtype": "uint8"}
    assert np.array_equal(bags.select(["bag_00001"]).features, bags.features[2:])


def test_gray_images_get_three_equal_colors():
    images = RNG.integers(0, 256, (5, 3, 3), dtype=np.uint8)
    bags = image_bags(images, bag_sizes=[2, 3], labels=LABELS, tile_labels=TRUTH, slide_ids=("a", "b"))
    colors = bags.features.reshape(5, 3, 3, 3)
    assert all(np.array_equal(colors[..., color], images) for color in range(3))
    assert bags.slide_ids == ("a", "b")


def test_packed_pixels_stay_bytes_and_share_no_memory():
    images = RNG.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    bags = image_bags(images, bag_sizes=[2, 3], labels=LABELS, tile_labels=TRUTH)
    packed = pack(bags, [1, 0], device="cpu", dtype=torch.float32)
    assert packed.instances.dtype == torch.uint8
    assert np.array_equal(packed.instances.numpy(), bags.features[[2, 3, 4, 0, 1]])
    packed.instances.zero_()
    assert bags.features.any()


@pytest.mark.parametrize(("sizes", "labels"), [([2, 2], LABELS), ([5], LABELS)])
def test_sizes_that_do_not_add_up_are_refused(sizes, labels):
    images = np.zeros((5, 4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="expected one label a bag and one image an instance"):
        image_bags(images, bag_sizes=sizes, labels=labels, tile_labels=TRUTH)
