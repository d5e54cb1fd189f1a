import math

import pytest
import shapely

from wsi_kd.core.errors import BadInput
from wsi_kd.slides.frame import NOMINAL_FRAME, SlideFrame, slide_center_nm
from wsi_kd.tissue.annotations import read_drawing

FRAME = SlideFrame((100, 200), 1000, 800, 0.5, 0.25, (2_000_000.0, -1_000_000.0))
"""Middle of level 0 at x 500, y 400; a pixel is 500 nm wide and 250 nm high."""


def read(tmp_path, text, name="a.xml", frame=FRAME):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_drawing(path, frame=frame)


def region(points, *, kind="0", negative="0", text=""):
    corners = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    return (
        f'<Region Id="1" Type="{kind}" NegativeROA="{negative}" Text="{text}">'
        f"<Vertices>{corners}</Vertices></Region>"
    )


def layer(*regions, name="Tumor", description=""):
    return (
        f'<Annotation Id="1" Name="{name}" LineColor="65535"><Attributes>'
        f'<Attribute Name="Description" Id="0" Value="{description}"/></Attributes><Regions>'
        f"<RegionAttributeHeaders/>{''.join(regions)}</Regions><Plots/></Annotation>"
    )


def imagescope(*layers):
    return f'<Annotations MicronsPerPixel="0.25">{"".join(layers)}</Annotations>'


BIG = [(0, 0), (100, 0), (100, 100), (0, 100)]
INNER = [(20, 20), (80, 20), (80, 80), (20, 80)]
ISLAND = [(40, 40), (60, 40), (60, 60), (40, 60)]


def test_imagescope_layers_are_classes_and_negative_regions_holes(tmp_path):
    text = imagescope(
        layer(region(BIG), region(INNER, negative="1"), region([(1, 1), (5, 5)], kind="4")),
        layer(region([(0, 0), (8, 0), (8, 8)]), name="", description="Stroma"),
    )
    found = read(tmp_path, text)
    assert found.format == "imagescope"
    assert [(item.name, item.area.area) for item in found.annotations] == [
        ("Tumor", 6400.0),
        ("Stroma", 32.0),
    ]
    assert found.annotations[0].color == (255, 255, 0)
    assert found.passed_over == {"ruler": 1}


def test_an_island_within_a_hole_stays(tmp_path):
    text = imagescope(layer(region(BIG), region(INNER, negative="1"), region(ISLAND)))
    outer, island = (item.area for item in read(tmp_path, text).annotations)
    assert (outer.area, island.area) == (6400.0, 400.0)


def test_a_hole_within_two_areas_is_cut_out_of_the_smaller(tmp_path):
    text = imagescope(layer(region(BIG), region(INNER), region(ISLAND, negative="1")))
    assert [item.area.area for item in read(tmp_path, text).annotations] == [10000.0, 3200.0]


def test_a_hole_across_outlines_cuts_every_area_it_meets(tmp_path):
    text = imagescope(layer(region(BIG), region([(200, 0), (300, 0), (300, 100), (200, 100)])))
    bar = region([(50, 40), (250, 40), (250, 60), (50, 60)], negative="1")
    text = text.replace("</Regions>", f"{bar}</Regions>")
    assert [item.area.area for item in read(tmp_path, text).annotations] == [9000.0, 9000.0]


def test_a_hole_in_another_class_cuts_nothing_and_is_told(tmp_path):
    text = imagescope(layer(region(BIG)), layer(region(INNER, negative="1"), name="Stroma"))
    found = read(tmp_path, text)
    assert [item.area.area for item in found.annotations] == [10_000.0]
    assert found.passed_over == {"hole outside every area": 1}


def test_imagescope_ellipses_and_unnamed_layers(tmp_path):
    text = imagescope(layer(region([(10, 20), (50, 30)], kind="2", text="Tumor"), name=""))
    (found,) = read(tmp_path, text).annotations
    assert found.name == "Tumor"
    assert found.area.bounds == pytest.approx((10, 20, 50, 30))
    assert found.area.area == pytest.approx(math.pi * 20 * 5, rel=2e-4)


def test_halo_is_told_by_its_corners(tmp_path):
    text = (
        '<Annotations><Annotation Name="Layer 1" Visible="True" LineColor="255"><Regions>'
        '<Region Type="Rectangle" HasEndcaps="0" NegativeROA="0"><Vertices><V X="3" Y="4"/><V X="13" Y="9"/>'
        "</Vertices></Region>"
        '<Region Type="Pin" NegativeROA="0"><Vertices><V X="1" Y="1"/></Vertices></Region>'
        '<Region Type="Polygon" HasEndcaps="0" NegativeROA="1"><Vertices><V X="4" Y="5"/><V X="6" Y="5"/>'
        '<V X="6" Y="6"/><V X="4" Y="6"/></Vertices></Region></Regions></Annotation></Annotations>'
    )
    found = read(tmp_path, text, "slide.annotations")
    assert (found.format, found.passed_over) == ("halo", {"pin": 1})
    assert shapely.equals(found.annotations[0].area, shapely.box(3, 4, 13, 9) - shapely.box(4, 5, 6, 6))
    assert found.annotations[0].color == (255, 0, 0)


