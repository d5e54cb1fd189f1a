"""`wsi-kd verify`: a whole run has no fault; each thing that is done to one is told, by its file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scored_runs import Run, features_of

from wsi_kd.cli.app import run as run_command
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, publish_table, read_json, read_table, sidecar
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.store import write_features
from wsi_kd.steps.status import read_status, write_status
from wsi_kd.steps.verify_run import verify_run

MODEL = Path("models/weno/seed0/fold0")
SCORES = Path("predictions/weno/seed0/fold0")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    """A run of one recipe and two folds that began with features; its last slide failed."""
    run = Run(tmp_path_factory.mktemp("verified") / "run")
    root = run.root
    rows = read_status(root / "status.csv")
    write_status(root / "features/chunk-0.csv", rows, stamp("status", {}))
    failed = features_of(run.rows[-1], 0, status="empty", reason="no tissue")
    nothing = failed._replace(
        features=failed.features[:0], coords=failed.coords[:0], tile_labels=failed.tile_labels[:0]
    )
    write_features(root / f"features/{rows[-1].slide_id}.h5", nothing)
    run.evaluate([run.predict("weno", fold=fold) for fold in (0, 1)])
    publish_json(root / "report/metrics.json", read_json(root / "evaluation/metrics.json", remake=""))
    (root / "report/index.html").write_text("<!doctype html>")
    (root / "logs").mkdir()
    (root / "logs/report.log").write_text("report: done\n")
    (root / "checked").touch()
    return run


@pytest.fixture
def root(made: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.root, tmp_path / "run"))


def test_a_whole_run_has_no_fault(made: Run, capsys) -> None:
    assert run_command(["verify", str(made.root)]) == 0
    shown = capsys.readouterr()
    assert (shown.err, shown.out.count("│ 0      │")) == ("", len(verify_run(made.root).checks))
    assert run_command(["verify", str(made.root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["faults"]) == (True, [])
    files = sum(path.is_file() for path in made.root.rglob("*"))
    counts = {check["what"]: check["files"] for check in told["checks"]}
    assert sum(counts.values()) == files
    assert (counts["features"], counts["weights"], counts["without a hash"]) == (24, 4, 3)


def flip(name: str) -> Callable[[Path], None]:
    """Turn one bit in the middle of a file."""

    def change(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        content[len(content) // 2] ^= 1
        (root / name).write_bytes(content)

    return change


def reword(name: str) -> Callable[[Path], None]:
    """Change a word of a JSON file, which stays JSON."""

    def change(root: Path) -> None:
        (root / name).write_text((root / name).read_text().replace("tumor", "tumour", 1))

    return change


def add(name: str, content: str = "x") -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)

    return change


def remove(*names: str) -> Callable[[Path], None]:
    return lambda root: [(root / name).unlink() for name in names] and None


def copy(source: str, target: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        shutil.copy(root / source, root / target)
        if (root / f"{source}.meta.json").is_file():
            shutil.copy(root / f"{source}.meta.json", root / f"{target}.meta.json")

    return change


def swap_features(root: Path) -> None:
    first, second, aside = (root / "features" / name for name in ("s0.h5", "s1.h5", "aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def rewrite(name: str, change: Callable[[list[dict[str, str]]], None]) -> Callable[[Path], None]:
    """Change rows of a table and sign it anew, as somebody would who knows how."""

    def rewritten(root: Path) -> None:
        rows = read_table(root / name, remake="")
        header = read_json(sidecar(root / name), remake="")
        change(rows)
        columns = list(rows[0])
        publish_table(root / name, columns, [[row[c] for c in columns] for row in rows], stamp=header)

    return rewritten


def other_model(root: Path) -> None:
    """Another seed's weights in the place of the model, header and all."""
    run = Run.__new__(Run)
    run.root, run.classes = root, ("normal", "tumor")
    folder = run.save_model("weno", fold=0, seed=7)
    for name in ("model.safetensors", "model.json"):
        shutil.copy(folder / name, root / MODEL / name)
    shutil.rmtree(root / "models/weno/seed7")


def other_metrics(root: Path) -> None:
    metrics = read_json(root / "report/metrics.json", remake="")
    metrics["recipes"]["weno"]["models"][0]["epoch"] += 1
    publish_json(root / "report/metrics.json", metrics)


def other_weights_evaluated(root: Path) -> None:
    for name in ("evaluation", "report"):
        metrics = read_json(root / name / "metrics.json", remake="")
        metrics["recipes"]["weno"]["models"][0]["weights_sha256"] = "0" * 64
        publish_json(root / name / "metrics.json", metrics)


def fail_one(root: Path) -> None:
    rows = read_status(root / "status.csv")
    broken = rows[3]._replace(status=SlideStatus.EMPTY, reason="says status.csv")
    write_status(root / "status.csv", [*rows[:3], broken, *rows[4:]], stamp("status", {}))


def in_two_parts(rows: list[dict[str, str]]) -> None:
    """s0 and s1 are of one case."""
    rows[0]["fold_0"] = "train" if rows[1]["fold_0"] != "train" else "test"


