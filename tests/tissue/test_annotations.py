import json

import pytest
import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.slides.frame import NOMINAL_FRAME
from wsi_kd.tissue.annotations import read_drawing
from wsi_kd.tissue.edited import read_edited_tissue

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry, name=None):
    properties = {"objectType": "annotation"}
    if name is not None:
        properties["classification"] = {"name": name}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def read_at(path, origin):
    return read_drawing(path, frame=NOMINAL_FRAME._replace(origin=origin)).annotations


def written(tmp_path, value, name="a.geojson"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    "value",
    [
        collection(feature(polygon(SQUARE, HOLE), "Tumor")),
        [feature(polygon(SQUARE, HOLE), "Tumor")],
        feature(polygon(SQUARE, HOLE), "Tumor"),
        feature({"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE]]}, "Tumor"),
        feature({"type": "GeometryCollection", "geometries": [polygon(SQUARE, HOLE)]}, "Tumor"),
    ],
)
def test_every_export_of_qupath_is_read_and_moved_by_the_origin(tmp_path, value):
    (found,) = read_at(written(tmp_path, value), (100, 200))
    assert found.name == "Tumor"
    assert found.area.area == 96.0
    assert found.area.bounds == (100.0, 200.0, 110.0, 210.0)


def test_bare_geometry_height_and_derived_classes(tmp_path):
    with_height = [[x, y, 0.0] for x, y in SQUARE]
    (found,) = read_at(written(tmp_path, polygon(with_height)), (0, 0))
    assert (found.name, found.area.area) == ("", 100.0)
    derived = feature(polygon(SQUARE))
    derived["properties"]["classification"] = {"names": ["Tumor", "Positive"]}
    (found,) = read_at(written(tmp_path, derived), (0, 0))
    assert found.name == "Tumor: Positive"


def test_self_crossing_rings_are_repaired(tmp_path):
    (found,) = read_at(written(tmp_path, feature(polygon(BOW_TIE), "Tumor")), (0, 0))
    assert found.area.is_valid
    assert found.area.area == 50.0
    assert found.area.geom_type == "MultiPolygon"


def test_points_and_lines_are_passed_over(tmp_path):
    value = collection(
        feature({"type": "Point", "coordinates": [1, 2]}, "Tumor"),
        feature({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "Tumor"),
        feature(polygon(SQUARE), "Tumor"),
    )
    assert len(read_at(written(tmp_path, value), (0, 0))) == 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            collection(feature(polygon(SQUARE)), feature(polygon([[0, 0], [1, 1], [0, 0]]), "Tumor")),
            "feature 1.*Tumor",
        ),
        (feature(polygon([[0, 0], [5, 5], [10, 10], [0, 0]])), "covers no area"),
        (feature(polygon([[0, 0], [float("nan"), 5], [10, 0], [0, 0]])), "no finite number"),
        (feature(polygon([[0, 0], [10**400, 5], [10, 0], [0, 0]])), "no finite number"),
        (feature(polygon([[0, 0], [1e308, 5], [10, 0], [0, 0]])), r"1e\+308 pixels, beyond any slide"),
        (feature(polygon([[0, 0], [1.1e9, 5], [10, 0], [0, 0]])), r"1.1e\+09 pixels, beyond any slide"),
        (feature(polygon([["0", 0], [1, 5], [10, 0], [0, 0]])), "expected \\[x, y\\]"),
        (feature(polygon("ring")), "no list of points"),
        (feature(polygon()), "without rings|no coordinates"),
        (feature({"type": "MultiPolygon", "coordinates": None}), "no coordinates"),
        (feature({"type": "Circle"}), "type 'Circle'; expected one of"),
        (feature({"type": "GeometryCollection", "geometries": 5}), "`geometries` is no list"),
        (feature({"type": "GeometryCollection"}), "`geometries` is no list"),
        (feature(None), "type None"),
        ({"type": "FeatureCollection", "features": None}, "no list"),
        ({"type": "FeatureCollection", "features": ["x"]}, "feature 0: type None"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
    ],
)
def test_faulty_geojson_is_refused_by_name(tmp_path, value, told):
    path = written(tmp_path, value)
    with pytest.raises(BadInput, match=told) as error:
        read_at(path, (0, 0))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def asap(coordinates, *, group="_0", kind="Polygon"):
    corners = "".join(f'<Coordinate Order="{o}" X="{x}" Y="{y}" />' for o, x, y in coordinates)
    return (
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        f'<Annotation Name="A 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
        f"<Coordinates>{corners}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    )


def test_asap_orders_corners_reads_commas_and_ignores_the_origin(tmp_path):
    shuffled = [("2", "10,5", "10,0"), ("0", "0", "0"), ("10", "0", "10"), ("1", "10.5", "0")]
    (found,) = read_at(written(tmp_path, asap(shuffled), "a.xml"), (500, 500))
    assert found.name == "_0"
    assert shapely.equals(found.area, shapely.box(0, 0, 10.5, 10))


def test_asap_is_known_by_content_and_dots_are_passed_over(tmp_path):
    text = asap([(0, 0, 0), (1, 4, 0), (2, 4, 4)])
    dot = '<Annotation Name="B" Type="Dot" PartOfGroup="_0"><Coordinates/></Annotation>'
    path = written(tmp_path, text.replace("</Annotations>", f"{dot}</Annotations>"), "a.annotation")
    (found,) = read_at(path, (0, 0))
    assert found.area.area == 8.0


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<ASAP_Annotations><Annotations>&b;</Annotations></ASAP_Annotations>"
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "entities, which are refused"),
        ("<ASAP_Annotations>", "not valid XML"),
        ("", "not valid XML"),
        ("<html></html>", "root element <html>"),
        (asap([(0, 0, 0), (1, 4, 0)]), "annotation 0 .*2 different corners"),
        (asap([(0, 0, 0), (1, 4, "x"), (2, 4, 4)]), "coordinate 1, Y: 'x'"),
        (asap([(0, 0, 0), (1, "nan", 4), (2, 4, 4)]), "no finite number"),
        (asap([("nan", 0, 0), (1, 4, 0), (2, 4, 4)]), "coordinate 0, Order: 'nan'; expected a number"),
        (asap([(0, 0, 0), (1, 2, 2), (2, 4, 4)]), "covers no area"),
        (asap([(0, 0, 0), (1, 4, 0), (2, 4, 4)], kind="Spiral"), "type 'Spiral'"),
    ],
)
def test_faulty_asap_is_refused_by_name(tmp_path, text, told):
    with pytest.raises(BadInput, match=told):
        read_at(written(tmp_path, text, "a.xml"), (0, 0))


