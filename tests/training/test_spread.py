"""The covariance of the training part's tiles, and the model that carries it."""

import numpy as np
import pytest
import torch

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.provenance import stamp
from wsi_kd.mil.registry import create_model
from wsi_kd.training import spread
from wsi_kd.training.bag_checks import feature_moments
from wsi_kd.training.checkpoint import load_model, save_model

ARGUMENTS = {
    "teacher": "abmil",
    "classes": 2,
    "hidden_dim": 4,
    "attention_dim": 4,
    "dropout": 0.0,
    "student_hidden_dim": 0,
    "with_student": False,
}


def bags_of(features):
    return BagSet(
        slide_ids=("a", "b"),
        features=features,
        offsets=np.array([0, 2, len(features)]),
        labels=np.array([0, 1]),
        tile_labels=np.full(len(features), -1, np.int8),
        coords=np.zeros((len(features), 2), np.int64),
        header={},
    )


@pytest.fixture
def model():
    model = create_model(**ARGUMENTS, feature_dim=2)
    model.scaling.fit(mean=torch.tensor([1.0, 2.0]), deviation=torch.tensor([2.0, 4.0]))
    return model


def test_second_moments_are_those_of_the_z_scores(model):
    """z-scores (1, 1), (-1, -1), (1, 0), (-1, 0): mean of z z' is [[1, 0.5], [0.5, 0.5]]."""
    features = np.array([[3, 6], [-1, -2], [3, 2], [-1, 2]], np.float16)
    found = spread.second_moments(model, bags_of(features))
    assert found.tolist() == [[1.0, 0.5], [0.5, 0.5]]


def test_more_rows_than_are_taken_are_taken_evenly(model, monkeypatch):
    """Of 401 rows 101: every fourth, the first and the last among them; blocks change nothing."""
    features = np.random.default_rng(0).normal(size=(401, 2)).astype(np.float32)
    every_fourth = spread.second_moments(model, bags_of(features[::4]))
    monkeypatch.setattr(spread, "MOST_ROWS", 101)
    monkeypatch.setattr(spread, "ROWS_AT_ONCE", 7)
    found = spread.second_moments(model, bags_of(features))
    torch.testing.assert_close(found, every_fourth, rtol=1e-6, atol=1e-7)


def test_the_checkpoint_carries_it(model, tmp_path):
    features = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    spread.fit_spread(model, bags_of(features))
    header = {**stamp("model", {}), "model": {**ARGUMENTS, "feature_dim": 2}}
    save_model(tmp_path, "model", model, header=header)
    again = load_model(tmp_path).model
    rows = torch.from_numpy(features)
    assert torch.equal(again.distances(rows), model.distances(rows))
    plain = create_model(**ARGUMENTS, feature_dim=2)
    assert not torch.allclose(again.distances(rows), plain.distances(rows), rtol=0.1)


def test_pixels_are_described_by_their_colors():
    """A tile of 16 x 16 px, 768 numbers: six of them count."""
    arguments = {**ARGUMENTS, "feature_dim": 768, "projector": "cnn_small"}
    model = create_model(**arguments)
    pixels = np.random.default_rng(2).integers(0, 256, (30, 768), dtype=np.uint8)
    mean, deviation = feature_moments(bags_of(pixels))
    model.scaling.fit(mean=mean, deviation=deviation)
    spread.fit_spread(model, bags_of(pixels))
    assert model.spread.axes.shape == (6, 6)
    root_mean_square = model.distances(torch.from_numpy(pixels)).square().mean().sqrt()
    assert float(root_mean_square) == pytest.approx(1.0, abs=0.05)
