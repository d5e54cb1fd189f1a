"""OME-XML: which pages hold the channels, and what is refused."""

import pytest

from wsi_kd.core.errors import SlideProblem
from wsi_kd.slides.ome_xml import parse_ome

ROOT = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:me">'


def ome(pixels_attributes="", children="", *, sizes="XYZCT", lengths=(90, 80, 1, 3, 1), order="XYCZT"):
    numbers = " ".join(f'Size{axis}="{length}"' for axis, length in zip(sizes, lengths, strict=True))
    return (
        f'{ROOT}<Image ID="Image:0" Name="scan"><Pixels DimensionOrder="{order}" Type="uint8" '
        f"{numbers} {pixels_attributes}>{children}</Pixels></Image></OME>"
    )


CHANNELS = "".join(f'<Channel ID="{name}" Name="{name}" SamplesPerPixel="1"/>' for name in "RGB")
INTERLEAVED = '<Channel ID="c" SamplesPerPixel="3"/>'


def test_channels_in_pages_of_their_own():
    (image,) = parse_ome(ome(children=CHANNELS + '<TiffData IFD="0" PlaneCount="3"/>'), pages=3)
    assert image.planes == (0, 1, 2)
    assert (image.name, image.channels) == ("scan", ("R", "G", "B"))


def test_the_page_of_each_channel_is_the_one_that_tiffdata_names():
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="{page}" PlaneCount="1"/>' for c, page in ((0, 5), (1, 3), (2, 4))
    )
    (image,) = parse_ome(ome(children=CHANNELS + data), pages=6)
    assert image.planes == (5, 3, 4)


def test_interleaved_colors_are_one_page():
    (image,) = parse_ome(ome(children=INTERLEAVED + '<TiffData IFD="2"/>'), pages=3)
    assert image.planes == (2,)
    (image,) = parse_ome(ome(children=INTERLEAVED + "<TiffData/>"), pages=3)
    assert image.planes == (0,)


@pytest.mark.parametrize(
    ("order", "expected"), [("XYCZT", (0, 1, 2)), ("XYZCT", (0, 4, 8)), ("XYZTC", (0, 8, 16))]
)
def test_the_order_of_dimensions_says_which_plane_a_channel_is(order, expected):
    lengths = (90, 80, 4, 3, 2)
    (image,) = parse_ome(ome(children=CHANNELS, lengths=lengths, order=order), pages=24)
    assert image.planes == expected
    assert (image.focal_planes, image.time_points) == (4, 2)


def test_physical_sizes_keep_their_unit_or_get_the_schema_s():
    sizes = 'PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25" SignificantBits="12"'
    (image,) = parse_ome(ome(sizes, INTERLEAVED + "<TiffData/>"), pages=1)
    assert image.physical_size == {
        "PhysicalSizeX": "250",
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": "0.25",
        "PhysicalSizeYUnit": "\N{MICRO SIGN}m",
    }
    assert image.significant_bits == 12


def test_a_renamed_file_still_knows_its_own_planes():
    data = '<TiffData IFD="0"><UUID FileName="old_name.ome.tif">urn:uuid:me</UUID></TiffData>'
    (image,) = parse_ome(ome(children=INTERLEAVED + data), pages=1)
    assert image.planes == (0,)


ENTITY = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaa">]>'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            ome(children=INTERLEAVED + '<TiffData><UUID FileName="b.tif">urn:uuid:other</UUID></TiffData>'),
            r"several files \(b.tif\)",
        ),
        (f'{ROOT}<BinaryOnly MetadataFile="m.ome"/></OME>', "another file"),
        (ome(children=CHANNELS + '<TiffData IFD="7" PlaneCount="3"/>'), "8 pages do not hold"),
        ("<OME><Image>", "OME-XML is damaged"),
        (ENTITY + ome(children=INTERLEAVED), "OME-XML is damaged"),
        (ome(sizes="XYZC", lengths=(90, 80, 1, 3), children=INTERLEAVED), "OME-XML is damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(text, told):
    with pytest.raises(SlideProblem, match=told):
        parse_ome(text, pages=8)
