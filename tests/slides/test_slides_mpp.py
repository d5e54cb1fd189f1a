import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.mpp import resolve_mpp

DICOM_SPACING = "dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing"


def resolve(properties, override=None, *, from_objective=True, **more):
    return resolve_mpp(
        properties, override=override, min_mpp=0.05, max_mpp=20.0, from_objective=from_objective, **more
    )


def square(mpp):
    return (mpp, mpp)


@pytest.mark.parametrize(
    ("properties", "expected", "source"),
    [
        ({"openslide.mpp-x": "0.499", "openslide.mpp-y": "0.499"}, square(0.499), "vendor"),
        ({"openslide.mpp-x": "0.499"}, square(0.499), "vendor"),
        ({"openslide.mpp-y": "0.25"}, square(0.25), "vendor"),
        ({"openslide.mpp-x": " 0,2527 ", "openslide.mpp-y": "0,2527"}, square(0.2527), "vendor"),
        ({"openslide.mpp-x": "0.5", "openslide.vendor": "generic-tiff"}, square(0.5), "tiff"),
        ({"openslide.mpp-x": "0.5", "openslide.vendor": "dicom"}, square(0.5), "dicom"),
        ({"aperio.MPP": "0,499"}, square(0.499), "vendor"),
        ({"ventana.ScanRes": "0.2325"}, square(0.2325), "vendor"),
        ({"philips.DICOM_PIXEL_SPACING": '"0.000226" "0.000227"'}, (0.227, 0.226), "vendor"),
        ({"sakura.ResolutionMmPerPix": "0.0005"}, square(0.5), "vendor"),
        (
            {
                "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X": "0.233",
                "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y": "0.234",
            },
            (0.233, 0.234),
            "vendor",
        ),
        (
            {
                "hamamatsu.PhysicalWidth": "2280000",
                "hamamatsu.PhysicalHeight": "4600000",
                "openslide.level[0].width": "10000",
                "openslide.level[0].height": "20000",
            },
            (0.228, 0.23),
            "vendor",
        ),
        ({"tiff.ResolutionUnit": "centimeter", "tiff.XResolution": "20000"}, square(0.5), "tiff"),
        (
            {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "49800"},
            (0.5, 25400 / 49800),
            "tiff",
        ),
        ({"tiff.ResolutionUnit": "millimeter", "tiff.XResolution": "4000"}, square(0.25), "tiff"),
        ({"tiff.ResolutionUnit": "5", "tiff.XResolution": "4"}, square(0.25), "tiff"),
        (
            {
                "tiff.ResolutionUnit": "none",
                "tiff.XResolution": "2",
                "tiff.ImageDescription": "ImageJ=1.53t\nimages=1\nunit=\\u00B5m\n",
            },
            square(0.5),
            "tiff",
        ),
        ({"ome.PhysicalSizeX": "0.25", "ome.PhysicalSizeY": "0.26"}, (0.25, 0.26), "ome"),
        ({"ome.PhysicalSizeX": "0.5", "ome.PhysicalSizeXUnit": "µm"}, square(0.5), "ome"),
        ({"ome.PhysicalSizeX": "0.5", "ome.PhysicalSizeXUnit": "\u03bcm"}, square(0.5), "ome"),
        ({"ome.PhysicalSizeX": "250", "ome.PhysicalSizeXUnit": "nm"}, square(0.25), "ome"),
        ({"ome.PhysicalSizeX": "0.0005", "ome.PhysicalSizeXUnit": "mm"}, square(0.5), "ome"),
        ({"ome.PhysicalSizeX": "5e-5", "ome.PhysicalSizeXUnit": "cm"}, square(0.5), "ome"),
        ({"ome.PhysicalSizeX": "5e-7", "ome.PhysicalSizeXUnit": "m"}, square(0.5), "ome"),
        ({"ome.PhysicalSizeX": "1e-5", "ome.PhysicalSizeXUnit": "in"}, square(0.254), "ome"),
        (
            {
                "ome.PhysicalSizeX": "250",
                "ome.PhysicalSizeXUnit": "nm",
                "ome.PhysicalSizeY": "0.25",
                "ome.PhysicalSizeYUnit": "µm",
            },
            square(0.25),
            "ome",
        ),
        ({"zarr.scale-x": "0.3", "zarr.scale-y": "0.3", "zarr.unit": "micrometer"}, square(0.3), "zarr"),
        ({"zarr.scale-x": "300", "zarr.unit": "nanometer"}, square(0.3), "zarr"),
        ({f"{DICOM_SPACING}[0]": "0.00025", f"{DICOM_SPACING}[1]": "0.00026"}, (0.26, 0.25), "dicom"),
        ({"png.pHYs-x": "2000000", "png.pHYs-y": "2000000"}, square(0.5), "png"),
    ],
)
def test_each_entry_gives_the_resolution_and_its_source(properties, expected, source):
    found = resolve(properties)
    assert (found.mpp_x, found.mpp_y) == pytest.approx(expected, rel=1e-12)
    assert found.source == source
    assert found.doubt == ""


