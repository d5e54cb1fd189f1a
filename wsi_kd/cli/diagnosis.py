"""What `wsi-kd doctor` looks at: each check tells what was found and, where that will not do, the remedy."""

import os
import shutil
from collections import defaultdict
from contextlib import suppress
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

from wsi_kd.bags.manifest import Manifest, SlideRow, read_manifest
from wsi_kd.bags.splits import plan_folds
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput, SlideProblem, WsiKdError
from wsi_kd.core.floors import FLOORS, version_numbers
from wsi_kd.core.machine import usable_cpus
from wsi_kd.settings.all import Settings

SAMPLED_SLIDES = 20
BINARY_STEP = 1024
BYTES_BESIDE_TILES = 2**16
"""Of a slide's feature file: its header, twice."""


class State(StrEnum):
    """How a check ended; only `broken` stops a run."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


class Check(NamedTuple):
    """One line of the doctor's table."""

    name: str
    state: State
    found: str
    remedy: str = ""


def check_cpus() -> Check:
    """Tell the CPU cores this process may use."""
    cores, installed = usable_cpus(), os.cpu_count()
    return Check("CPU cores", State.OK, f"{cores} usable of {installed}")


def check_openslide() -> Check:
    """Load OpenSlide and compare its library version with the floor."""
    floor = FLOORS["OpenSlide"]
    try:
        import openslide
    except (ImportError, OSError) as error:
        return Check("OpenSlide", State.BROKEN, f"does not load: {_line(error)}", floor.remedy)
    remedy = f"{floor.remedy}; an older one {floor.why}"
    return compare("OpenSlide", openslide.__library_version__, floor=floor.version, remedy=remedy)


