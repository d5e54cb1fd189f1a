"""Loaders of claims: epochs of any length, every sample before any twice, the order by torch's seed."""

import pytest
import torch

from wsi_kd.claims.digits import Samples
from wsi_kd.claims.loaders import drawn_loader, whole_loader
from wsi_kd.core.errors import BadInput

SAMPLES = Samples(torch.arange(20.0).view(10, 2), torch.arange(10))


def test_an_epoch_is_so_many_batches_and_sees_all_before_any_twice() -> None:
    torch.manual_seed(0)
    loader = drawn_loader(SAMPLES, steps=5, batch=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert [tuple(inputs.shape) for inputs, _ in batches] == [(4, 2)] * 5
    assert all(torch.equal(inputs, SAMPLES.inputs[labels]) for inputs, labels in batches)
    for first, second in ((0, 1), (2, 3)):
        assert len({*batches[first][1].tolist(), *batches[second][1].tolist()}) == 8
    torch.manual_seed(0)
    again = list(loader)
    assert all(torch.equal(mine[1], other[1]) for mine, other in zip(batches, again, strict=True))
    assert not torch.equal(torch.cat([labels for _, labels in loader]), torch.cat([b[1] for b in batches]))


def test_all_are_one_batch() -> None:
    ((inputs, labels),) = whole_loader(SAMPLES)
    assert torch.equal(inputs, SAMPLES.inputs)
    assert torch.equal(labels, SAMPLES.labels)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(BadInput, match="batches of 11 from 10 samples: expected 1 to 10"):
        drawn_loader(SAMPLES, steps=1, batch=11)
