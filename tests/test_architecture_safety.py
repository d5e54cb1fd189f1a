"""What no linter holds: files are written through core.files.publish, and none that is read can run code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "wsi_kd").rglob("*.py"))

UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
HARMLESS = {"UnpicklingError"}
"""What torch.load(weights_only=True) raises when a file would have to run code."""
EVALUATING = {"yaml.load", "yaml.unsafe_load", "eval", "exec", "os.system"}
WRITING_METHODS = {
    *("write_text", "write_bytes", "savefig", "tofile", "to_csv", "imwrite", "TiffWriter", "save_file"),
    *(
        "save",
        "savez",
        "savez_compressed",
        "savetxt",
        "dump",
        "copyfile",
        "copy2",
        "move",
        "rename",
        "replace_file",
    ),
}
PUBLISHING = {"publish", "publish_folder"}
"""What gives a temporary name, and the final one when all is written."""
IN_MEMORY = {"buffer", "page", "svg"}
"""What buffers in memory are called; a writer that fills one changes no file."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in PACKAGE:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def writes(node: ast.Call) -> bool:
    """Whether a call may create or change a file."""
    name = called(node)
    method = name.rsplit(".", 1)[-1]
    if method in {"open", "File", "ZipFile"} and name != "os.open":
        given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        modes = [str(value.value) for value in given if isinstance(value, ast.Constant)]
        return any(re.fullmatch(r"[rwaxbt+]{1,3}", mode) and set(mode) & set("wax+") for mode in modes)
    fills_buffer = bool(node.args) and ast.unparse(node.args[0]) in IN_MEMORY
    return method in WRITING_METHODS and not fills_buffer


def unpublished_writes(tree: ast.AST) -> list[int]:
    """Lines that write outside `with publish(...)`.

    A private function counts as inside when all its calls in the module are.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls_of: dict[str, list[ast.Call]] = {}
    for call in calls:
        calls_of.setdefault(called(call), []).append(call)
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call) and called(item.context_expr) in PUBLISHING
            for item in node.items
        ):
            inside.update(ast.walk(node))
    private = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("_")
    ]
    for _ in private:
        for function in private:
            of_it = calls_of.get(function.name, [])
            if of_it and all(call in inside for call in of_it):
                inside.update(ast.walk(function))
    return sorted(node.lineno for node in calls if writes(node) and node not in inside)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.write_text('x')", [1]),
        ("open(path, 'w')", [1]),
        ("path.open(mode='a')", [1]),
        ("h5py.File(path, 'r+')", [1]),
        ("np.save(path, array)", [1]),
        ("image.save(path)", [1]),
        ("with publish(path) as temporary:\n    temporary.write_text('x')", []),
        (
            "with publish(path) as part:\n    _fill(part)\ndef _fill(file):\n    file.write_text('')",
            [],
        ),
        (
            "with publish(path) as part:\n    _fill(1)\n_fill(2)\ndef _fill(file):\n    file.write_text('')",
            [5],
        ),
        ("with publish_folder(path) as folder:\n    (folder / 'a').write_text('x')", []),
        ("path.open('rb')", []),
        ("h5py.File(path, 'r')", []),
        ("figure.savefig(buffer)", []),
    ],
)
def test_the_rule_on_writing_sees_what_it_should(source: str, lines: list[int]) -> None:
    assert unpublished_writes(ast.parse(source)) == lines


def test_files_are_only_written_through_publish() -> None:
    assert {name: lines for name, tree in trees() if (lines := unpublished_writes(tree))} == {}


def unsafe(node: ast.AST) -> str:
    """What in a node could run code that its input holds; empty if nothing."""
    if isinstance(node, ast.Attribute):
        name = ast.unparse(node)
        return name if name.split(".")[0] in UNPICKLING and node.attr not in HARMLESS else ""
    if isinstance(node, ast.ImportFrom):
        refused = {alias.name for alias in node.names} - HARMLESS
        return node.module or "" if refused and (node.module or "").split(".")[0] in UNPICKLING else ""
    if not isinstance(node, ast.Call):
        return ""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    name = called(node)
    refused = (
        (name == "torch.load" and keywords.get("weights_only") != "True")
        or (name in {"np.load", "numpy.load"} and keywords.get("allow_pickle", "False") != "False")
        or name in EVALUATING
        or keywords.get("shell") == "True"
    )
    return name if refused else ""


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("import pickle\npickle.loads(data)", "pickle.loads"),
        ("from joblib import load", "joblib"),
        ("from pickle import UnpicklingError", ""),
        ("import pickle\ntry: pass\nexcept pickle.UnpicklingError: pass", ""),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=True)", ""),
        ("np.load(path, allow_pickle=True)", "np.load"),
        ("np.load(path)", ""),
        ("yaml.load(text)", "yaml.load"),
        ("subprocess.run(text, shell=True)", "subprocess.run"),
    ],
)
def test_the_rule_on_running_code_sees_what_it_should(source: str, refused: str) -> None:
    found = [told for node in ast.walk(ast.parse(source)) if (told := unsafe(node))]
    assert found == ([refused] if refused else [])


def test_nothing_that_is_read_can_run_code() -> None:
    found = [
        f"{name}:{getattr(node, 'lineno', 0)}: {told}"
        for name, tree in trees()
        for node in ast.walk(tree)
        if (told := unsafe(node))
    ]
    assert found == []
