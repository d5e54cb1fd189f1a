"""heatmap against predict and infer: one slide, one model, the same numbers in every file."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image
from scored_twice import KEY, Scored, scored_elsewhere

from wsi_kd.cli.app import run as run_command
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, read_json
from wsi_kd.inference.mappings import tile_mapping
from wsi_kd.inference.tables import read_tiles_csv
from wsi_kd.report.overlay import score_map
from wsi_kd.steps.heatmap import run_heatmap
from wsi_kd.steps.heatmap_files import Choice
from wsi_kd.steps.known_slides import Sources

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def made(synthetic_slide, tmp_path_factory):
    slides = {"shifted": synthetic_slide("bounds"), "plain": synthetic_slide("tumor")}
    return Scored(tmp_path_factory.mktemp("heatmap"), slides)


def facts(folder: Path, slug="student_probability"):
    return read_json(folder / f"{slug}.json", remake="wsi-kd heatmap")


def features(path: Path):
    return json.loads(path.read_text())["features"]


def test_map_csv_geojson_and_prediction_agree_for_run_and_infer(made, tmp_path):
    (of_run,) = made.draw(tmp_path / "run")
    (of_infer,) = made.draw(tmp_path / "infer", target=made.answer)
    assert of_run.problem == of_infer.problem == ""
    answer = read_json(made.answer / "prediction.json", remake="wsi-kd infer")
    x0, y0, width, height = answer["slide"]["bounds"]
    assert (x0, y0) == (2048, 1024)
    tables = [
        read_tiles_csv(made.run / "predictions" / KEY / "tiles" / "shifted.csv"),
        read_tiles_csv(made.answer / "tiles.csv"),
    ]
    count = len(tables[0].coords)
    assert count > 10
    for key in ("student_probability", "teacher_evidence", "attention_softmax", "attention_raw"):
        scores, again = (tile_mapping(table, key).scores for table in tables)
        np.testing.assert_allclose(scores, again, atol=TOLERANCE)
    scores = tile_mapping(tables[0], "student_probability").scores
    averages = score_map(
        tables[0].coords,
        scores,
        tile_level0_px=tables[0].tile_level0_px,
        level0_px_per_px=16.0,
        origin=(x0, y0),
        shape=(height // 16, width // 16),
    )
    written = [
        made.answer / "tiles.geojson",
        of_run.folder / "tiles.geojson",
        of_infer.folder / "tiles.geojson",
    ]
    for path in written:
        found = features(path)
        assert len(found) == count
        for feature, score, corner in zip(found, scores, tables[0].coords, strict=True):
            polygon = shapely.geometry.shape(feature["geometry"])
            assert polygon.bounds[:2] == (corner[0] - x0, corner[1] - y0)
            value = feature["properties"]["measurements"]["Student probability"]
            assert value == pytest.approx(score, abs=TOLERANCE)
            column, row = (int(length / 16) for length in polygon.centroid.coords[0])
            assert averages[row, column] == pytest.approx(value, abs=TOLERANCE)
    largest = answer["probabilities"]["student_max"]["tumor"]
    assert np.nanmax(averages) == pytest.approx(largest, abs=TOLERANCE)


def test_regions_follow_the_models_threshold_in_qupaths_frame(made, tmp_path):
    (of_run,) = made.draw(tmp_path / "run")
    (of_infer,) = made.draw(tmp_path / "infer", target=made.answer)
    told = facts(of_run.folder)
    assert told["threshold"] == {"value": made.threshold, "rule": "youden", "chosen_on": "val"}
    tiles = read_tiles_csv(made.answer / "tiles.csv")
    above = tiles.student_score >= made.threshold - 1e-9
    assert 0 < above.sum() < len(above)
    first, second = (
        features(one.folder / "student_probability.regions.geojson") for one in (of_run, of_infer)
    )
    regions = [shapely.geometry.shape(one["geometry"]) for one in first]
    assert [one["geometry"] for one in second] == [one["geometry"] for one in first]
    edge = tiles.tile_level0_px
    assert sum(region.area for region in regions) == pytest.approx(above.sum() * edge**2)
    assert sum(one["properties"]["tiles"] for one in first) == above.sum()
    covered = shapely.union_all(regions)
    centers = shapely.points(tiles.coords - np.array([2048, 1024]) + edge / 2)
    np.testing.assert_array_equal(shapely.contains(covered, centers), above)
    assert max(one["properties"]["max"] for one in first) == pytest.approx(
        tiles.student_score.max(), abs=TOLERANCE
    )


def test_every_file_names_its_mapping_and_the_facts_carry_their_hashes(made, tmp_path):
    choice = Choice(
        mappings=("attention_raw", "student_probability"),
        threshold=0.4,
        tiff_um_per_px=1.0,
        colormap="cividis",
    )
    (drawn,) = made.draw(tmp_path, choice)
    assert drawn.folder == tmp_path / KEY / "shifted"
    assert sorted(drawn.files) == sorted(path.name for path in drawn.folder.iterdir())
    assert set(drawn.files) == {
        "tiles.geojson",
        *(
            f"{slug}{end}"
            for slug in choice.mappings
            for end in (".png", ".ome.tiff", ".regions.geojson", ".json")
        ),
    }
    for slug in choice.mappings:
        told = facts(drawn.folder, slug)
        assert (told["mapping"], told["slide_id"], told["model"]) == (slug, "shifted", KEY)
        assert told["files"] == {name: file_hash(drawn.folder / name) for name in told["files"]}
        assert told["scores_sha256"] == file_hash(made.run / "predictions" / KEY / "tiles" / "shifted.csv")
        assert told["threshold"]["value"] == 0.4
        assert len(told["files"]) == 3
        assert str(made.root) not in (drawn.folder / f"{slug}.json").read_text()
        with Image.open(drawn.folder / f"{slug}.png") as image:
            assert slug in image.text["Description"]
        with tifffile.TiffFile(drawn.folder / f"{slug}.ome.tiff") as tiff:
            assert slug in tiff.ome_metadata
            assert tiff.series[0].shape == (384, 512, 3)  # the bounds, not the whole glass


def test_a_picture_of_half_the_resolution_has_half_the_pixels(made, tmp_path):
    sizes = []
    for um_per_px in (0.5, 1.0):
        (drawn,) = made.draw(tmp_path, Choice(um_per_px=um_per_px))
        assert facts(drawn.folder)["um_per_px"] == um_per_px
        with Image.open(drawn.folder / "student_probability.png") as image:
            sizes.append(image.size)
    assert sizes[0][0] - sizes[1][0] > 400  # 1024 px and 512 px of slide, and margins that grow with it


def test_without_its_file_a_slide_still_has_tiles_and_regions(made, tmp_path):
    (drawn,) = run_heatmap(made.run, Sources(), Choice(), slide_ids=["shifted"], out=tmp_path)
    assert "give --manifest, --slides-dir or --slide" in drawn.problem
    assert drawn.files == ("tiles.geojson", "student_probability.regions.geojson", "student_probability.json")
    assert facts(drawn.folder)["problem"] == drawn.problem
    assert facts(drawn.folder)["um_per_px"] is None


def test_another_slide_of_that_name_is_refused(made, tmp_path):
    sources = Sources(slides=(made.rows[1].path,))
    (drawn,) = run_heatmap(made.run, sources, Choice(), slide_ids=["shifted"], out=tmp_path)
    assert "is not the file that was scored" in drawn.problem
    assert not list(drawn.folder.glob("*.png"))


def test_old_files_of_a_mapping_do_not_outlive_a_new_run(made, tmp_path):
    made.draw(tmp_path, Choice(um_per_px=4.0, tiff_um_per_px=4.0))
    (drawn,) = made.draw(tmp_path)
    assert not list(drawn.folder.glob("*.ome.tiff"))
    first = {path.name: path.read_bytes() for path in drawn.folder.iterdir()}
    made.draw(tmp_path)
    assert first == {path.name: path.read_bytes() for path in drawn.folder.iterdir()}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(um_per_px=0.1), r"--um-per-px 0.1: the slide has 0.5 um/px"),
        (Choice(tiff_um_per_px=0.4), r"--tiff-um-per-px 0.4: the slide has 0.5 um/px"),
        (Choice(um_per_px=1e6), "--um-per-px 1e+06: the whole slide is"),
        (Choice(tiff_um_per_px=1e6), "--tiff-um-per-px 1e+06: the whole slide is"),
        (Choice(mappings=("student_probability:tumor",)), "do not hold it; they hold: student_probability"),
    ],
)
def test_what_a_slide_cannot_give_is_told(made, tmp_path, choice, said):
    (drawn,) = made.draw(tmp_path, choice)
    assert drawn.files == ()
    assert said in drawn.problem


def test_a_picture_too_large_names_the_finest_that_fits(made, tmp_path, monkeypatch):
    monkeypatch.setattr("wsi_kd.steps.heatmap_pictures.MAX_PICTURE_PX", 100_000)
    (drawn,) = made.draw(tmp_path, Choice(um_per_px=0.5))
    assert "1024 x 768 pixels are too many" in drawn.problem
    fits = float(drawn.problem.split("; give ")[1].split()[0])
    assert fits == pytest.approx(0.5 * np.sqrt(1024 * 768 / 100_000), rel=0.01)
    (again,) = made.draw(tmp_path, Choice(um_per_px=fits))
    assert again.problem == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slide_ids": ["gone"]}, "no tile scores of gone; it holds those of "),
        ({"model": "weno/seed1"}, "--model weno/seed1: none of the run's: weno/seed0/fold0"),
        ({"choice": Choice(mappings=("attention",))}, "unknown heatmap mapping 'attention'; known: "),
        ({"choice": Choice(threshold=float("nan"))}, "--threshold nan: expected a finite number"),
        ({"choice": Choice(um_per_px=float("inf"))}, "--um-per-px inf: expected a finite number"),
        ({"choice": Choice(colormap="jet")}, "unknown colormap 'jet'; known: cividis, viridis"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_written(made, tmp_path, changes, said):
    with pytest.raises(BadInput, match=said):
        made.draw(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_tiles_outside_the_bounds_are_counted_and_all_outside_is_refused(made, tmp_path):
    target = scored_elsewhere(made, tmp_path / "some", [[2048, 1024], [0, 0]])
    (some,) = made.draw(tmp_path / "out", Choice(threshold=0.0, um_per_px=4.0), target=target)
    assert (some.outside, some.problem) == (1, "")
    assert facts(some.folder)["tiles_outside_bounds"] == 1
    assert len(features(some.folder / "tiles.geojson")) == 2
    target = scored_elsewhere(made, tmp_path / "none", [[0, 0], [100, 0]])
    (none,) = made.draw(tmp_path / "out", target=target)
    assert "none of its 2 tiles lies within the slide's bounds" in none.problem


def test_one_tile_alone_is_drawn(made, tmp_path):
    target = scored_elsewhere(made, tmp_path / "one", [[2304, 1280]])
    choice = Choice(mappings=("attention_percentile", "attention_raw"), threshold=-100.0, um_per_px=4.0)
    (one,) = made.draw(tmp_path / "out", choice, target=target)
    assert one.problem == ""
    (feature,) = features(one.folder / "attention_percentile.regions.geojson")
    assert feature["properties"]["mean"] == 50.0
    assert shapely.geometry.shape(feature["geometry"]).bounds[:2] == (256, 256)


def test_the_command_draws_a_run_by_its_manifest_and_says_what_is_missing(made, tmp_path, capsys):
    manifest = tmp_path / "slides.csv"
    lines = [f"{row.slide_id},{row.path}" for row in made.rows]
    manifest.write_text("\n".join(["slide_id,path", *lines]) + "\n")
    arguments = ["heatmap", str(made.run), "--out", str(tmp_path / "out")]
    assert run_command([*arguments, "--manifest", str(manifest), "--tiff", "--um-per-px", "2"]) == 0
    told = capsys.readouterr().out
    assert "student_probability.ome.tiff" in told
    for name in ("shifted", "plain"):
        assert (tmp_path / "out" / KEY / name / "student_probability.png").is_file()
    assert run_command([*arguments, "plain"]) == 3
    assert "plain: nobody said where its file is" in capsys.readouterr().err
    assert run_command([*arguments, "--mapping", "evidence"]) == 2
    assert "did you mean 'teacher_evidence'" in capsys.readouterr().err
    assert run_command(["heatmap", str(tmp_path)]) == 2
    assert "expected a run's results folder" in capsys.readouterr().err
