import json
import re

import pytest

from wsi_kd.cli.app import run
from wsi_kd.slides.reader import open_slide
from wsi_kd.steps.annotations import slide_frame
from wsi_kd.tissue.annotations import read_drawing

BOUNDS = "bounds"


def drawn(tmp_path, features, name="drawn.geojson"):
    path = tmp_path / name
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def square(x, y, size, *, name="Tumor", **properties):
    corners = [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"classification": {"name": name}, **properties},
    }


def test_check_sums_classes_in_mm2(tmp_path, capsys):
    bow_tie = square(0, 0, 10)
    bow_tie["geometry"]["coordinates"] = [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}}
    path = drawn(tmp_path, [square(0, 0, 2000), square(50, 0, 1000, name="Stroma"), bow_tie, point])
    assert run(["annotations", "check", str(path), "--slide-mpp", "0.5"]) == 0
    first, *classes = capsys.readouterr().out.splitlines()
    assert "geojson: 3 areas, 1 repaired" in first
    assert "feature 2 ('Tumor')), passed over: 1 point" in first
    assert classes == ["  Stroma: 1 areas, 0.25 mm2", "  Tumor: 2 areas, 1 mm2"]


def test_check_looks_at_every_file_before_it_fails(tmp_path, capsys):
    broken = tmp_path / "broken.xml"
    broken.write_text("<html/>")
    good = drawn(tmp_path, [square(0, 0, 4)])
    assert run(["annotations", "check", str(broken), str(good)]) == 2
    told = capsys.readouterr()
    assert "  Tumor: 1 areas, 16 level-0 px2" in told.out
    assert "1 of 2 files cannot be used" in told.err
    assert "root element <html>" in told.err


def test_convert_moves_by_the_slides_bounds_and_tells_what_is_lost(tmp_path, capsys, synthetic_slide):
    slide = synthetic_slide(BOUNDS)
    source, target = drawn(tmp_path, [square(10, 20, 30, measurements={"Area": 1})]), tmp_path / "out.xml"
    command = ["annotations", "convert", str(source), str(target), "--slide", str(slide.path)]
    assert run(command) == 2
    assert "'.xml' does not tell the format; pass --to" in capsys.readouterr().err
    assert run([*command, "--to", "asap"]) == 0
    assert "1 areas, geojson to asap: measurements of 1 areas not read" in capsys.readouterr().out
    (area,) = read_drawing(target, frame=slide_frame(slide.path, mpp=None)).annotations
    x, y = slide.origin
    assert area.area.bounds == (x + 10, y + 20, x + 40, y + 50)
    back = tmp_path / "back.geojson"
    assert run(["annotations", "convert", str(target), str(back), "--slide", str(slide.path)]) == 0
    assert "nothing lost" in capsys.readouterr().out
    assert json.loads(back.read_text())["features"][0]["geometry"]["coordinates"][0][0] == [10.0, 20.0]


def test_convert_says_that_it_took_bounds_for_granted(tmp_path, capsys):
    assert (
        run(["annotations", "convert", str(drawn(tmp_path, [square(0, 0, 9)])), str(tmp_path / "o.json")])
        == 0
    )
    assert "without --slide its bounds are taken to start at 0, 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["out.ndpa"], "pass the slide with --slide"),
        (["out.xml", "--to", "asep"], "unknown annotation format 'asep'.*did you mean 'asap'"),
        (["out.geojson", "--slide", "absent.svs"], "absent.svs: no such file"),
        (["drawn.geojson"], "is the file that is read.*name another OUT"),
        (["out.geojson", "--slide-mpp", "-1"], "--slide-mpp -1: expected um/px from 0.05 to 20"),
        (["out.geojson", "--slide-mpp", "nan"], "--slide-mpp nan: expected um/px"),
    ],
)
def test_convert_refuses_in_one_line(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    source = drawn(tmp_path, [square(0, 0, 9)])
    assert run(["annotations", "convert", str(source), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(told, error)
    assert json.loads(source.read_text())["features"] == [square(0, 0, 9)]


def test_check_counts_holes(tmp_path, capsys):
    ring = square(0, 0, 9)
    ring["geometry"]["coordinates"].append([[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]])
    assert run(["annotations", "check", str(drawn(tmp_path, [ring, square(20, 0, 9)]))]) == 0
    assert "Tumor: 2 areas, 1 holes, 158 level-0 px2" in capsys.readouterr().out


def test_check_refuses_an_impossible_resolution(tmp_path, capsys):
    assert run(["annotations", "check", str(drawn(tmp_path, [square(0, 0, 9)])), "--slide-mpp", "0"]) == 2
    assert "--slide-mpp 0: expected um/px from 0.05 to 20" in capsys.readouterr().err


@pytest.mark.shared_data
def test_ndpa_of_a_real_hamamatsu_slide(tmp_path, shared_data, capsys):
    slide = shared_data / "wsi/test3-DAPI-2-_387_.ndpi"
    source = drawn(tmp_path, [square(100, 200, 300)])
    ndpa, back = tmp_path / "a.ndpa", tmp_path / "b.geojson"
    for first, second in ((source, ndpa), (ndpa, back)):
        assert run(["annotations", "convert", str(first), str(second), "--slide", str(slide)]) == 0
    capsys.readouterr()
    frame = slide_frame(slide, mpp=None)
    with open_slide(slide, background="white") as reader:
        width, _ = reader.level_dimensions[0]
    assert frame.center_nm == (12538720.0, -96063.0)
    x_nm = int(ndpa.read_text().split("<point>")[1].split("<x>")[1].split("<")[0])
    assert x_nm == pytest.approx((100 - width / 2) * 1000 * frame.mpp_x + 12538720, abs=0.5)
    corners = json.loads(back.read_text())["features"][0]["geometry"]["coordinates"][0]
    assert corners[0] == pytest.approx([100, 200], abs=0.01)
