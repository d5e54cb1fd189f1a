"""Stains of real H&E pictures: the built-in target is one of them."""

import numpy as np
import pytest
from PIL import Image

from wsi_kd.features.stain.fits import CannotFit
from wsi_kd.features.stain.normalizer import fit_stains
from wsi_kd.features.stain.reference import built_in_target

pytestmark = pytest.mark.shared_data
PICTURES = ("tissue-level0-4302", "tissue-level0-7352", "high-", "low-", "medium-", "tcga-lung")


def picture(shared_data, start):
    (path,) = (shared_data / "patches" / "histolab-fixtures").glob(f"{start}*")
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


def test_the_built_in_target_lies_amid_real_pictures(shared_data):
    fits = [fit_stains(picture(shared_data, start), "macenko") for start in PICTURES]
    target = built_in_target("macenko")
    np.testing.assert_allclose(np.median([fit.matrix for fit in fits], axis=0), target.matrix, atol=0.04)
    np.testing.assert_allclose(np.median([fit.strength for fit in fits], axis=0), target.strength, atol=0.2)
    np.testing.assert_allclose(np.median([fit.light for fit in fits], axis=0), target.light, atol=4)


@pytest.mark.parametrize("start", ["almost-white-1", "no-tissue.", "no-tissue2"])
def test_pictures_without_tissue_are_refused(shared_data, start):
    with pytest.raises(CannotFit, match="stained pixels"):
        fit_stains(picture(shared_data, start), "macenko")
