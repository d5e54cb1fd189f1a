"""What a model with two classes might say of a slide of two tiles."""

import numpy as np

from wsi_kd.inference.slide_prediction import SlidePrediction, StudentPrediction


def made_prediction(student: float | None = 0.6):
    return SlidePrediction(
        teacher_probability=np.array([0.55, 0.45]),
        student=None
        if student is None
        else StudentPrediction(
            by_max=np.array([0.1, 0.9]),
            by_topk=np.array([1 - student, student]),
            deployed=np.array([1 - student, student]),
            tiles=np.array([[0.8], [0.3]]),
        ),
        attention=np.array([0.75, 0.25]),
        attention_logits=np.array([1.0, 0.0]),
        branch_attention=None,
        evidence=np.array([[0.2], [0.9]]),
        feature_distance=1.25,
    )