def test_names_that_no_file_can_hold_are_made_writable(tmp_path):
    """JSON may spell half of a UTF-16 pair; a terminal or a file would fail on it."""
    value = feature(polygon(SQUARE), "Tu\ud800mor")
    value["properties"]["name"] = "\udfff1"
    (area,) = read_at(written(tmp_path, json.dumps(value)), (0, 0))
    assert area.name == "Tu?mor"
    area.name.encode("utf-8")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.xml: cannot be read"):
        read_at(tmp_path / "none.xml", (0, 0))


def test_edited_tissue_joins_tissue_and_unnamed_areas(tmp_path):
    shifted = [[x + 5, y] for x, y in SQUARE]
    far = [[x + 50, y] for x, y in SQUARE]
    value = collection(
        feature(polygon(SQUARE), "tissue"), feature(polygon(shifted)), feature(polygon(far), "Tumor")
    )
    found = read_edited_tissue(written(tmp_path, value), origin=(100, 0))
    assert shapely.equals(found, shapely.box(100, 0, 115, 10))
    with pytest.raises(BadInput, match="areas of class Tumor only"):
        read_edited_tissue(written(tmp_path, feature(polygon(far), "Tumor")), origin=(0, 0))
    assert read_edited_tissue(written(tmp_path, collection()), origin=(0, 0)).is_empty


@pytest.mark.shared_data
def test_real_annotation_files(shared_data):
    (asap_area,) = read_at(shared_data / "annot/asap-polygon.xml", (7, 7))
    assert asap_area.name == ""
    assert asap_area.area.bounds == (22693.1875, 16551.1797, 23067.4531, 16710.6367)
    (drawn,) = read_at(shared_data / "annot/qupath-polygon.json", (1000, 0))
    assert drawn.area.bounds == (27215.0, 15345.0, 27637.0, 15705.0)
    assert len(drawn.area.exterior.coords) == 47
