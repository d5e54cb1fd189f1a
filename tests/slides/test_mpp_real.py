"""Where the resolution of real files comes from."""

import pytest

from wsi_kd.slides.mpp import resolve_mpp
from wsi_kd.slides.reader import open_slide

pytestmark = pytest.mark.shared_data


@pytest.mark.parametrize(
    ("name", "mpp", "source"),
    [
        ("wsi/CMU-1-Small-Region.svs", 0.499, "vendor"),
        ("wsi/test3-DAPI-2-_387_.ndpi", 0.228175, "vendor"),
        ("wsi/OS-1-detail.ome.tif", 0.2271, "tiff"),
        ("wsi/ezwsi_multiframe_camelyon_challenge_image.dcm", 28.9685, "dicom"),
        ("derived/os2_ki67_4level_generic_mpp.tif", 0.227097, "tiff"),
        ("derived/cmu1_small_4level_aperio.svs", 0.499, "vendor"),
    ],
)
def test_real_files_tell_their_resolution(shared_data, name, mpp, source):
    with open_slide(shared_data / name, background="white") as reader:
        found = resolve_mpp(reader.properties, override=None, min_mpp=0.05, max_mpp=30.0, from_objective=True)
    assert found.mpp == pytest.approx(mpp, rel=1e-4)
    assert (found.source, found.doubt) == (source, "")
