"""Stored tiles made complete, against libjpeg told explicitly what they are."""

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from jpeg_tiffs import DHT, DQT, JFIF, Stream, adobe, encoded, tables_of, tissue

from wsi_kd.slides.jpeg_stream import JpegStreams


@pytest.fixture(scope="module")
def tile():
    return tissue(400, 400)[300:364, 300:364]


def as_told(stream, colors, *, tables=None):
    """Decode with the color space given, not guessed: the oracle."""
    space = {"rgb": "RGB", "ycbcr": "YCBCR"}[colors]
    return imagecodecs.jpeg8_decode(stream, tables=tables, colorspace=space, outcolorspace="RGB")


MARKERS = {"none": b"", "jfif": JFIF, "adobe rgb": adobe(0), "adobe ycbcr": adobe(1)}


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
@pytest.mark.parametrize("colors", ["rgb", "ycbcr"])
@pytest.mark.parametrize("apart", [False, True], ids=["whole", "tables apart"])
def test_the_photometric_tag_decides_whatever_the_markers_say(tile, colors, marker, apart):
    whole = encoded(tile, colors)
    tables = tables_of(whole) if apart else b""
    plain = whole.without(DHT, DQT) if apart else whole
    stored = Stream([(0, marker), *plain.segments], plain.scan).joined()
    streams = JpegStreams(tables, colors)
    expected = as_told(whole.joined(), colors)
    for _ in range(2):  # the second time from what was worked out before
        assert np.array_equal(simplejpeg.decode_jpeg(streams.complete(stored)), expected)
    assert np.abs(expected.astype(int) - tile).mean() < 12


def test_a_stream_that_needs_nothing_is_not_copied(tile):
    stored = encoded(tile, "ycbcr").joined()
    assert JpegStreams(b"", "ycbcr").complete(stored) is stored


def test_tiles_with_headers_of_their_own_are_each_read_as_they_are(tile):
    streams = JpegStreams(b"", "rgb")
    for quality in (30, 90, 30):
        stored = encoded(tile, "rgb", quality=quality).joined()
        assert np.array_equal(simplejpeg.decode_jpeg(streams.complete(stored)), as_told(stored, "rgb"))


def test_a_restart_interval_among_the_tables_is_not_taken_over(tile):
    """libjpeg forgets it at each new stream, so OpenSlide ignores it."""
    whole = encoded(tile, "ycbcr")
    tables = tables_of(whole)[:-2] + b"\xff\xdd\x00\x04\x00\x01\xff\xd9"
    found = JpegStreams(tables, "ycbcr").complete(whole.without(DHT, DQT).joined())
    assert np.array_equal(simplejpeg.decode_jpeg(found), as_told(whole.joined(), "ycbcr"))


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (b"", "starts with nothing"),
        (bytes(40), "starts with 0000"),
        (b"\xff\xd8" + bytes(20), "no marker at byte 2"),
        (b"\xff\xd8\xff\xdb\xff\xff" + bytes(20), "marker segment of 65535 bytes"),
        (b"\xff\xd8\xff\xda\x00\x08" + bytes(20), "no frame"),
    ],
)
def test_bytes_that_are_no_jpeg_say_so(stored, told):
    with pytest.raises(ValueError, match=told):
        JpegStreams(b"", "rgb").complete(stored)


def test_gray_tiles_are_not_read_as_colors(tile):
    gray = bytes(imagecodecs.jpeg8_encode(tile[..., 0].copy()))
    with pytest.raises(ValueError, match="1 components of 8 bits; expected 3 of 8"):
        JpegStreams(b"", "ycbcr").complete(gray)
