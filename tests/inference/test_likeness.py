import numpy as np
import pytest
import torch

from wsi_kd.inference.likeness import is_unlike_training, unlike_training_note
from wsi_kd.inference.predict import predict_bag
from wsi_kd.mil.registry import create_model

SHAPE = {"feature_dim": 8, "classes": 2, "hidden_dim": 4, "attention_dim": 4, "dropout": 0.0}


@pytest.fixture
def model():
    model = create_model("gated_abmil", **SHAPE, student_hidden_dim=0, with_student=True)
    model.scaling.fit(mean=torch.full((8,), 5.0), deviation=torch.full((8,), 2.0))
    return model


def predicted(model, features):
    return predict_bag(model, features, student_pooling="max", top_k=1, device="cpu")


def test_distance_is_the_median_of_the_tiles_root_mean_square_z(model):
    """Tiles at z = 1, 3 and 10 in every feature: the median is 3."""
    features = np.float32(5.0 + 2.0 * np.array([1.0, 3.0, 10.0])[:, None] * np.ones((3, 8)))
    assert predicted(model, features).feature_distance == pytest.approx(3.0, abs=1e-6)


def test_tiles_like_the_training_are_near_one(model):
    features = np.random.default_rng(0).normal(5.0, 2.0, (500, 8)).astype(np.float32)
    prediction = predicted(model, features)
    assert 0.8 < prediction.feature_distance < 1.1
    assert not is_unlike_training(prediction)
    assert unlike_training_note(prediction) == ""


def test_tiles_unlike_the_training_are_told(model):
    prediction = predicted(model, np.full((4, 8), 15.0, np.float32))
    assert is_unlike_training(prediction)
    assert "feature distance 5.0" in unlike_training_note(prediction)
