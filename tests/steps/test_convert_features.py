"""features convert, verify, merge and subset on drawn folders, as the command line runs them."""

import json
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import pytest
from given_features import LEVEL0_PX, draw_features, write_clam, write_stamp, write_trident

from wsi_kd.cli.app import run
from wsi_kd.core.files import file_hash, read_table
from wsi_kd.features.foreign_folders import find_foreign
from wsi_kd.features.store import read_features, write_features
from wsi_kd.settings.adopt import AdoptSettings
from wsi_kd.steps import convert as convert_step
from wsi_kd.steps.convert import JOURNAL, run_convert
from wsi_kd.steps.status import read_status

SLIDES = ("a", "b", "c")


@pytest.fixture
def job_dir(tmp_path) -> Path:
    for index, slide_id in enumerate(SLIDES):
        write_trident(tmp_path / "job_dir", slide_id, draw_features(index, positive=slide_id == "b"))
    return tmp_path / "job_dir"


def written(folder: Path) -> dict[str, tuple[int, str]]:
    """Inode and hash of every file: a file that was kept has both as before."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, file_hash(path)) for path in files}


def test_converting_again_keeps_what_fits_and_mends_what_does_not(job_dir, tmp_path):
    dest = tmp_path / "ours"
    assert run(["features", "convert", str(job_dir), str(dest)]) == 0
    first = written(dest)
    assert sorted(first) == ["a.h5", "b.h5", "c.h5", "status.csv", "status.csv.meta.json"]
    (dest / "b.h5").write_bytes(b"cut off")
    write_trident(job_dir, "c", draw_features(9))
    assert run(["features", "convert", str(job_dir), str(dest)]) == 0
    again = written(dest)
    assert again["a.h5"] == first["a.h5"]
    assert again["b.h5"][1] == first["b.h5"][1]
    assert again["c.h5"][1] != first["c.h5"][1]
    assert np.array_equal(read_features(dest / "c.h5").features, draw_features(9))


@pytest.mark.parametrize("to", ["clam", "clam_pt", "torchmil", "stamp", "trident"])
def test_an_export_goes_on_where_it_was_stopped(job_dir, tmp_path, to, monkeypatch):
    dest = tmp_path / to
    seen = []

    def stop_at_the_second(row):
        seen.append(row.slide_id)
        if len(seen) == 2:
            raise KeyboardInterrupt

    adopt = AdoptSettings(folder=job_dir)
    with monkeypatch.context() as patched:
        patched.setattr(convert_step, "slide_progress", lambda *_, **__: nullcontext(stop_at_the_second))
        with pytest.raises(KeyboardInterrupt):
            run_convert(adopt, dest, to=to)
    before = {name: found for name, found in written(dest).items() if not name.startswith(JOURNAL)}
    statuses = run_convert(adopt, dest, to=to)
    assert [row.status for row in statuses] == ["ok"] * 3
    after = written(dest)
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert [row["slide_id"] for row in read_table(dest / JOURNAL, remake="convert")] == list(SLIDES)
    spoiled = next(path for path in sorted(dest.rglob("a*")) if path.is_file())
    spoiled.write_bytes(b"changed")
    run_convert(adopt, dest, to=to)
    assert file_hash(spoiled) == after[str(spoiled.relative_to(dest))][1]


def test_every_slide_of_a_manifest_ends_in_a_status(job_dir, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text(
        "case_id,slide_id,label,slide_mpp\np,a.svs,normal,0.26\nq,b,tumor,\nr,absent,tumor,\n"
    )
    write_trident(job_dir, "b", draw_features(1)[:0])
    command = ["features", "convert", str(job_dir), str(tmp_path / "out")]
    assert run([*command, "--manifest", str(tmp_path / "labels.csv")]) == 0
    rows = {row.slide_id: row for row in read_status(tmp_path / "out/status.csv")}
    assert {name: row.status for name, row in rows.items()} == {
        "a": "ok",
        "b": "empty",
        "absent": "missing_features",
    }
    assert (rows["a"].slide_mpp, rows["a"].mpp_source) == (0.26, "override")
    assert read_features(tmp_path / "out/a.h5").tile_labels.tolist() == [0] * 12
    assert "not ok: b, absent" in capsys.readouterr().err
    to_clam = [*command[:-1], str(tmp_path / "clam"), "--to", "clam", "--json"]
    assert run([*to_clam, "--manifest", str(tmp_path / "labels.csv")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"ok": 1, "empty": 1, "missing_features": 1}
    assert sorted(path.name for path in (tmp_path / "clam/h5_files").iterdir()) == ["a.h5"]
    to_torchmil = [*command[:-1], str(tmp_path / "mil"), "--to", "torchmil"]
    assert run([*to_torchmil, "--manifest", str(tmp_path / "labels.csv")]) == 0
    assert np.load(tmp_path / "mil/labels/a.npy").tolist() == [0]
    assert np.load(tmp_path / "mil/inst_labels/a.npy").tolist() == [0] * 12  # a slide of the negative class


def test_stamp_without_a_resolution_says_what_to_give(tmp_path, capsys):
    write_stamp(tmp_path / "stamp", "s", draw_features(0))
    command = ["features", "convert", str(tmp_path / "stamp"), str(tmp_path / "out")]
    assert run(command) == 1
    assert "give the slide's um/px (column slide_mpp)" in capsys.readouterr().err
    assert read_status(tmp_path / "out/status.csv")[0].status == "missing_mpp"
    assert run([*command, "--slide-mpp", "0.5"]) == 0
    assert read_features(tmp_path / "out/s.h5").header["tile_level0_px"] == LEVEL0_PX / 2


def test_verify_tells_each_file_and_fails_over_one(job_dir, tmp_path, capsys):
    assert run(["features", "verify", str(job_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", "3"]
    assert "trident  12 x 6 float32" in lines[0]
    path = find_foreign(job_dir).slides["b"].path
    with h5py.File(path, "r+") as file:
        file["features"][4, 2] = np.nan
    assert run(["features", "verify", str(job_dir)]) == 1
    told = capsys.readouterr()
    assert "WRONG" in told.out
    assert "1 tile(s) are not finite (first: tile 4)" in told.out
    assert "1 of 3 files are wrong" in told.err


def test_verify_checks_every_byte_of_ours_and_the_tables(job_dir, tmp_path, capsys):
    dest = tmp_path / "ours"
    run(["features", "convert", str(job_dir), str(dest)])
    assert run(["features", "verify", str(dest)]) == 0
    content = bytearray((dest / "a.h5").read_bytes())
    content[-3] ^= 1
    (dest / "a.h5").write_bytes(content)
    with (dest / "status.csv").open("a") as handle:
        handle.write("more,ok,,adopt,1,0,0,,0\n")
    capsys.readouterr()
    assert run(["features", "verify", "--json", str(dest)]) == 1
    files = json.loads(capsys.readouterr().out)["files"]
    wrong = {Path(found["path"]).name: found["faults"][0] for found in files if found["faults"]}
    assert set(wrong) == {"a.h5", "status.csv"}
    assert all("changed or damaged since it was written" in fault for fault in wrong.values())


def test_verify_tells_slides_that_cannot_be_trained_on_together(job_dir, tmp_path, capsys):
    write_clam(tmp_path / "clam", "d", draw_features(1))
    assert run(["features", "verify", str(job_dir), str(tmp_path / "clam")]) == 1
    told = capsys.readouterr()
    assert "encoder: given:uni_v1 (3 files), given:unknown (1 files)" in told.out
    assert "differ in encoder, tile_px, tile_mpp" in told.err


@pytest.fixture
def two_sites(job_dir, tmp_path) -> tuple[Path, Path]:
    sites = tmp_path / "north", tmp_path / "south"
    run(["features", "convert", str(job_dir), str(sites[0])])
    write_trident(tmp_path / "more", "d", draw_features(7))
    run(["features", "convert", str(tmp_path / "more"), str(sites[1])])
    return sites


def test_merge_joins_sites_byte_for_byte(two_sites, tmp_path):
    out = tmp_path / "all"
    command = ["features", "merge", *map(str, two_sites), "--out", str(out)]
    assert run(command) == 0
    assert [row.slide_id for row in read_status(out / "status.csv")] == ["a", "b", "c", "d"]
    assert (out / "d.h5").read_bytes() == (two_sites[1] / "d.h5").read_bytes()
    inode = (out / "a.h5").stat().st_ino
    assert run(command) == 0
    assert (out / "a.h5").stat().st_ino == inode


def test_merge_refuses_before_it_writes(two_sites, tmp_path, capsys):
    out = tmp_path / "all"
    assert run(["features", "merge", str(two_sites[0]), str(two_sites[0]), "--out", str(out)]) == 2
    assert "3 slides stand in two folders: a (" in capsys.readouterr().err
    other = read_features(two_sites[1] / "d.h5")
    write_features(two_sites[1] / "d.h5", other._replace(header={**other.header, "tile_mpp": 0.25}))
    assert run(["features", "merge", *map(str, two_sites), "--out", str(out)]) == 2
    assert "tile_mpp 0.25 instead of 0.5" in capsys.readouterr().err
    write_clam(tmp_path / "clam", "e", draw_features(1))
    assert run(["features", "merge", str(two_sites[0]), str(tmp_path / "clam"), "--out", str(out)]) == 2
    assert "convert them first with: wsi-kd features convert" in capsys.readouterr().err
    assert not out.exists()


def test_subset_by_slides_box_and_number(two_sites, tmp_path, capsys):
    source = str(two_sites[0])
    (tmp_path / "ids.csv").write_text("slide_id\na.svs\nc\n")
    by_box = ["--manifest", str(tmp_path / "ids.csv"), "--box-level0-px", "0", "0", "1024", "1024"]
    assert run(["features", "subset", source, str(tmp_path / "box"), *by_box]) == 0
    assert sorted(path.name for path in (tmp_path / "box").glob("*.h5")) == ["a.h5", "c.h5"]
    found = read_features(tmp_path / "box/a.h5")
    assert found.coords.tolist() == [[0, 0], [512, 0], [0, 512], [512, 512]]
    assert np.array_equal(found.features, draw_features(0)[[0, 1, 4, 5]])
    drawn = ["features", "subset", source, str(tmp_path / "few"), "--max-tiles", "5"]
    assert run(drawn) == 0
    few = read_features(tmp_path / "few/b.h5")
    assert len(few.coords) == 5
    assert np.array_equal(np.lexsort((few.coords[:, 0], few.coords[:, 1])), np.arange(5))
    before = written(tmp_path / "few")["b.h5"]
    assert run(drawn) == 0
    assert written(tmp_path / "few")["b.h5"] == before
    assert run([*drawn, "--seed", "1"]) == 0
    assert written(tmp_path / "few")["b.h5"] != before


def test_subset_refuses_what_it_cannot_know_and_says_what_is_left_empty(two_sites, tmp_path, capsys):
    source, dest = str(two_sites[0]), str(tmp_path / "out")
    assert run(["features", "subset", source, dest, "--slide-id", "a", "--slide-id", "zz"]) == 2
    assert "no features of 1 slides: zz" in capsys.readouterr().err
    assert run(["features", "subset", source, dest, "--min-tissue-fraction", "0.5"]) == 2
    assert "share of tissue of its tiles is not known" in capsys.readouterr().err
    assert run(["features", "subset", source, dest, "--box-level0-px", "9000", "0", "9001", "1"]) == 1
    assert {row.status for row in read_status(Path(dest) / "status.csv")} == {"too_few_tiles"}


def test_a_subset_never_takes_the_place_of_what_it_was_cut_from(two_sites, capsys):
    before = written(two_sites[0])
    assert run(["features", "subset", str(two_sites[0]), str(two_sites[0]), "--max-tiles", "2"]) == 2
    assert "source and destination are one folder" in capsys.readouterr().err
    assert written(two_sites[0]) == before


def test_merge_refuses_slides_that_nobody_compared(two_sites, tmp_path, capsys):
    """A former merge of other sites may have left slides of another encoder."""
    out = tmp_path / "all"
    assert run(["features", "merge", str(two_sites[1]), "--out", str(out)]) == 0
    assert run(["features", "merge", str(two_sites[0]), "--out", str(out)]) == 2
    assert "holds 1 other slides: d; name an empty folder" in capsys.readouterr().err
    assert sorted(path.name for path in out.glob("*.h5")) == ["d.h5"]
