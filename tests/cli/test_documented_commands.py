"""Every `wsi-kd` command that a page of the documentation shows is one that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException
from typer.main import get_command

from wsi_kd.cli.app import GROUPS, app
from wsi_kd.cli.words import take_words

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").rglob("*.yaml")])
PROGRAM = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?wsi-kd (?P<rest>.*)$")
STANDS_FOR = re.compile(r"\.\.\.|[\[\]{}<>|]|(?:^| )or |;|,$")
"""What a line with it is a form, not a command: choices, placeholders, prose."""
INLINE = re.compile(r"`wsi-kd ([a-z][^`]*)`")
PROMPT = re.compile(r"^(?:    |\t|# {1,5}|\$ )*")


def commands(text: str) -> Iterator[str]:
    """Yield the commands of indented or fenced lines and of comments, continued lines joined."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        bare = PROMPT.sub("", line) if line.startswith(("    ", "\t", "#", "$", "wsi-kd")) else ""
        found = PROGRAM.match(bare.partition("  #")[0].strip())
        if found:
            yield found["rest"]


def written() -> list[tuple[str, str]]:
    return sorted({(page.name, line) for page in PAGES for line in commands(page.read_text("utf-8"))})


def mentioned() -> list[tuple[str, str]]:
    """Commands in the middle of a sentence: often a part of one, as its name and an option."""
    found = {(page.name, text) for page in PAGES for text in INLINE.findall(page.read_text("utf-8"))}
    each = {(page, one) for page, text in found for one in alternatives(text.split())}
    return sorted(each)


def alternatives(words: list[str]) -> list[str]:
    """Write `splits import|export` out."""
    choices = [word.split("|") if re.fullmatch(r"[a-z|]+", word) else [word] for word in words]
    return [" ".join(chosen) for chosen in product(*choices)]


def resolve(words: list[str]) -> tuple[Any, Any, list[str]]:
    """Walk to the command that is meant; return it, its context and what is left for its parser."""
    command: Any = get_command(app)
    context, rest = command.context_class(command, info_name="wsi-kd"), words
    while rest and hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.context_class(command, info_name=name, parent=context)
    return command, context, rest


def check(line: str, *, is_form: bool) -> None:
    """Let the command's parser read a line; of a form with placeholders ask for its options alone."""
    words = line.replace("[", " ").replace("]", " ").split() if is_form else shlex.split(line, comments=True)
    command, context, rest = resolve(take_words(words, groups=GROUPS).arguments)
    if not is_form:
        command.make_parser(context).parse_args(args=list(rest))
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    known |= {option for parameter in command.get_params(context) for option in parameter.secondary_opts}
    told = {found for found in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(rest))}
    assert told - known == set(), f"{command.name}: {told - known}"


def test_the_pages_hold_commands_and_the_search_finds_them() -> None:
    found = written()
    assert len(found) > 40
    assert len(mentioned()) > 60
    assert len({page for page, _ in found}) > 8
    text = (
        "    wsi-kd info a.svs   # why\nnot wsi-kd this\n    X=1 .venv/bin/wsi-kd mask \\\n      --config b\n"
    )
    assert list(commands(text)) == ["info a.svs", "mask --config b"]


@pytest.mark.parametrize(("page", "line"), written())
def test_a_documented_command_is_taken(page: str, line: str) -> None:
    check(line, is_form=STANDS_FOR.search(line) is not None)


@pytest.mark.parametrize(("page", "line"), mentioned())
def test_a_mentioned_command_is_one(page: str, line: str) -> None:
    check(line, is_form=True)


@pytest.mark.parametrize(
    "line", ["mask --confg my.yaml", "masks --config my.yaml", "features look x", "mask --config"]
)
def test_a_command_that_is_none_would_be_found(line: str) -> None:
    with pytest.raises((TyperException, AssertionError)):
        check(line, is_form=False)
