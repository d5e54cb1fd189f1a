"""docs/viewer.md names every key of the page and every option of the command."""

import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

from wsi_kd.cli import view as command
from wsi_kd.viewer.handles import MAX_OPEN
from wsi_kd.viewer.record import MARGIN, SPREAD
from wsi_kd.viewer.tile_cache import MAX_BYTES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "viewer.md").read_text(encoding="utf-8")
KEYS = re.findall(
    r'\{ keys: \["([^"]+)"', (ROOT / "wsi_kd/viewer/static/keys.js").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_the_page_is_told(key: str) -> None:
    assert ("arrows" if key.startswith("Arrow") else f"`{key}`") in PAGE.partition("## Keys")[2]


def test_every_option_of_the_command_is_told() -> None:
    told = {name for name in re.findall(r"--[a-z-]+", PAGE)}
    options = {
        declared.split("/")[0]
        for parameter in inspect.signature(command.view).parameters.values()
        for info in get_args(parameter.annotation)[1:]
        for declared in (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))
        if str(declared).startswith("--")
    }
    assert {"--manifest", "--um-per-px", "--open"} <= options
    assert options - told == set()


def test_limits_are_those_of_the_code() -> None:
    words = " ".join(PAGE.split())
    assert f"below {MARGIN.limit:g};" in words
    assert f"above {SPREAD.limit:g}." in words
    assert MAX_OPEN == 8
    assert "Eight slides stay open" in words
    assert f"{MAX_BYTES // 2**20} MB of encoded tiles" in words
    assert "4,096 x 4,096 pixels" in words