def test_nearly_square_axes_are_decided_by_their_geometric_mean():
    found = resolve({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"})
    assert found.mpp == pytest.approx((0.25 * 0.26) ** 0.5, rel=1e-12)
    assert (found.mpp_x, found.mpp_y) == (0.25, 0.26)


def test_pixels_that_are_not_square_are_refused_with_the_remedy():
    stretched = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5", "openslide.objective-power": "40"}
    with pytest.raises(
        SlideProblem, match=r"0\.25 by 0\.5 um/px\): pixels are not square.*allows 5%"
    ) as told:
        resolve(stretched)
    assert told.value.status == SlideStatus.MISSING_MPP
    assert "export the slide with square pixels" in told.value.reason
    assert resolve(stretched, max_anisotropy=1.0).mpp == pytest.approx(0.125**0.5)
    assert resolve(stretched, 0.25).mpp == 0.25
    assert resolve({**stretched, "tiff.XResolution": "4", "tiff.ResolutionUnit": "5"}).source == "tiff"


def test_the_limit_of_anisotropy_belongs_to_what_is_allowed():
    assert resolve({"openslide.mpp-x": "1.0", "openslide.mpp-y": "1.05"}).mpp_y == 1.05
    with pytest.raises(SlideProblem, match="not square"):
        resolve({"openslide.mpp-x": "1.0", "openslide.mpp-y": "1.051"})


def test_equal_axes_keep_the_value_bit_for_bit():
    assert resolve({"openslide.mpp-x": "0.1", "openslide.mpp-y": "0.1"}).mpp == 0.1


def test_override_beats_all_metadata_and_they_are_listed():
    found = resolve({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}, 0.5)
    assert found[:5] == (0.5, 0.5, 0.5, "override", "slide_mpp")
    assert found.others == ("openslide.mpp-x/-y = '0.25' (0.25 um/px)",)


def test_the_first_entry_wins_and_contradictions_raise_doubt():
    found = resolve(
        {
            "openslide.mpp-x": "0.25",
            "tiff.XResolution": "20000",
            "tiff.ResolutionUnit": "centimeter",
            "ome.PhysicalSizeX": "0.26",
        }
    )
    assert (found.mpp, found.source, found.entry) == (0.25, "vendor", "openslide.mpp-x/-y = '0.25'")
    assert found.doubt == (
        "resolution in doubt: openslide.mpp-x/-y = '0.25' (0.25 um/px) is used, "
        "tiff.XResolution = '20000' per centimeter (0.5 um/px)"
    )
    assert len(found.others) == 2


def test_an_objective_that_differs_is_listed_and_raises_no_doubt():
    # 3DHISTECH scans 0.24 um/px through a 20x lens and an adapter
    found = resolve({"openslide.mpp-x": "0.24", "openslide.objective-power": "20"})
    assert found.others == ("openslide.objective-power = '20' (0.5 um/px)",)
    assert found.doubt == ""


def test_trestle_writes_micrometers_into_the_tag_of_pixels_a_unit():
    trestle = {"openslide.vendor": "trestle", "openslide.mpp-x": "0.33", "tiff.XResolution": "0.33"}
    found = resolve({**trestle, "tiff.ResolutionUnit": "inch"})
    assert (found.mpp, found.others) == (0.33, ())


@pytest.mark.parametrize(
    ("key", "power", "mpp"),
    [
        ("openslide.objective-power", "40", 0.25),
        ("aperio.AppMag", "20", 0.5),
        ("hamamatsu.SourceLens", "40", 0.25),
        ("trestle.Objective Power", "10", 1.0),
        ("ventana.Magnification", "5", 2.0),
        ("sakura.NominalLensMagnification", "63", 10 / 63),
    ],
)
def test_objective_is_ten_over_power(key, power, mpp):
    found = resolve({key: power, "openslide.mpp-x": "352.8"})
    assert found[:4] == (mpp, mpp, mpp, "objective")
    with pytest.raises(SlideProblem, match=r"352\.8"):
        resolve({key: power, "openslide.mpp-x": "352.8"}, from_objective=False)


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
        ({"tiff.ResolutionUnit": "inch", "tiff.XResolution": "72"}, r"per inch \(352\.8 um/px\) is outside"),
        ({"tiff.XResolution": "2", "tiff.ImageDescription": "ImageJ=1\nunit=pixel\n"}, "no resolution"),
        ({"philips.DICOM_PIXEL_SPACING": "0.0002"}, "'0.0002' is no positive number"),
        ({"ome.PhysicalSizeX": "1", "ome.PhysicalSizeXUnit": "pixel"}, "no resolution"),
        ({"ome.PhysicalSizeX": "1", "ome.PhysicalSizeXUnit": "reference frame"}, "no resolution"),
        (
            {"ome.PhysicalSizeX": "1", "ome.PhysicalSizeXUnit": "parsec"},
            "'1' parsec is in a unit that is not known",
        ),
        ({"ome.PhysicalSizeX": "0"}, "ome.PhysicalSizeX/Y = '0' µm is no positive number"),
        ({"zarr.scale-x": "0.5"}, "no resolution"),
        ({"png.pHYs-x": "2835"}, r"per meter \(352\.7 um/px\) is outside"),
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


def test_an_implausible_entry_gives_way_to_the_next_one():
    found = resolve(
        {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "72", "ome.PhysicalSizeX": "0.5"},
    )
    assert (found.mpp, found.source, found.others) == (0.5, "ome", ())


def test_an_implausible_override_is_refused():
    with pytest.raises(SlideProblem, match="given slide_mpp 500 is outside"):
        resolve({"openslide.mpp-x": "0.25"}, 500.0)


def test_limits_belong_to_the_plausible_range():
    assert resolve({"openslide.mpp-x": "0.05"}).mpp == 0.05
    assert resolve({"openslide.mpp-x": "20"}).mpp == 20.0
