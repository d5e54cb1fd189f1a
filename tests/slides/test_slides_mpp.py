import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.mpp import ResolvedMpp, resolve_mpp


def resolve(properties, override=None, *, from_objective=True):
    return resolve_mpp(
        properties, override=override, min_mpp=0.05, max_mpp=20.0, from_objective=from_objective
    )


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"openslide.mpp-x": "0.499", "openslide.mpp-y": "0.499"}, (0.499, 0.499)),
        ({"openslide.mpp-x": "0.499"}, (0.499, 0.499)),
        ({"openslide.mpp-y": "0.25"}, (0.25, 0.25)),
        ({"openslide.mpp-x": " 0,2527 ", "openslide.mpp-y": "0,2527"}, (0.2527, 0.2527)),
        ({"aperio.MPP": "0,499"}, (0.499, 0.499)),
        ({"tiff.ResolutionUnit": "centimeter", "tiff.XResolution": "20000"}, (0.5, 0.5)),
        (
            {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "25400"},
            (0.5, 1.0),
        ),
    ],
)
def test_metadata_give_the_resolution(properties, expected):
    found = resolve(properties)
    assert (found.mpp_x, found.mpp_y) == pytest.approx(expected, rel=1e-12)
    assert found.source == "metadata"


def test_unequal_axes_are_decided_by_their_geometric_mean():
    found = resolve({"openslide.mpp-x": "0.2", "openslide.mpp-y": "0.8"})
    assert found.mpp == pytest.approx(0.4, rel=1e-12)
    assert (found.mpp_x, found.mpp_y) == (0.2, 0.8)


def test_equal_axes_keep_the_value_bit_for_bit():
    assert resolve({"openslide.mpp-x": "0.1", "openslide.mpp-y": "0.1"}).mpp == 0.1


def test_override_beats_metadata():
    assert resolve({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, 0.5) == ResolvedMpp(
        0.5, 0.5, 0.5, "override"
    )


def test_objective_is_ten_over_power_and_can_be_switched_off():
    properties = {"openslide.objective-power": "40", "openslide.mpp-x": "352.8"}
    assert resolve(properties) == ResolvedMpp(0.25, 0.25, 0.25, "objective")
    with pytest.raises(SlideProblem, match=r"352\.8"):
        resolve(properties, from_objective=False)


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({}, "no resolution in its metadata"),
        (
            {"openslide.mpp-x": "352.77", "openslide.mpp-y": "352.77"},
            r"'352\.77' \(352\.8 um/px\) is outside",
        ),
        ({"openslide.mpp-x": "28.969", "openslide.mpp-y": "28.968"}, r"'28\.969'/'28\.968'"),
        ({"openslide.mpp-x": "nan"}, "'nan' is no positive number"),
        ({"openslide.mpp-x": "inf"}, "'inf' is no positive number"),
        ({"openslide.mpp-x": "-0.25"}, r"'-0\.25' is no positive number"),
        ({"openslide.mpp-x": "0"}, "'0' is no positive number"),
        ({"openslide.mpp-x": "2.5e-7"}, "outside 0.05 to 20"),
        ({"openslide.mpp-x": "0.25 um"}, "'0.25 um' is no positive number"),
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "250"}, "0.25 by 250 um/px"),
        ({"tiff.ResolutionUnit": "none", "tiff.XResolution": "1"}, "no resolution"),
        ({"tiff.ResolutionUnit": "inch", "tiff.XResolution": "0"}, "'0' per inch is no positive number"),
        ({"aperio.AppMag": "0"}, "aperio.AppMag = '0' is no positive number"),
        ({"openslide.objective-power": "1e9"}, "outside"),
    ],
)
def test_implausible_values_count_as_missing_and_are_named(properties, told):
    with pytest.raises(SlideProblem, match=told) as problem:
        resolve(properties)
    assert problem.value.status == SlideStatus.MISSING_MPP
    assert "--slide-mpp" in problem.value.reason
    assert "slide_mpp" in problem.value.reason


def test_an_implausible_override_is_refused():
    with pytest.raises(SlideProblem, match="given slide_mpp 500 is outside"):
        resolve({"openslide.mpp-x": "0.25"}, 500.0)


def test_limits_belong_to_the_plausible_range():
    assert resolve({"openslide.mpp-x": "0.05"}).mpp == 0.05
    assert resolve({"openslide.mpp-x": "20"}).mpp == 20.0