def check_torch() -> list[Check]:
    """Load torch, compare its version with the floor, and tell the GPUs."""
    floor = FLOORS["torch"]
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Check("torch", State.BROKEN, f"does not load: {_line(error)}", floor.remedy)]
    remedy = f"{floor.remedy}; an older one {floor.why}"
    found = compare("torch", torch.__version__, floor=floor.version, remedy=remedy)
    if not torch.cuda.is_available():
        needed = "a GPU is not needed for stain_texture; networks embed far faster on one"
        return [found, Check("GPU", State.OK, f"none, all runs on the CPU ({needed})")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [found, Check("GPU", State.OK, ", ".join(names))]


def check_packages() -> Check:
    """Tell the versions of the packages that read files; an absent one is broken."""
    found, absent = [], []
    for name in ("h5py", "safetensors", "shapely", "opencv-python-headless", "snakemake"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    if absent:
        return Check("packages", State.BROKEN, f"absent: {', '.join(absent)}", "make install")
    return Check("packages", State.OK, ", ".join(found))


def check_timm() -> Check:
    """Import timm, which brings every network encoder."""
    try:
        from wsi_kd.features.torchvision_import import import_timm

        timm = import_timm()
    except (ImportError, OSError, RuntimeError) as error:
        remedy = "make install: timm, torch and torchvision must fit each other, as constraints.txt pins them"
        return Check("timm", State.BROKEN, f"does not load: {_line(error)}", remedy)
    return Check("timm", State.OK, str(timm.__version__))


def check_encoder(settings: Settings) -> tuple[Check, int]:
    """Build the encoder that the settings name; tell its features a tile (0 where it cannot be built)."""
    from wsi_kd.steps.encoder import build_encoder

    try:
        encoder = build_encoder(settings.embed)
    except WsiKdError as error:
        remedy = "correct the section embed; hub models need the network once, or embed.weights"
        return Check("encoder", State.BROKEN, _line(error), remedy), 0
    found = f"{encoder.name}: {encoder.feature_dim} features a tile"
    return Check("encoder", State.OK, found), encoder.feature_dim


def check_manifest(settings: Settings) -> tuple[Check, Manifest | None]:
    """Read the manifest with all its faults."""
    run = settings.run
    try:
        manifest = read_manifest(
            run.manifest,
            slides_dir=run.slides_dir,
            classes=run.classes,
            with_slides=settings.adopt.folder is None,
        )
    except BadInput as error:
        return Check("manifest", State.BROKEN, _line(error), "correct the manifest"), None
    cases = len({row.case_id for row in manifest.rows})
    classes = f"{manifest.classes[0]} (negative), {', '.join(manifest.classes[1:])}"
    found = f"{len(manifest.rows)} slides of {cases} cases; classes: {classes}"
    if any(row.case_id != row.slide_id for row in manifest.rows):
        return Check("manifest", State.OK, found), manifest
    alone = f"{found}; no patient is named, so slides of one patient may be trained on and tested on"
    return Check("manifest", State.WARNING, alone, "fill the column case_id"), manifest


def check_copies(manifest: Manifest) -> Check:
    """Look for one slide file under several ids, links included; only files of one size are read, in part."""
    from wsi_kd.slides.fingerprint import slide_fingerprint
    from wsi_kd.steps.same_slides import same_files

    alike: dict[int, list[SlideRow]] = defaultdict(list)
    for row in manifest.rows:
        if row.path.is_file() and (size := row.path.stat().st_size):  # OME-Zarr folders: split finds those
            alike[size].append(row)
    fingerprints: dict[str, str] = {}
    for row in chain.from_iterable(rows for rows in alike.values() if rows[1:]):
        with suppress(OSError):  # a file that cannot be read ends with a status of its own
            fingerprints[row.slide_id] = slide_fingerprint(row.path)
    copies = [" = ".join(slide_ids) for slide_ids in same_files(fingerprints)]
    if not copies:
        return Check("copies", State.OK, "no slide file under two ids")
    told = f"the same file under several ids: {listed(copies)}; split stops where they stand in two parts"
    return Check("copies", State.WARNING, told, "keep one of them, or give them one case_id")


def check_given_features(settings: Settings, manifest: Manifest | None) -> Check:
    """Look for another program's features of every slide."""
    from wsi_kd.steps.adopt import given_folder

    try:
        found = given_folder(settings.adopt)
    except BadInput as error:
        return Check("features", State.BROKEN, _line(error), "correct the section adopt")
    wanted = [row.slide_id for row in manifest.rows] if manifest is not None else []
    missing = [slide_id for slide_id in wanted if slide_id not in found.slides]
    told = f"{found.layout}: files of {len(wanted) - len(missing)} of {len(wanted)} slides"
    if not missing:
        return Check("features", State.OK, told)
    state = State.BROKEN if len(missing) == len(wanted) else State.WARNING
    return Check("features", state, f"{told}; none of {listed(missing)}", "add them, or shorten the manifest")


def check_folds(settings: Settings, manifest: Manifest) -> Check:
    """Plan the folds over all slides: leaks and parts without a class."""
    split = settings.split
    try:
        folds = plan_folds(manifest.rows, folds=split.folds, seed=split.seed, given=split.given)
    except BadInput as error:
        return Check("folds", State.BROKEN, _line(error), "correct the section split or the splits it names")
    sizes = [tuple(map(len, fold)) for fold in folds]
    told = ", ".join(f"{train}/{val}/{test}" for train, val, test in sizes)
    return Check("folds", State.OK, f"{len(folds)}; slides in train/val/test: {told}")


def check_drawings(settings: Settings, manifest: Manifest) -> Check:
    """Read every annotation and every hand-drawn outline of tissue."""
    from wsi_kd.steps.drawings import drawing_faults, edited_outline

    try:
        faults = drawing_faults(manifest.rows, settings, negative_label=manifest.classes[0])
    except BadInput as error:
        return Check("drawings", State.BROKEN, _line(error), "correct mask.edited_dir")
    if faults:
        return Check("drawings", State.BROKEN, listed(faults), "draw or export these files again")
    outlines = sum(edited_outline(row, settings.mask.edited_dir) is not None for row in manifest.rows)
    annotations = sum(row.annotation is not None for row in manifest.rows)
    return Check("drawings", State.OK, f"{annotations} annotations, {outlines} outlines of tissue")


def check_disk(settings: Settings, manifest: Manifest | None, *, bytes_per_tile: int) -> Check:
    """Compare the free disk at results_dir with what features of slides that are all tissue would need."""
    folder = _existing(settings.run.results_dir)
    if not os.access(folder, os.W_OK):
        return Check(
            "disk", State.BROKEN, f"{folder} cannot be written", "set run.results_dir to another folder"
        )
    free = shutil.disk_usage(folder).free
    slides = 0 if manifest is None else len(manifest.rows)
    tiles = _tiles_at_most(settings, manifest)
    needed = tiles * bytes_per_tile + slides * BYTES_BESIDE_TILES if tiles else 0
    found = f"{human_size(free)} free at {folder}; features need at most {human_size(needed)}"
    if not needed:
        return Check("disk", State.OK, f"{human_size(free)} free at {folder}; the need cannot be told yet")
    remedy = "free space, set run.results_dir to another disk, or raise tile.tile_mpp"
    if free < needed / 10:
        return Check("disk", State.BROKEN, found, remedy)
    return Check("disk", State.WARNING if free < needed else State.OK, found, remedy if free < needed else "")


def human_size(count: float) -> str:
    """Write a number of bytes in binary units.

    >>> human_size(3 * 2**30), human_size(1.5 * 2**20)
    ('3.0 GiB', '1.5 MiB')
    """
    for unit in ("B", "KiB", "MiB"):
        if count < BINARY_STEP:
            return f"{count:.1f} {unit}"
        count /= BINARY_STEP
    return f"{count:.1f} GiB"


def compare(name: str, found: str, *, floor: tuple[int, ...], remedy: str) -> Check:
    """Compare a version such as 2.13.0+cpu with the oldest that will do."""
    if version_numbers(found) < floor:
        return Check(name, State.BROKEN, f"{found}, needs {'.'.join(map(str, floor))} or newer", remedy)
    return Check(name, State.OK, found)


def _tiles_at_most(settings: Settings, manifest: Manifest | None) -> int:
    """Estimate tiles from the size of some slides, all of their area counted as tissue."""
    from wsi_kd.slides.reader import open_slide
    from wsi_kd.steps.resolution import slide_resolution

    if manifest is None:
        return 0
    rows = manifest.rows[:: max(1, len(manifest.rows) // SAMPLED_SLIDES)]
    stride_um = (settings.tile.tile_px - settings.tile.overlap_px) * settings.tile.tile_mpp
    counts = []
    for row in rows:
        try:
            with open_slide(row.path, background=settings.slides.background) as reader:
                mpp = slide_resolution(reader.properties, settings.slides, override=row.slide_mpp).mpp
                counts.append(reader.bounds[2] * reader.bounds[3] * mpp**2 / stride_um**2)
        except SlideProblem:
            continue  # the run itself gives this slide a status and a reason
    return int(median(counts) * len(manifest.rows)) if counts else 0


def _existing(folder: Path) -> Path:
    resolved = folder.resolve()
    return next(parent for parent in (resolved, *resolved.parents) if parent.is_dir())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
