"""Options of every command, before or after its name: `--quiet` and `--json-logs`."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import typer

from wsi_kd.core.messages import Words

QUIET, JSON_LOGS = "--quiet", "--json-logs"
EVERYWHERE = (
    f"With every command: {QUIET} says warnings and errors alone; {JSON_LOGS} says everything as JSON lines "
    "on stderr (time, level, command, slide_id, message)."
)


class Spoken(NamedTuple):
    """A command line and how it is to speak."""

    words: Words
    arguments: list[str]


def take_words(arguments: Sequence[str], *, groups: Collection[str]) -> Spoken:
    """Take the options of every command out of a command line; what follows `--` is left alone.

    Args:
        arguments: what follows the program's name.
        groups: commands whose next argument is a command too.

    >>> take_words(["--quiet", "features", "verify", "x.h5"], groups={"features"}).words.command
    'features verify'
    >>> take_words(["mask", "--json_logs", "--", "--quiet"], groups=()).arguments
    ['mask', '--', '--quiet']
    """
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    before, after = arguments[:end], arguments[end:]
    plain = [argument.replace("_", "-") for argument in before]
    kept = [argument for argument, name in zip(before, plain, strict=True) if name not in {QUIET, JSON_LOGS}]
    words = Words(_command(kept, groups), quiet=QUIET in plain, json_lines=JSON_LOGS in plain)
    return Spoken(words, [*kept, *after])


def tell_everywhere(app: typer.Typer) -> None:
    """Let the help of every command end with these options."""
    app.info.epilog = EVERYWHERE
    for command in app.registered_commands:
        command.epilog = EVERYWHERE
    for group in app.registered_groups:
        if group.typer_instance is not None:
            tell_everywhere(group.typer_instance)


def _command(arguments: Sequence[str], groups: Collection[str]) -> str:
    names = [argument.replace("_", "-") for argument in arguments if not argument.startswith("-")]
    return " ".join(names[: 2 if names and names[0] in groups else 1])