def state(body, *, title="Tumor", unit="nanometers"):
    return (
        f'<ndpviewstate id="1"><title>{title}</title><details/><coordformat>{unit}</coordformat>'
        f"<lens>1</lens><x>0</x><y>0</y><z>0</z>{body}</ndpviewstate>"
    )


def freehand(points, *, closed="1", color="#ff0000"):
    corners = "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x, y in points)
    return (
        f'<annotation type="freehand" displayname="AnnotateFreehand" color="{color}">'
        f"<measuretype>0</measuretype><closed>{closed}</closed><pointlist>{corners}</pointlist></annotation>"
    )


def ndpa(*states):
    return (
        f'<?xml version="1.0" encoding="utf-8" standalone="yes"?><annotations>{"".join(states)}</annotations>'
    )


def test_ndpa_counts_in_nm_from_the_middle_of_the_glass(tmp_path):
    # 2,000,000 nm is the middle (x 500); 10,000 nm to its right are 20 pixels of 0.5 um; in y 40 of 0.25.
    box = [(2_000_000, -1_000_000), (2_010_000, -1_000_000), (2_010_000, -990_000), (2_000_000, -990_000)]
    found = read(tmp_path, ndpa(state(freehand(box))), "a.ndpa")
    assert found.annotations[0].name == "Tumor"
    assert found.annotations[0].color == (255, 0, 0)
    assert shapely.equals(found.annotations[0].area, shapely.box(500, 400, 520, 440))


def test_ndpa_circles_become_ellipses_where_pixels_are_not_square(tmp_path):
    circle = "<x>2000000</x><y>-1000000</y><radius>5000</radius>"
    text = ndpa(state(f'<annotation type="circle" color="#000">{circle}</annotation>'))
    (found,) = read(tmp_path, text, "a.ndpa").annotations
    assert found.area.bounds == pytest.approx((490, 380, 510, 420))
    assert found.area.area == pytest.approx(math.pi * 10 * 20, rel=2e-4)


def test_ndpa_passes_over_what_covers_nothing(tmp_path):
    text = ndpa(
        state('<annotation type="pin"><x>1</x><y>1</y></annotation>'),
        state('<annotation type="linearmeasure"><x1>1</x1></annotation>'),
        state(freehand([(0, 0), (9, 9), (9, 0)], closed="0")),
    )
    found = read(tmp_path, text, "a.ndpa")
    assert found.annotations == ()
    assert found.passed_over == {"pin": 1, "linearmeasure": 1, "freehandline": 1}


def test_ndpa_needs_the_place_on_the_glass(tmp_path):
    text = ndpa(state(freehand([(0, 0), (900, 0), (900, 900)])))
    with pytest.raises(BadInput, match=r"a\.ndpa: NDPA counts from the middle.*XOffsetFromSlideCentre"):
        read(tmp_path, text, "a.ndpa", frame=FRAME._replace(center_nm=None))
    assert read(tmp_path, text, "a.ndpa", frame=NOMINAL_FRAME).annotations[0].area.area == pytest.approx(
        0.405
    )


def test_center_of_the_glass_is_read_whole_or_not_at_all():
    keys = ("hamamatsu.XOffsetFromSlideCentre", "hamamatsu.YOffsetFromSlideCentre")
    assert slide_center_nm(dict(zip(keys, ("12538720", "-96063"), strict=True))) == (12538720.0, -96063.0)
    assert slide_center_nm({keys[0]: "1"}) is None
    assert slide_center_nm(dict(zip(keys, ("1", "nan"), strict=True))) is None
    assert slide_center_nm(dict(zip(keys, ("1", "left"), strict=True))) is None


def asap(annotations, groups=""):
    listed = "".join(
        f'<Annotation Name="A {index}" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        + "".join(f'<Coordinate Order="{o}" X="{x}" Y="{y}"/>' for o, (x, y) in enumerate(points))
        + "</Coordinates></Annotation>"
        for index, (group, kind, points) in enumerate(annotations)
    )
    return (
        f"<ASAP_Annotations><Annotations>{listed}</Annotations>"
        f"<AnnotationGroups>{groups}</AnnotationGroups></ASAP_Annotations>"
    )


