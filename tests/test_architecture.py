"""What linters cannot hold: sizes, names, one word for one thing, what `--help` loads."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsi_kd.cli.app import run
from wsi_kd.settings.all import Settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "wsi_kd").rglob("*.py"))
SOURCES = [*PACKAGE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_POSITIONAL = 3
STEPS = ("mask", "tile", "stain", "embed", "adopt", "qc", "split", "train", "predict", "evaluate", "report")
HEAVY = (
    "torch",
    "torchvision",
    "sklearn",
    "cv2",
    "matplotlib",
    "timm",
    "openslide",
    "h5py",
    "scipy",
    "snakemake",
    "huggingface_hub",
)
FORBIDDEN_FILES = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}
FORBIDDEN_WORDS = {
    "wsi",
    "wsis",
    "patch",
    "patches",
    "feats",
    "att",
    "gt",
    "preds",
    "trainer",
    "runner",
    "backbone",
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def trees(paths: list[Path]) -> Iterator[tuple[str, ast.Module]]:
    for path in paths:
        yield named(path), ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, its docstring not counted."""
    last = function.end_lineno or function.lineno
    first = function.body[0]
    docstring = 0
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        docstring = (first.end_lineno or first.lineno) - first.lineno + 1
    return last - function.lineno + 1 - docstring


def test_files_are_short() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    long = {
        f"{name}:{function.name}": code_lines(function)
        for name, tree in trees(SOURCES)
        for function in functions(tree)
        if code_lines(function) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_functions_take_few_positional_parameters() -> None:
    many = {}
    for name, tree in trees(PACKAGE):
        for function in functions(tree):
            parameters = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
            positional = [parameter for parameter in parameters if parameter not in {"self", "cls"}]
            if len(positional) > MAX_POSITIONAL:
                many[f"{name}:{function.name}"] = positional
    assert many == {}


def test_no_file_is_a_drawer() -> None:
    names = [path for path in SOURCES if {path.stem, *path.relative_to(ROOT).parts} & FORBIDDEN_FILES]
    assert [named(path) for path in names] == []


def test_one_word_for_one_thing() -> None:
    """Parameters, variables, functions and classes use the words of docs/architecture.md."""
    found = set()
    for name, tree in trees(PACKAGE):
        for node in ast.walk(tree):
            bound = (
                node.arg
                if isinstance(node, ast.arg)
                else node.id
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                else node.name
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
                else ""
            )
            parts = re.findall(r"[A-Z]?[a-z0-9]+", bound.replace("WsiKd", ""))
            if {part.lower() for part in parts} & FORBIDDEN_WORDS:
                found.add(f"{name}: {bound}")
    assert sorted(found) == []


def test_package_files_hold_no_code() -> None:
    """An `__init__.py` is a docstring at most; the package's holds the version, kd's its public names."""
    allowed = {"wsi_kd/__init__.py", "wsi_kd/kd/__init__.py"}
    packages = [path for path in PACKAGE if path.name == "__init__.py" and named(path) not in allowed]
    full = [
        name
        for name, tree in trees(packages)
        if any(
            not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body
        )
    ]
    assert full == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["mask", "--help"], ["infer", "--help"], ["config", "schema"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from wsi_kd.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    code, loaded = json.loads(done.stderr)
    assert code == 0
    assert done.stdout
    assert sorted(set(HEAVY) & set(loaded)) == []


def test_training_and_scoring_load_no_slide_reader_and_no_scikit_learn() -> None:
    """Each of a run's models has a job of its own, which paid more than a second for them."""
    program = "import sys, wsi_kd.steps.train, wsi_kd.steps.predict; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300
    )
    loaded = set(done.stdout.split())
    assert {"torch", "h5py"} <= loaded
    assert sorted({"sklearn", "scipy.stats", "cv2", "openslide", "matplotlib"} & loaded) == []


@pytest.mark.parametrize("step", STEPS)
def test_rule_command_step_and_section_share_a_name(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert re.search(rf"^rule {step}:$", rules, re.MULTILINE)
    assert f'"wsi-kd {step} ' in rules
    assert (ROOT / f"wsi_kd/steps/{step}.py").is_file()
    assert step in Settings.model_fields
    assert run([step, "--help"]) == 0
    assert "--settings" in capsys.readouterr().out


def test_rules_hold_no_logic() -> None:
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        assert re.search(r"^\s+(run|script):", path.read_text(), re.MULTILINE) is None
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 30
