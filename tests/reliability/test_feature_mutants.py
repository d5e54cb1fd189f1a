"""G3: a damaged file of tiles or features is refused, or holds what it held; HDF5 sees none of them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from given_features import draw_features, write_trident
from mutants import Area, mutants

from wsi_kd.core.errors import BadInput
from wsi_kd.features.foreign import read_foreign_features
from wsi_kd.features.store import (
    FeatureFile,
    TileFile,
    read_features,
    read_header,
    read_tiles,
    write_features,
    write_tiles,
)

HEADER = {"status": "ok", "reason": "", "slide_mpp": 0.25, "tile_px": 224, "tile_mpp": 0.5, "encoder": "e"}


class Written(NamedTuple):
    """A file as it was written, and how it is read."""

    name: str
    content: bytes
    read: Callable[[Path], FeatureFile | TileFile]
    held: FeatureFile | TileFile


def written_files(folder: Path) -> list[Written]:
    """Files of features in every type, of a slide without tiles, and of tiles."""
    rng = np.random.default_rng(1)
    found = []
    for name, dtype, tiles in (("f2", np.float16, 12), ("f4", np.float32, 9), ("none", np.float16, 0)):
        values = rng.normal(size=(tiles, 5)).astype(dtype)
        coords, labels = rng.integers(0, 9000, (tiles, 2)), rng.integers(-1, 2, tiles).astype(np.int8)
        write_features(folder / name, FeatureFile("s", values, coords, labels, dict(HEADER)))
        found.append(_written(folder / name, read_features))
    pixels = rng.integers(0, 256, (4, 75), dtype=np.uint8)
    coords, labels = rng.integers(0, 9000, (4, 2)), np.full(4, -1, np.int8)
    write_features(folder / "u1", FeatureFile("s", pixels, coords, labels, dict(HEADER)))
    write_tiles(folder / "tiles", TileFile("s", coords, np.ones(4, np.float32), labels, dict(HEADER)))
    return [*found, _written(folder / "u1", read_features), _written(folder / "tiles", read_tiles)]


def _written(path: Path, read: Callable[[Path], FeatureFile | TileFile]) -> Written:
    return Written(path.name, path.read_bytes(), read, read(path))


def areas(content: bytes) -> list[Area]:
    """The header's line, the HDF5 part's own header, and all."""
    line = content.index(b"\n")
    return [(0, line + 1), (line, min(line + 3000, len(content))), (0, len(content))]


def alike(found: FeatureFile | TileFile, held: FeatureFile | TileFile) -> bool:
    """Whether two files hold the same, type and shape of every array included."""
    for one, other in zip(found, held, strict=True):
        arrays = [one, other] if isinstance(one, np.ndarray) else []
        if not isinstance(one, (np.ndarray, str, dict)) and one is not None:
            arrays = [np.stack(one), np.stack(other)]
        same = one == other if not arrays else arrays[0].tobytes() == arrays[1].tobytes()
        if not same or (arrays and (arrays[0].dtype, arrays[0].shape) != (arrays[1].dtype, arrays[1].shape)):
            return False
    return True


@pytest.mark.parametrize("count", [250, pytest.param(5000, marks=pytest.mark.reliability)])
def test_no_mutant_of_our_files_is_read_as_another(tmp_path, count, record_property):
    files = written_files(tmp_path)
    refused, harmless, different, told = 0, 0, [], set()
    for number, file in enumerate(files):
        path = tmp_path / file.name
        for mutant in mutants(file.content, areas(file.content), count=count // len(files), seed=number):
            path.write_bytes(mutant)
            try:
                if read_header(path) != file.held.header:
                    different.append((file.name, "header"))
            except BadInput as error:
                told.add(str(error))
            try:
                if alike(file.read(path), file.held):
                    harmless += 1
                else:
                    different.append((file.name, "values"))
            except BadInput as error:
                refused += 1
                told.add(str(error))
    record_property(
        "figure",
        f"G3: {refused + harmless + len(different):,} mutants of tile and feature files, 0 signals, "
        f"{len(different)} read as something else; {refused:,} refused, {harmless} harmless",
    )
    assert different == []
    assert refused > 0.9 * count
    assert all("wsi-kd " in line and "\n" not in line for line in told)


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.reliability)])
def test_no_mutant_of_foreign_features_ends_the_process(tmp_path, count, record_property):
    """Other programs' files have no hash: a child looks first. What it cannot see is that values differ."""
    path = write_trident(tmp_path, "s", draw_features(0, tiles=60))
    content = path.read_bytes()
    told = []
    for mutant in mutants(content, [(0, 4096), (0, len(content))], count=count, seed=9):
        path.write_bytes(mutant)
        try:
            read_foreign_features(path)
        except BadInput as error:
            told.append(str(error))
    record_property(
        "figure",
        f"G3: {count} mutants of other programs' HDF5, 0 signals in this process, {len(told)} refused",
    )
    assert len(told) > count / 10
    assert not any("\n" in line for line in told)
