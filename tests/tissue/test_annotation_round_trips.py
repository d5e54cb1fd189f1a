import itertools

import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely import affinity

from wsi_kd.core.errors import BadInput
from wsi_kd.slides.frame import SlideFrame
from wsi_kd.tissue.annotations import FORMATS, read_drawing, write_drawing
from wsi_kd.tissue.drawing import HOLE_PREFIX, Annotation

FRAME = SlideFrame((2048, 1024), 90_000, 60_000, 0.2262, 0.2277, (12_538_720.0, -96_063.0))
MAX_SHIFT_PX = 0.01

DISK = shapely.Point(30_000.123, 20_000.456).buffer(4000.7, quad_segs=30)
HOLE = shapely.Point(30_100.3, 20_200.9).buffer(900.1, quad_segs=9)
ISLAND = shapely.Point(30_100.3, 20_200.9).buffer(300.3, quad_segs=5)
FAR = shapely.box(50_000.25, 10_000.5, 51_000.75, 12_000.125)
DRAWN = (
    Annotation("Tumor", DISK - HOLE, "outer", (200, 0, 0)),
    Annotation("Tumor", ISLAND, "island", (200, 0, 0)),
    Annotation("Tumor: Positive", FAR, "far", (0, 128, 255)),
    Annotation("Stroma", affinity.translate(FAR, 5000.0, 0.3) - HOLE, "", (10, 20, 30)),
)


def through(tmp_path, annotations, file_format):
    written = write_drawing(annotations, file_format=file_format, frame=FRAME)
    path = tmp_path / f"{file_format}.file"
    path.write_text(written.text, encoding="utf-8")
    drawing = read_drawing(path, frame=FRAME)
    assert drawing.format == file_format
    assert not drawing.passed_over
    return drawing.annotations


def by_class_and_place(annotations):
    return sorted(annotations, key=lambda item: (item.name, item.area.area))


def worst_shift_px(first, second):
    return max(
        shapely.hausdorff_distance(one.area.boundary, other.area.boundary)
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_one_trip_keeps_outlines_holes_classes_and_colors(tmp_path, file_format):
    expected, found = by_class_and_place(DRAWN), by_class_and_place(through(tmp_path, DRAWN, file_format))
    assert [item.name for item in found] == [item.name for item in expected]
    assert [item.title for item in found if item.title and item.name != "Stroma"] == [
        item.title for item in expected if item.title
    ]
    assert [item.color for item in found] == [item.color for item in expected]
    assert worst_shift_px(expected, found) < MAX_SHIFT_PX
    assert [len(item.area.interiors) for item in found] == [len(item.area.interiors) for item in expected]


@pytest.mark.parametrize("route", list(itertools.permutations(sorted(FORMATS), 2)))
def test_trips_through_two_formats_do_not_drift(tmp_path, route):
    found = DRAWN
    for file_format in route:
        found = through(tmp_path, found, file_format)
    assert worst_shift_px(by_class_and_place(DRAWN), by_class_and_place(found)) < MAX_SHIFT_PX


@pytest.mark.parametrize("file_format", ["asap", "imagescope", "ndpa"])
def test_pieces_become_areas_and_it_is_told(tmp_path, file_format):
    pieces = Annotation("Tumor", shapely.MultiPolygon([ISLAND, FAR]), "both", None)
    written = write_drawing([pieces], file_format=file_format, frame=FRAME)
    assert written.losses == ("1 areas of several pieces became 2 areas",)
    found = through(tmp_path, [pieces], file_format)
    assert len(found) == 2
    assert sum(item.area.area for item in found) == pytest.approx(pieces.area.area, rel=1e-5)
    assert write_drawing([pieces], file_format="geojson", frame=FRAME).losses == ()
    (whole,) = through(tmp_path, [pieces], "geojson")
    assert shapely.equals_exact(whole.area, pieces.area, tolerance=1e-9)


@pytest.mark.parametrize("file_format", ["asap", "ndpa"])
def test_holes_of_areas_without_a_class(tmp_path, file_format):
    unnamed = Annotation("", DISK - HOLE)
    assert "1 holes became" in write_drawing([unnamed], file_format=file_format, frame=FRAME).losses[0]
    (found,) = through(tmp_path, [unnamed], file_format)
    assert found.name == ""
    assert len(found.area.interiors) == 1


def test_imagescope_tells_of_colors_and_names_it_cannot_hold():
    twice = [Annotation("Tumor", FAR, "", (1, 2, 3)), Annotation("Tumor", ISLAND, "", (4, 5, 6))]
    losses = write_drawing(
        [*twice, Annotation("", DISK, "own")], file_format="imagescope", frame=FRAME
    ).losses
    assert losses == (
        "1 classes of several colors got one each",
        "1 areas without a class lost their own names",
    )


def test_hostile_names_make_valid_files(tmp_path):
    hostile = '<&"\x00\x1b\ud800]]>'
    for file_format in FORMATS:
        (found,) = through(tmp_path, [Annotation(hostile, FAR)], file_format)
        kept = found.name.replace("\N{REPLACEMENT CHARACTER}", "")
        assert kept.startswith('<&"')
        assert kept.endswith("]]>")


def test_ndpa_cannot_be_written_without_the_place_on_the_glass():
    with pytest.raises(BadInput, match=r"does not tell where its own middle lies.*another format"):
        write_drawing(DRAWN, file_format="ndpa", frame=FRAME._replace(center_nm=None))


def test_nothing_drawn_is_a_valid_file(tmp_path):
    for file_format in FORMATS:
        if file_format != "geojson":
            assert through(tmp_path, [], file_format) == ()


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["asap-polygon.xml", "qupath-polygon.json"])
def test_real_files_through_every_format(tmp_path, shared_data, name):
    first = read_drawing(shared_data / "annot" / name, frame=FRAME).annotations
    found = first
    for file_format in ("ndpa", "asap", "imagescope", "ndpa", "geojson"):
        found = through(tmp_path, found, file_format)
    assert worst_shift_px(first, found) < MAX_SHIFT_PX
    assert found[0].name == first[0].name


TOKENS = ('"nan"', "1e308", "<", "null", "[]", '"None"', "9" * 30, '"2"', '"\u0001"', HOLE_PREFIX)


@pytest.mark.parametrize("file_format", sorted(FORMATS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 25), st.sampled_from(TOKENS)), max_size=4))
def test_a_spoiled_file_is_bad_input_or_valid_areas(tmp_path, file_format, edits):
    text = write_drawing(DRAWN[2:3], file_format=file_format, frame=FRAME).text
    for place, cut, token in edits:
        start = int(place * len(text))
        text = text[:start] + token + text[start + cut :]
    path = tmp_path / "spoiled.xml"
    path.write_text(text)
    told, found = "", ()
    try:
        found = read_drawing(path, frame=FRAME).annotations
    except BadInput as error:
        told = str(error)
    assert not told or told.startswith(str(path))
    assert "\n" not in told
    assert all(item.area.is_valid and 0 < item.area.area < float("inf") for item in found)