def new_score(rows: list[dict[str, str]]) -> None:
    """Of a test slide: those of the validation part are not pooled."""
    next(row for row in rows if row["part"] == "test")["teacher_probability"] = "0.123"


DONE = [
    ("features/s0.h5", "changed or damaged", flip("features/s0.h5")),
    (f"{MODEL}/model.safetensors", "sha256 differs", flip(f"{MODEL}/model.safetensors")),
    (f"{MODEL}/last.safetensors", "sha256 differs", flip(f"{MODEL}/last.safetensors")),
    (f"{SCORES}/predictions.csv", "sha256 differs", flip(f"{SCORES}/predictions.csv")),
    ("evaluation/metrics.json", "sha256 differs", reword("evaluation/metrics.json")),
    ("splits.csv", "sha256 differs", flip("splits.csv")),
    ("features/s1.h5", "absent, though a status table lists", remove("features/s1.h5")),
    ("features/.tmp-1@host-s1.h5", "killed", add("features/.tmp-1@host-s1.h5")),
    ("notes.txt", "no file of a run", add("notes.txt")),
    ("features/s1.geojson", "no file of a run", add("features/s1.geojson", "{}")),
    ("report/own.csv", "nothing says that it is whole", add("report/own.csv")),
    (f"{MODEL}/state.safetensors", "has not ended", add(f"{MODEL}/state.safetensors")),
    ("splits.csv", "no splits.csv.meta.json beside it", remove("splits.csv.meta.json")),
    ("status.csv.meta.json", "status.csv is not beside it", remove("status.csv")),
    ("features/s99.h5", "listed in no status table", copy("features/s0.h5", "features/s99.h5")),
    ("features/s0.h5", "holds slide 's1'", swap_features),
    ("features/chunk-1.csv", "in another table too", copy("features/chunk-0.csv", "features/chunk-1.csv")),
    ("status.csv", "slide 's3' is empty, its step said ok", fail_one),
    ("splits.csv", "fold 0 has cases in two parts: case0", rewrite("splits.csv", in_two_parts)),
    (f"{SCORES}/predictions.csv", "other weights than fold0/model.json", other_model),
    (f"{MODEL}/model.json", "absent, though its predictions", remove(f"{MODEL}/model.json")),
    ("evaluation/metrics.json", "evaluated other weights", other_weights_evaluated),
    ("evaluation/predictions.csv", "not the row of", rewrite("evaluation/predictions.csv", new_score)),
    ("evaluation/predictions.csv", "not the row of", rewrite(f"{SCORES}/predictions.csv", new_score)),
    ("report/metrics.json", "not the metrics of evaluation", other_metrics),
    ("report/index.html", "absent", remove("report/index.html")),
]


@pytest.mark.parametrize(("file", "told", "change"), DONE, ids=[f"{file}: {told}" for file, told, _ in DONE])
def test_what_was_done_to_a_run_is_told(root: Path, capsys, file: str, told: str, change) -> None:
    change(root)
    faults = verify_run(root).faults
    assert any(fault.file == file and told in fault.what for fault in faults), faults
    assert run_command(["verify", str(root)]) == 1
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if line and line[0] not in "┏┃┡│└"]
    assert lines == [f"{fault.file}: {fault.what}" for fault in faults]
    assert shown.err.count("\n") == 1
    assert f"{len(faults)} faults" in shown.err


def test_tables_of_tiles_belong_to_test_slides(root: Path) -> None:
    tables = sorted((root / SCORES / "tiles").glob("*.csv"))
    shutil.copy(tables[0], tables[0].with_name("s0.csv" if tables[0].name != "s0.csv" else "s1.csv"))
    sidecar(tables[1]).unlink()
    tables[1].unlink()
    faults = {fault.file.rsplit("/", 1)[1]: fault.what for fault in verify_run(root).faults}
    assert "absent, though it is a test slide" in faults[tables[1].name]
    assert sum("of no test slide" in what or "nothing says" in what for what in faults.values()) >= 1


def test_predictions_that_nobody_evaluated_and_models_without_any(root: Path) -> None:
    shutil.copytree(root / SCORES, root / "predictions/abmil/seed0/fold0")
    shutil.copytree(root / MODEL, root / "models/ins/seed0/fold0")
    faults = {fault.file: fault.what for fault in verify_run(root).faults}
    assert "was not evaluated" in faults["predictions/abmil/seed0/fold0/predictions.csv"]
    assert "absent, though the model is there" in faults["predictions/ins/seed0/fold0/predictions.csv"]


def test_a_link_is_no_file_of_a_run(root: Path) -> None:
    (root / "features" / "s0.h5").rename(root.parent / "elsewhere.h5")
    (root / "features" / "s0.h5").symlink_to(root.parent / "elsewhere.h5")
    assert ("features/s0.h5", "no file of a run; move it elsewhere") in verify_run(root).faults


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        verify_run(tmp_path / "gone")
    with pytest.raises(BadInput, match="no run's folder"):
        verify_run(tmp_path)
