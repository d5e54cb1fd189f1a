"""What the workflow's plan looks at before any job starts: hours into a run is no time to learn of a typo."""

import json
from collections.abc import Sequence
from pathlib import Path

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.tables import listed
from wsi_kd.cli.layout import Layout
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import sidecar
from wsi_kd.features.distilled import is_distilled
from wsi_kd.features.foreign_folders import find_foreign
from wsi_kd.settings.all import Settings
from wsi_kd.settings.models import DISTILLING, INS_CLASSES, RELEASED_CLASSES
from wsi_kd.tissue.edited_files import find_edited

Chunks = Sequence[Sequence[SlideRow]]


def check_ahead(settings: Settings, manifest: Manifest, *, chunks: Chunks, layout: Layout) -> None:
    """Check the output folder, encoder and projector, and every drawing of the chunks still to be tiled.

    Raises:
        BadInput: one line; faults of drawings are listed together.
    """
    _refuse_braces(settings, manifest)
    _check_recipes(settings)
    _check_classes(settings, manifest)
    _check_results_dir(layout.root)
    if settings.adopt.folder is None:
        _check_network(settings)
        _check_stain_target(settings)
        _check_encoder(settings, chunks=chunks, layout=layout)
    else:
        _check_given_features(settings, manifest)
    _check_projector(settings)
    waiting = [
        row
        for chunk, rows in enumerate(chunks)
        if not _is_tiled(layout.chunk_status("tile", chunk), rows, settings)
        for row in rows
        if row.annotation is not None or settings.mask.edited_dir is not None
    ]
    if waiting:
        _check_drawings(waiting, settings, negative_label=manifest.classes[0])


def _check_drawings(rows: Sequence[SlideRow], settings: Settings, *, negative_label: str) -> None:
    from wsi_kd.steps.drawings import drawing_faults  # half a second, at each start of snakemake

    faults = drawing_faults(rows, settings, negative_label=negative_label)
    if faults:
        raise BadInput(f"{len(faults)} drawings cannot be used: {listed(faults)}")


def _refuse_braces(settings: Settings, manifest: Manifest) -> None:
    """Snakemake reads braces in a path as wildcards, and stops over them with a riddle."""
    paths = [
        settings.run.results_dir,
        settings.mask.edited_dir,
        settings.mask.network,
        settings.embed.weights,
        settings.split.given,
        settings.stain.target,
        settings.adopt.folder,
    ]
    for row in manifest.rows:
        paths += [row.path, row.annotation, Path(row.slide_id) if settings.mask.edited_dir else None]
    braced = [str(path) for path in paths if path is not None and set("{}") & set(str(path))]
    if braced:
        raise BadInput(f"braces in paths, which Snakemake reads as wildcards: {listed(braced)}; rename them")


def _check_recipes(settings: Settings) -> None:
    """Look for the recipe that recipe distill learns from: no rule would make its models."""
    train = settings.train
    if "distill" in train.recipes and train.distill.teacher_recipe not in train.recipes:
        raise BadInput(
            f"recipe distill learns from the models of recipe {train.distill.teacher_recipe}, which "
            f"train.recipes ({', '.join(train.recipes)}) does not hold; add it, or change "
            "train.distill.teacher_recipe"
        )


def _check_classes(settings: Settings, manifest: Manifest) -> None:
    """Look for a schedule or recipe of two classes where there are more: training refuses it hours later."""
    train = settings.train
    if "ins" in train.recipes and len(manifest.classes) > INS_CLASSES:
        raise BadInput(
            f"recipe ins needs two classes, found {len(manifest.classes)} ({', '.join(manifest.classes)}); "
            "take it out of train.recipes, or merge classes"
        )
    released = train.weno.schedule == "released" and DISTILLING & set(train.recipes)
    if released and len(manifest.classes) > RELEASED_CLASSES:
        raise BadInput(
            f"train.weno.schedule released knows two classes, found {len(manifest.classes)} "
            f"({', '.join(manifest.classes)}); set it to joint or alternate, or merge classes"
        )


def _check_results_dir(folder: Path) -> None:
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not existing.is_dir():
        raise BadInput(
            f"run.results_dir: {existing} is a file; expected a folder that is there or can be made"
        )


def _check_network(settings: Settings) -> None:
    """Look for the segmentation network: Snakemake would tell of a missing input and not of the setting."""
    mask = settings.mask
    if mask.source == "network" and mask.network is not None and not mask.network.is_file():
        raise BadInput(f"{mask.network}: no such file; correct mask.network")


def _check_encoder(settings: Settings, *, chunks: Chunks, layout: Layout) -> None:
    """Look up the weight file, and the encoder's name while a chunk waits for it: timm loads for seconds.

    Snakemake keeps an output whose input is absent: without a look at the file, features made with other
    weights would pass for these.
    """
    embed = settings.embed
    if embed.weights is not None and not embed.weights.is_file():
        raise BadInput(f"{embed.weights}: no such weight file; correct embed.weights")
    if embed.weights_dir is not None and not embed.weights_dir.is_dir():
        raise BadInput(f"{embed.weights_dir}: no such folder; correct embed.weights_dir")
    embedded = all(layout.chunk_status("embed", chunk).is_file() for chunk in range(len(chunks)))
    if embedded and not is_distilled(embed.encoder):
        return
    from wsi_kd.features.encoders import check_encoder_name

    check_encoder_name(embed.encoder, embed.weights)


def _check_given_features(settings: Settings, manifest: Manifest) -> None:
    """Look for the given features: a slide without any has a status, a cohort without any is a typo."""
    adopt = settings.adopt
    found = find_foreign(adopt.folder or Path(), adopt.layout)
    wanted = [row.slide_id for row in manifest.rows]
    if not set(wanted) & set(found.slides):
        raise BadInput(
            f"{adopt.folder}: features ({found.layout}) of {len(found.slides)} slides such as "
            f"'{next(iter(found.slides))}', but of none that {settings.run.manifest} names, such as "
            f"'{wanted[0]}'; slide ids are file names without their ending"
        )


def _check_stain_target(settings: Settings) -> None:
    target = settings.stain.target
    if settings.stain.method != "none" and target is not None and not target.exists():
        raise BadInput(f"{target}: no such slide or image; correct stain.target")


def _check_projector(settings: Settings) -> None:
    """Training would refuse the pair too, but only after every slide was embedded."""
    encoder, projector = settings.embed.encoder, settings.train.projector
    if (encoder == "pixels") != (projector != "linear"):
        raise BadInput(
            f"train.projector {projector} cannot read what embed.encoder {encoder} makes: linear reads an "
            "encoder's features, the others pixels; set embed.encoder: pixels with one of those, or neither"
        )


def _is_tiled(table: Path, rows: Sequence[SlideRow], settings: Settings) -> bool:
    """Tell whether tiles are younger than their drawings and the manifest, and made with these settings."""
    folder = settings.mask.edited_dir
    outlines = [] if folder is None else [find_edited(folder, row.slide_id) for row in rows]
    drawings = [row.annotation for row in rows if row.annotation]
    inputs = [settings.run.manifest, *drawings, *(file for file in outlines if file is not None)]
    try:
        made = table.stat().st_mtime
        made_with = json.loads(sidecar(table).read_text(encoding="utf-8"))["settings"]["tile"]
        fresh = all(path.stat().st_mtime <= made for path in inputs)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    folder_is_there = folder is None or folder.is_dir()
    return fresh and folder_is_there and made_with == settings.tile.model_dump(mode="json")
