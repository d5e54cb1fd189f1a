"""The static export: one slide, its size told before, written as a whole or not at all."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from viewed_runs import no_nan, open_viewer, said, tiles_at, write_manifest, write_model

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.steps import view_export
from wsi_kd.steps.known_slides import Sources
from wsi_kd.steps.view import collect_viewed
from wsi_kd.steps.view_export import ExportChoice, export_slide
from wsi_kd.steps.viewed_run import view_run
from wsi_kd.viewer.desk import Desk
from wsi_kd.viewer.export import MARK, plan_export, write_export

MODEL = "weno/seed0/fold0"
STATIC = Path(__file__).parents[2] / "wsi_kd/viewer/static"


@pytest.fixture(scope="module")
def viewed(tmp_path_factory, synthetic_slide):
    root = tmp_path_factory.mktemp("exported")
    bounds, damaged = synthetic_slide("bounds"), synthetic_slide("damaged_tiles")
    lines = [
        ("other", str(damaged.path), "tumor", ""),
        ("bounds", str(bounds.path), "tumor", str(bounds.annotation)),
        ("lost", "nowhere.svs", "normal", ""),
    ]
    write_manifest(root / "slides.csv", lines)
    rows = [said("bounds", label="tumor", student=0.75, call="tumor"), said("other", label="tumor")]
    write_model(root, MODEL, rows, {"bounds": tiles_at([(2048, 1024)], student=[float("nan")])})
    return view_run(root, sheet=read_rows(root / "slides.csv", slides_dir=None), title="run")


def data_of(folder: Path):
    content = (folder / "data.js").read_bytes()
    assert content.startswith(MARK)
    assert content.endswith(b";\n")
    assert content.isascii()
    assert b"<" not in content
    return json.loads(content[len(MARK) : -2])


def choice(slide_id="bounds", *, um_per_px=1.0):
    return ExportChoice(slide_id, um_per_px, show_labels=False)


def test_the_folder_holds_the_page_its_data_and_every_tile(viewed, tmp_path: Path) -> None:
    """At 1 um/px of a slide with 0.5: 512 x 384 pixels, six tiles at the finest level, 16 in all."""
    folder, plans = tmp_path / "out", []
    done = export_slide(viewed, folder, choice(), on_plan=plans.append)
    assert (done.tiles, done.damaged, plans[0].um_per_px, plans[0].max_level) == (16, 0, 1.0, 9)
    assert sorted(path.name for path in folder.iterdir()) == ["data.js", "index.html", "static", "tiles"]
    tiles = sorted(path.relative_to(folder / "tiles").as_posix() for path in folder.rglob("tiles/*/*.jpg"))
    assert len(tiles) == 16
    assert [tile for tile in tiles if tile.startswith("9/")] == [
        f"9/{column}_{row}.jpg" for column in range(3) for row in range(2)
    ]
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert done.size_bytes == total
    assert abs(math.log2(plans[0].size_bytes / total)) < 1


def test_tiles_and_scores_are_those_of_the_server(viewed, tmp_path: Path) -> None:
    export_slide(viewed, tmp_path / "out", choice(um_per_px=0.0))
    client, data = open_viewer(viewed), data_of(tmp_path / "out")
    for address in ("10/4_3", "9/1_1", "0/0_0"):
        exported = (tmp_path / "out" / "tiles" / f"{address}.jpg").read_bytes()
        assert exported == client.get(f"/dzi/1/{address}.jpg").content
    assert data["scores"] == {MODEL: client.get("/api/slides/1/scores", params={"model": MODEL}).json()}
    assert data["slide"] == client.get("/api/slides/1").json()
    assert data["annotations"] == client.get("/api/slides/1/annotations").json()
    assert data["scores"][MODEL]["mappings"][0]["values"] == [None]
    assert no_nan(data)


def test_only_one_slide_leaves_the_house(viewed, tmp_path: Path) -> None:
    export_slide(viewed, tmp_path / "out", choice())
    data = data_of(tmp_path / "out")
    assert [slide["slide_id"] for slide in data["slides"]] == ["bounds"]
    assert data["slides"][0]["index"] == 0
    assert (data["run"]["report"], data["slide"]["max_level"], data["slide"]["full_level"]) == (False, 9, 10)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.js"))
    assert b"other" not in (tmp_path / "out" / "data.js").read_bytes()
    assert str(viewed.root).encode() not in everything


def test_an_export_promises_no_report(viewed, tmp_path: Path) -> None:
    shown = viewed._replace(report=tmp_path / "index.html")
    export_slide(shown, tmp_path / "out", choice(um_per_px=4.0))
    assert data_of(tmp_path / "out")["run"]["report"] is False


def test_the_page_is_the_servers_but_for_its_source(viewed, tmp_path: Path) -> None:
    export_slide(viewed, tmp_path / "out", choice())
    page = (tmp_path / "out" / "index.html").read_bytes()
    assert (
        page.replace(b'data-source="export"', b'data-source="http"') == (STATIC / "index.html").read_bytes()
    )
    assert page.count(b'data-source="export"') == 1
    for path in (tmp_path / "out" / "static").iterdir():
        assert path.read_bytes() == (STATIC / path.name).read_bytes()


def test_damaged_tiles_are_counted(viewed, tmp_path: Path) -> None:
    done = export_slide(viewed, tmp_path / "out", choice("other", um_per_px=0.0))
    assert done.damaged > 0
    tile = Image.open(io.BytesIO((tmp_path / "out/tiles/10/1_1.jpg").read_bytes()))
    assert np.ptp(np.asarray(tile)) == 0


@pytest.mark.parametrize(
    ("um_per_px", "level"), [(0.0, 10), (0.3, 10), (0.5, 10), (0.99, 10), (1.0, 9), (3.9, 8), (1e6, 0)]
)
def test_the_finest_level_is_at_least_as_fine_as_asked_for(viewed, um_per_px: float, level: int) -> None:
    desk = Desk(viewed, show_labels=False)
    plan = plan_export(desk, 1, um_per_px=um_per_px)
    desk.close()
    assert plan.max_level == level
    assert plan.um_per_px == 0.5 * 2 ** (10 - level)


def test_a_former_export_is_replaced_and_anything_else_is_not(viewed, tmp_path: Path) -> None:
    export_slide(viewed, tmp_path / "out", choice(um_per_px=0.0))
    export_slide(viewed, tmp_path / "out", choice(um_per_px=2.0))
    assert not (tmp_path / "out/tiles/10").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for folder in (tmp_path / "mine", tmp_path / "file", viewed.root):
        if folder.name == "mine":
            folder.mkdir()
            (folder / "thesis.txt").write_text("kept")
        elif folder.name == "file":
            folder.write_text("kept")
        with pytest.raises(BadInput, match="is no former export"):
            export_slide(viewed, folder, choice())
    desk = Desk(viewed, show_labels=False)
    with pytest.raises(BadInput, match="is no former export"):
        write_export(desk, plan_export(desk, 1, um_per_px=0.0), tmp_path / "mine", threads=1, on_tile=print)
    desk.close()
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "kept"


def test_what_somebody_put_beside_an_export_is_not_lost(viewed, tmp_path: Path) -> None:
    export_slide(viewed, tmp_path / "out", choice(um_per_px=2.0))
    (tmp_path / "out" / "notes.txt").write_text("kept")
    with pytest.raises(BadInput, match=r"holds notes\.txt beside a former export"):
        export_slide(viewed, tmp_path / "out", choice())
    assert (tmp_path / "out" / "notes.txt").read_text() == "kept"


def test_a_link_to_an_empty_folder_is_followed(viewed, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export_slide(viewed, tmp_path / "link", choice(um_per_px=2.0))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "data.js").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("folder", [".", ".."])
def test_nobody_is_left_in_a_folder_that_is_gone(viewed, tmp_path: Path, monkeypatch, folder: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(BadInput, match="you stand in it"):
        export_slide(viewed, Path(folder), choice())
    assert list((tmp_path / "here").iterdir()) == []


def test_an_export_that_fails_leaves_the_former_one(viewed, tmp_path: Path, monkeypatch) -> None:
    export_slide(viewed, tmp_path / "out", choice(um_per_px=2.0))
    before = sorted(path.name for path in (tmp_path / "out").rglob("*"))
    write, count = Path.write_bytes, 0

    def full_after_three(path: Path, content: bytes) -> int:
        nonlocal count
        count += path.suffix == ".jpg"
        if count > 3:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full_after_three)
    with pytest.raises(RunFailed, match="no space left"):
        export_slide(viewed, tmp_path / "out", choice(um_per_px=0.0))
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_will_not_fit_is_refused_before(viewed, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(view_export.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(RunFailed, match=r"0 MB are free; free space, or choose a coarser --um-per-px"):
        export_slide(viewed, tmp_path / "out", choice())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("slide_id", "told"),
    [
        ("lost", r"lost: nowhere\.svs: cannot be opened"),
        ("", r"3 slides: other, bounds, lost; name one with --slide-id"),
        ("../x", r"--slide-id '\.\./x' is none of them"),
    ],
)
def test_slides_that_cannot_be_exported(viewed, tmp_path: Path, slide_id: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        export_slide(viewed, tmp_path / "out", choice(slide_id))
    assert not (tmp_path / "out").exists()


def test_a_limit_needs_a_resolution(synthetic_slide, tmp_path: Path) -> None:
    slide = synthetic_slide("missing_mpp").path
    viewed = collect_viewed(slide, Sources())
    with pytest.raises(BadInput, match="its resolution is unknown; give it with --slide-mpp"):
        export_slide(viewed, tmp_path / "out", choice("missing_mpp"))
    told = collect_viewed(slide, Sources(slide_mpp=0.25))
    export_slide(told, tmp_path / "out", choice("", um_per_px=4.0))
    assert data_of(tmp_path / "out")["slide"]["max_level"] == 10 - 4
