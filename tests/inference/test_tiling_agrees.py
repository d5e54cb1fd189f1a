"""Features are refused whose tiles show another size or resolution than those that a model was trained on."""

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.slide import check_features

SLIDE = {"encoder": "uni", "encoder_settings": {}, "weights_hash": "w", "feature_dim": 3}
SETTINGS = {"sections": {"tile": {"tile_px": 256, "tile_mpp": 0.5}}}


def check(slide, model):
    check_features({**SLIDE, **slide}, {**SLIDE, **model}, slide_id="s")


@pytest.mark.parametrize("model", [SETTINGS, {"tile_px": 256, "tile_mpp": 0.5}], ids=["settings", "features"])
@pytest.mark.parametrize(
    ("slide", "told"),
    [
        (
            {"tile_px": 256, "tile_mpp": 1.0},
            r"s: the features have tile_mpp 1, .* trained on 0\.5;",
        ),
        (
            {"tile_px": 512, "tile_mpp": 0.5},
            r"s: the features have tile_px 512, .* trained on 256;",
        ),
    ],
)
def test_another_tiling_is_refused(slide, told, model):
    with pytest.raises(BadInput, match=told):
        check(slide, model)


@pytest.mark.parametrize("model", [SETTINGS, {"tile_px": 256, "tile_mpp": 0.5}], ids=["settings", "features"])
@pytest.mark.parametrize("mpp", [0.5, 0.5 * (1 + 1e-9), 0, None])
def test_the_same_tiling_and_one_that_nobody_told_are_taken(mpp, model):
    check({"tile_px": 256, "tile_mpp": mpp}, model)
    check({}, model)


def test_a_model_of_features_that_told_nothing_takes_any():
    check({"tile_px": 224, "tile_mpp": 1.14}, {"tile_px": 0, "tile_mpp": 0.0, "sections": {"adopt": {}}})
    told = r"tile_mpp 1\.14, the model was trained on 0\.25"
    with pytest.raises(BadInput, match=told):
        check({"tile_px": 224, "tile_mpp": 1.14}, {"tile_px": 0, "tile_mpp": 0.25})
