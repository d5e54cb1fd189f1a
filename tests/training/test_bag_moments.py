"""Mean and deviation of features, in blocks: numpy's in float64, and the features as they were."""

import numpy as np
import pytest
import torch

from wsi_kd.training.bag_checks import ROWS_AT_ONCE, bags_hash, feature_moments


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("read_only", [False, True])
def test_moments_are_those_of_float64(make_bags, kind, read_only):
    bags = make_bags(0, bags=6, instances=ROWS_AT_ONCE // 3)
    features = (bags.features + 40.0).astype(kind)
    features.flags.writeable = not read_only
    before = features.copy()
    mean, deviation = feature_moments(bags._replace(features=features))
    exact = features.astype(np.float64)
    assert np.allclose(mean.numpy(), exact.mean(axis=0), rtol=1e-7)
    assert np.allclose(deviation.numpy(), exact.std(axis=0), rtol=2e-6)
    assert np.array_equal(features, before)
    assert mean.dtype == deviation.dtype == torch.float32


def test_the_hash_of_bags_knows_every_number_name_and_border(make_bags):
    bags = make_bags(0, bags=4, instances=3)
    features = bags.features.copy()
    features[7, 5] = np.nextafter(features[7, 5], 1e9)
    others = [
        bags._replace(features=features),
        bags._replace(labels=1 - bags.labels),
        bags._replace(slide_ids=bags.slide_ids[::-1]),
        bags._replace(offsets=np.array([0, 3, 6, 8, 12])),
        bags._replace(features=bags.features.astype(np.float64)),
    ]
    found = [bags_hash(one) for one in (bags, *others)]
    assert len(set(found)) == len(found)
    assert bags_hash(bags) == bags_hash(bags._replace(features=bags.features.copy()))
    assert bags_hash(bags, others[0]) != bags_hash(others[0], bags)
