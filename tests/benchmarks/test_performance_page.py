from pathlib import Path

import pytest

from bench_record import bench_record, command_line, measured_table
from performance_page import blocks_of, faults, filled, main
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = """# Speed

Before.

<!-- table: reading/ways -->
<!-- end -->

Between.

<!-- table: training/steps -->
what was there
<!-- end -->
"""


@pytest.fixture
def folder(tmp_path):
    ways = measured_table(
        {"way": "", "tiles/s": ",.0f", "of the limit": ".2f"},
        [("ours | plain", 4608.2, 0.8951), ("cuCIM", None, None)],
    )
    publish_json(tmp_path / "bench" / "reading.json", drawn_record(ways))
    return tmp_path / "bench"


def drawn_record(ways):
    record = bench_record("reading", {"turns": 3}, tables={"ways": ways}, blocks=[1])
    return {
        **record,
        "machine": {"cpu": "A CPU", "cores": 2, "gpu": "NVIDIA H200"},
        "command": "python benchmarks/reading.py --turns 3",
        "versions": {"torch": "2.13.0"},
    }


def test_a_table_is_filled_from_its_json_and_the_rest_stays(folder):
    text, absent = filled(PAGE, folder)
    expected = [
        "| way | tiles/s | of the limit |",
        "| --- | ---: | ---: |",
        "| ours \\| plain | 4,608 | 0.90 |",
        "| cuCIM | - | - |",
        "",
        "`python benchmarks/reading.py --turns 3`; A CPU, 2 cores, NVIDIA H200; torch 2.13.0",
    ]
    assert text.splitlines()[6:12] == expected
    assert text.splitlines()[:5] == PAGE.splitlines()[:5]
    assert text.endswith("Between.\n\n<!-- table: training/steps -->\nwhat was there\n<!-- end -->\n")
    assert absent == [f"training/steps: no {folder}/training.json; the table stays as it is"]


def test_filling_twice_changes_nothing_and_new_figures_replace_old_ones(folder):
    once, _ = filled(PAGE, folder)
    assert filled(once, folder)[0] == once
    publish_json(
        folder / "reading.json", drawn_record(measured_table({"way": "", "s": ".1f"}, [("ours", 0.25)]))
    )
    again, _ = filled(once, folder)
    assert "| ours | 0.2 |" in again
    assert "4,608" not in again


def test_the_check_sees_a_typed_figure_with_the_json_and_without_it(folder):
    text, _ = filled(PAGE.replace("what was there\n", ""), folder)
    assert faults(text, folder) == []
    typed = text.replace("4,608", "9,999")
    assert faults(typed, folder) == ["reading/ways: changed by hand"]
    (folder / "reading.json").unlink()
    assert faults(text, folder) == []
    assert faults(typed, folder) == ["reading/ways: changed by hand"]
    assert faults(PAGE, folder) == ["training/steps: changed by hand"]


def test_the_check_sees_a_page_older_than_its_json(folder):
    text, _ = filled(PAGE.replace("what was there\n", ""), folder)
    publish_json(folder / "reading.json", drawn_record(measured_table({"way": ""}, [("new",)])))
    assert faults(text, folder) == [f"reading/ways: not what {folder}/reading.json says"]


def test_the_command_fills_checks_and_tells(folder, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("what was there\n", ""))
    given = ["--page", str(page), "--folder", str(folder)]
    assert main(given) == 0
    assert "page.md: filled" in capsys.readouterr().out
    assert main([*given, "--check"]) == 0
    page.write_text(page.read_text().replace("0.90", "0.99"))
    assert main([*given, "--check"]) == 1
    assert "reading/ways: changed by hand" in capsys.readouterr().out
    assert main(given) == 0
    assert "0.99" not in page.read_text()


def test_quick_figures_go_to_a_page_of_their_own(folder, tmp_path):
    page, out = tmp_path / "page.md", tmp_path / "quick" / "page.md"
    page.write_text(PAGE)
    assert main(["--page", str(page), "--folder", str(folder), "--out", str(out)]) == 0
    assert page.read_text() == PAGE
    assert "| ours \\| plain | 4,608 | 0.90 |" in out.read_text()


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<!-- table: a/b -->\n", "line 1: a table that is not ended; add the line <!-- end -->"),
        ("x\n<!-- end -->\n", "line 2: <!-- end --> without its partner; each table has both comments"),
        (
            "<!-- table: a/b -->\n<!-- table: a/c -->\n<!-- end -->",
            "line 2: <!-- table: a/c --> without its partner; each table has both comments",
        ),
    ],
)
def test_a_comment_without_its_partner_is_told(page, told):
    with pytest.raises(BadInput) as caught:
        list(blocks_of(page.splitlines()))
    assert str(caught.value) == told


def test_a_table_that_the_json_has_not_is_told(folder, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: reading/other -->\n<!-- end -->\n")
    assert main(["--page", str(page), "--folder", str(folder)]) == 2
    assert "no table 'other'; it has: ways" in capsys.readouterr().err


def test_a_table_refuses_what_it_could_not_print():
    with pytest.raises(ValueError, match="a row has 1 cells, expected 2"):
        measured_table({"way": "", "s": ".1f"}, [("ours",)])
    with pytest.raises(ValueError, match=r"column 's': '\.q' formats no number"):
        measured_table({"s": ".q"}, [])


def test_the_command_is_told_as_it_is_typed_in_a_checkout(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    typed = ["benchmarks/train_step.py", "--json", "results/bench/a.json", "--out", "/scratch/me/out"]
    assert command_line(typed) == "OMP_NUM_THREADS=1 python benchmarks/train_step.py --out out"


def test_no_figure_of_the_documentation_was_typed():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert faults(page, ROOT / "no-such-folder") == []
