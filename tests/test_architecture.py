"""What linters cannot hold: sizes, names, how files are written, what `--help` loads, that one word means one thing."""

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
STEPS = ("mask", "tile", "embed", "split", "train", "predict", "evaluate", "report")
HEAVY = ("torch", "torchvision", "sklearn", "cv2", "matplotlib", "timm", "openslide", "h5py", "scipy", "snakemake")
FORBIDDEN_FILES = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}
FORBIDDEN_WORDS = {"wsi", "wsis", "patch", "patches", "feats", "xy", "att", "gt", "preds", "trainer", "runner", "backbone"}
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
WRITING_METHODS = {"write_text", "write_bytes", "savefig", "tofile", "to_csv", "imwrite", "TiffWriter", "save_file"}
WRITING_FUNCTIONS = {"np.save", "np.savez", "np.savez_compressed", "np.savetxt", "json.dump", "shutil.copy", "shutil.move"}
PUBLISHERS = {"publish"}


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
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
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
                node.arg if isinstance(node, ast.arg)
                else node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                else node.name if isinstance(node, ast.FunctionDef | ast.ClassDef)
                else ""
            )
            parts = re.findall(r"[A-Z]?[a-z0-9]+", bound)
            if {part.lower() for part in parts} & FORBIDDEN_WORDS:
                found.add(f"{name}: {bound}")
    assert sorted(found) == []


def test_package_files_that_only_name_a_folder_are_empty() -> None:
    allowed = {ROOT / "wsi_kd/__init__.py", ROOT / "wsi_kd/kd/__init__.py"}
    full = [named(path) for path in PACKAGE if path.name == "__init__.py" and path not in allowed and path.read_text()]
    assert full == []


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def writes(node: ast.Call) -> bool:
    """Whether a call may create or change a file."""
    name = called(node)
    method = name.rsplit(".", 1)[-1]
    arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in {"mode", None})]
    modes = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
    opens_to_write = any(isinstance(mode, str) and re.fullmatch(r"[rwaxbt+]{1,3}", mode) and set(mode) & set("wax+") for mode in modes)
    if method == "open" or name.endswith(("h5py.File", "ZipFile")):
        return bool(opens_to_write)
    return method in WRITING_METHODS or name in WRITING_FUNCTIONS


def into_memory(node: ast.Call) -> bool:
    """Whether the call writes to a buffer in memory (named so by convention)."""
    return bool(node.args) and ast.unparse(node.args[0]) in {"buffer", "page"}


def unpublished_writes(tree: ast.AST) -> list[int]:
    """Lines that write outside of a `with publish(...)` block and not to a parameter named `temporary`."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call) and called(item.context_expr) in PUBLISHERS for item in node.items
        ):
            inside.update(ast.walk(node))
        if isinstance(node, ast.FunctionDef) and "temporary" in {argument.arg for argument in node.args.args}:
            inside.update(ast.walk(node))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and writes(node) and node not in inside and not into_memory(node)
    ]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.write_text('x')", [1]),
        ("open(path, 'w')", [1]),
        ("path.open(mode='a')", [1]),
        ("h5py.File(path, 'r+')", [1]),
        ("np.save(path, array)", [1]),
        ("with publish(path) as temporary:\n    temporary.write_text('x')", []),
        ("def write(temporary):\n    h5py.File(temporary, 'w')", []),
        ("path.open('rb')", []),
        ("figure.savefig(buffer)", []),
    ],
)
def test_the_rule_on_writing_sees_what_it_should(source: str, lines: list[int]) -> None:
    assert unpublished_writes(ast.parse(source)) == lines


def test_files_are_only_written_through_publish() -> None:
    found = {name: lines for name, tree in trees(PACKAGE) if (lines := unpublished_writes(tree))}
    assert found == {}


def test_temporary_paths_come_from_publish() -> None:
    """`temporary` is the path that publish yields, and nothing else is called so outside core/files.py."""
    found = []
    for name, tree in trees(PACKAGE):
        assigned = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and "temporary" in {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        ]
        found += [f"{name}:{line}" for line in assigned if name != "wsi_kd/core/files.py"]
    assert found == []


def test_nothing_unpickles_or_evaluates() -> None:
    found = []
    for name, tree in trees(PACKAGE):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name.split(".")[0] for alias in node.names}
                modules |= {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()
                if modules & UNPICKLING:
                    found.append(f"{name}:{node.lineno}: imports {sorted(modules & UNPICKLING)}")
            if isinstance(node, ast.Call) and unsafe(node):
                found.append(f"{name}:{node.lineno}: {called(node)}")
    assert found == []


def unsafe(node: ast.Call) -> bool:
    """Whether a call can run code that its input holds."""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    name = called(node)
    if name == "torch.load":
        return keywords.get("weights_only") != "True"
    if name in {"np.load", "numpy.load"}:
        return keywords.get("allow_pickle", "False") != "False"
    return name in {"yaml.load", "yaml.unsafe_load", "eval", "exec", "os.system"} or keywords.get("shell") == "True"


@pytest.mark.parametrize("arguments", [["--help"], ["mask", "--help"], ["infer", "--help"], ["config", "schema"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from wsi_kd.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    code, loaded = json.loads(done.stderr)
    assert code == 0
    assert done.stdout
    assert sorted(set(HEAVY) & set(loaded)) == []


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
