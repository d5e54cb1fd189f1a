"""Where a heatmap is written follows from ids that come with the scores: none may lead anywhere else."""

from pathlib import Path

import pytest
from viewed_runs import said, tiles_at, write_answer, write_model

from wsi_kd.cli.app import run as run_command
from wsi_kd.core.errors import BadInput
from wsi_kd.steps.heatmap import run_heatmap
from wsi_kd.steps.heatmap_files import Choice
from wsi_kd.steps.heatmap_sources import collect_drawn
from wsi_kd.steps.known_slides import Sources

FRAME = {"slide_file": "P1.tiff", "slide_mpp": 0.5, "bounds": [0, 0, 2048, 1024]}


def drawn(target: Path, *slide_ids: str):
    return collect_drawn(target, Sources(), slide_ids=slide_ids, model="")


@pytest.mark.parametrize("slide_id", ["../../evil", "/tmp/evil", "..", "a\\b", "", "-o"])
def test_an_answer_whose_slide_id_leads_elsewhere_is_refused(tmp_path: Path, slide_id: str) -> None:
    """Its hash is right: whoever made the folder wants a heatmap written over a file of another one."""
    for given in ("P1", slide_id):
        write_answer(tmp_path / f"answers/{bool(given == 'P1')}", given, slide=FRAME)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match=r"answers: the slide id .* no wsi-kd gave it that name"):
        run_heatmap(tmp_path / "answers", Sources(), Choice())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_of_a_run_named_for_the_folder_above_is_refused(tmp_path: Path) -> None:
    model = "weno/seed0/fold0"
    write_model(tmp_path, model, [said("..", student=0.5)], {"..": tiles_at([(0, 0)], student=[0.5])})
    with pytest.raises(BadInput, match=r"the slide id '\.\.' starts with '\.'"):
        drawn(tmp_path)


def test_two_answers_on_one_slide_do_not_take_each_others_place(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_answer(tmp_path / name, "P1", slide=FRAME)
    with pytest.raises(BadInput, match="two answers on slide P1; draw them in a folder each"):
        drawn(tmp_path)
    assert [one.folder for one in drawn(tmp_path / "first").slides] == [Path()]


@pytest.mark.parametrize("slide_mpp", [0.0, -0.5])
def test_a_resolution_that_is_none_is_told(tmp_path: Path, slide_mpp: float) -> None:
    write_answer(tmp_path, "P1", slide={**FRAME, "slide_mpp": slide_mpp})
    (made,) = run_heatmap(tmp_path, Sources(), Choice())
    assert (made.files, made.problem.partition(";")[0]) == ((), "its resolution is unknown")


def test_a_slide_whose_frame_is_lost_does_not_stop_the_others(tmp_path: Path) -> None:
    model, tables = "weno/seed0/fold0", {name: tiles_at([(0, 0)], student=[0.5]) for name in ("a", "b")}
    write_model(tmp_path, model, [said(name, student=0.5) for name in tables], tables)
    (tmp_path / "tiles").mkdir()
    (tmp_path / "tiles" / "b.h5").write_text("damaged")
    first, second = run_heatmap(tmp_path, Sources(), Choice())
    assert (first.slide_id, first.files, "tiles/a.h5: no such file" in first.problem) == ("a", (), True)
    assert (second.slide_id, second.files, "not written by wsi-kd" in second.problem) == ("b", (), True)
    assert not (tmp_path / "heatmaps").exists()
    assert run_command(["heatmap", str(tmp_path)]) == 3
    assert run_command(["heatmap", str(tmp_path), "a"]) == 2
