"""A cohort of damaged slides of scanners that are known as drawn ones alone, each in a folder of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dicom_series import write_series
from drawn_scanners import painted
from grid_tiffs import write_argos
from hamamatsu_files import write_ndpi, write_vms, write_vmu
from mutants import mutants
from overlapping_tiffs import write_trestle, write_ventana
from sakura_file import write_sakura
from slide_mutants import MPP
from zeiss_file import write_zeiss

SQUARE: Final = painted()[280:632, 180:532]
"""Tissue that whole tiles of Trestle fill; 352 px."""
WIDE: Final = painted()[280:632, 180:692]
HEAD_BYTES: Final = 600


class Sound(NamedTuple):
    """The files of one slide by name, the one that names it first, and which of them is damaged."""

    files: dict[str, bytes]
    damaged: str


def sound_scanners(folder: Path) -> list[Sound]:
    """Return a slide of every scanner; of those in several files one for each kind of file."""
    written = [
        [write_ndpi(folder / "n.ndpi", WIDE)],
        [write_sakura(folder / "s.svslide", SQUARE)],
        [write_zeiss(folder / "z.czi", SQUARE)],
        [write_trestle(folder / "t.tif", SQUARE)],
        [write_argos(folder / "a.avs", SQUARE)],
        [write_ventana(folder / "v.bif", painted(), levels=1)],
        write_series(folder, SQUARE, factors=(1,)),
        [write_vms(folder / "h.vms", WIDE), *sorted(folder.glob("h*.jpg")), folder / "h.opt"],
        [write_vmu(folder / "u.vmu", WIDE), *sorted(folder.glob("u*.ngr")), folder / "u_macro.jpg"],
    ]
    found = []
    for paths in written:
        files = {path.name: path.read_bytes() for path in paths}
        of_several = [name for name in files if name.startswith(("h", "u"))]
        found += [Sound(files, name) for name in of_several or [paths[0].name]]
    return found


def write_damaged_scanners(folder: Path, *, count: int, seed: int) -> None:
    """Write `count` damaged slides and their manifest, the kinds by turns, half of them at their heads."""
    whole = folder / "sound"
    whole.mkdir()
    kinds = sound_scanners(whole)
    damaged = [_damaged(kind, count=count, seed=seed + number) for number, kind in enumerate(kinds)]
    rows = ["slide_id,path,label,slide_mpp"]
    for number in range(count):
        kind, place = kinds[number % len(kinds)], folder / f"m{number}"
        place.mkdir()
        for name, content in kind.files.items():
            (place / name).write_bytes(
                next(damaged[number % len(kinds)]) if name == kind.damaged else content
            )
        label = ("normal", "tumor")[number % 2]
        rows.append(f"m{number},m{number}/{next(iter(kind.files))},{label},{MPP}")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _damaged(kind: Sound, *, count: int, seed: int) -> Iterator[bytes]:
    content = kind.files[kind.damaged]
    areas = [(0, min(HEAD_BYTES, len(content))), (0, len(content))]
    return mutants(content, areas, count=count, seed=seed)