def test_asap_groups_within_groups(tmp_path):
    groups = (
        '<Group Name="Tumor" PartOfGroup="None" Color="#000000"/>'
        '<Group Name="invasive" PartOfGroup="Tumor" Color="#000000"/>'
        '<Group Name="Exclusion" PartOfGroup="Tumor" Color="#000000"/>'
    )
    annotations = [
        ("Tumor", "Polygon", BIG),
        ("invasive", "Spline", ISLAND),
        ("Exclusion", "Rectangle", INNER),
        ("None", "Polygon", [(0, 0), (2, 0), (2, 2)]),
        ("Tumor", "PointSet", [(1, 1)]),
    ]
    found = read(tmp_path, asap(annotations, groups))
    assert [(item.name, item.area.area) for item in found.annotations] == [
        ("Tumor", 6400.0),
        ("Tumor: invasive", 400.0),
        ("", 2.0),
    ]
    assert found.passed_over == {"pointset": 1}


def test_camelyons_exclusion_stays_a_class_of_its_own(tmp_path):
    groups = '<Group Name="_0" PartOfGroup="None"/><Group Name="_2" PartOfGroup="None"/>'
    found = read(tmp_path, asap([("_0", "Polygon", BIG), ("_2", "Polygon", INNER)], groups))
    assert [(item.name, item.area.area) for item in found.annotations] == [("_0", 10_000.0), ("_2", 3600.0)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (imagescope(layer(region(BIG, kind="9"))), r"layer 0 \('Tumor'\), region 0: type '9'"),
        (imagescope(layer(region([(0, 0), (1, 1)]))), "region 0: 2 different corners"),
        (imagescope(layer(region(BIG, kind="2"))), "4 corners, an ellipse needs the two"),
        (imagescope(layer(region([(0, 0), ("x", 1), (2, 2)]))), "vertex 1, X: 'x'; expected a number"),
        (ndpa(state(freehand(BIG), unit="pixels")), "coordformat 'pixels'; expected nanometers"),
        (ndpa(state('<annotation type="spiral"/>')), r"annotation 1 \('Tumor'\): type 'spiral'"),
        (ndpa(state('<annotation type="circle"><x>1</x><y>1</y></annotation>')), "radius: None"),
        (
            ndpa(state('<annotation type="circle"><x>1</x><y>1</y><radius>-5</radius></annotation>')),
            "radius of -5 nm",
        ),
        (ndpa(state(freehand([(0, 0), (1, 1)]))), "2 different corners"),
        (
            asap([], '<Group Name="A" PartOfGroup="B"/><Group Name="B" PartOfGroup="A"/>'),
            "group 'A' lies within itself",
        ),
        (imagescope().replace("Annotations", "Layers"), "root element <Layers>; expected <ASAP_Annotations>"),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotations>&x;</annotations>',
            "entities, which are refused",
        ),
    ],
)
def test_faults_are_told_by_name(tmp_path, text, told):
    with pytest.raises(BadInput, match=told) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_repaired_rings_are_named(tmp_path):
    bow_tie = region([(0, 0), (10, 10), (10, 0), (0, 10)])
    found = read(tmp_path, imagescope(layer(region(BIG), bow_tie)))
    assert [place.split(": ")[-1] for place in found.repaired] == ["layer 0 ('Tumor'), region 1"]
    assert found.annotations[1].area.area == 50.0


def test_utf16_with_a_mark_is_xml(tmp_path):
    path = tmp_path / "a.txt"
    text = '<?xml version="1.0" encoding="UTF-16"?>' + imagescope(layer(region(BIG), name="Tumör"))
    path.write_bytes(text.encode("utf-16"))
    assert read_drawing(path, frame=FRAME).annotations[0].name == "Tumör"


def test_geojson_measurements_colors_and_plain_classes(tmp_path):
    square = "[[[0,0],[4,0],[4,4],[0,4],[0,0]]]"
    text = (
        '{"type":"FeatureCollection","features":['
        f'{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":{square}}},"properties":{{"name":"first",'
        '"classification":{"name":"Tumor","colorRGB":-3670016},"measurements":{"Area":16}}},'
        f'{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":{square}}},"properties":'
        '{"classification":"Stroma","measurements":[]}}]}'
    )
    found = read(tmp_path, text, "a.geojson")
    first, second = found.annotations
    assert (first.name, first.title, first.color) == ("Tumor", "first", (200, 0, 0))
    assert (second.name, second.title, second.color) == ("Stroma", "", None)
    assert first.area.bounds == (100.0, 200.0, 104.0, 204.0)
    assert found.measured == 1
