"""Whether a slide looks like those a model was trained on: the first question before its answer is read."""

from wsi_kd.inference.predict import SlidePrediction

UNLIKE = 2.0
"""Feature distance beyond which a slide counts as unlike the training.

Measured on held-out slides of three cohorts (demo, CRC nuclei with two encoders): 0.7 to 1.9; a skin slide
given to the demo's model: 5.3.
"""


def is_unlike_training(prediction: SlidePrediction) -> bool:
    """Return whether the slide's tiles are too far from the training tiles for the answer to be trusted."""
    return prediction.feature_distance > UNLIKE


def unlike_training_note(prediction: SlidePrediction) -> str:
    """Say it in words for the status line; empty for a slide like those of the training."""
    if not is_unlike_training(prediction):
        return ""
    return (
        f"unlike the training slides (feature distance {prediction.feature_distance:.1f}, usual is 1, "
        f"limit {UNLIKE:g}): do not trust its answer"
    )
