"""Distillations whose inputs all lie below a folder that names a patient; what they leave must not."""

import shutil
from pathlib import Path
from typing import Any, Final

import yaml
from planted_slides import word

PLANTED: Final = Path(word("folder"))
"""Below the working folder."""
EVERYWHERE: Final = {"train": {"epochs": 1}}


def plant_inputs(folder: Path, settings: dict[str, Any]) -> None:
    """Put the manifest and the tiles of a run below the planted folder, and settings for their pixels."""
    run = folder / PLANTED / "run"
    shutil.copytree(folder / "out" / "tiles", run / "tiles")
    shutil.copy(folder / "slides.csv", folder / PLANTED)
    pixels = {
        **settings,
        "run": {**settings["run"], "results_dir": str(PLANTED / "run")},
        "embed": {"encoder": "pixels", "input_px": 16},
    }
    (folder / "pixels.yaml").write_text(yaml.safe_dump(pixels))


def write_distillations(folder: Path) -> dict[str, Path]:
    """Write settings of four distillations, two with what the two before them leave; output by file."""
    planted = (folder / PLANTED).absolute()
    features = {
        "name": "features",
        "features_dir": str(planted / "run/features"),
        "manifest": str(planted / "slides.csv"),
        "labels": "slide",
        "tiles_per_slide": 8,
    }
    small = {"name": "mlp", "hidden": [2]}
    taught = {**small, "weights": str(planted / "first/student.safetensors")}
    tiles = {"name": "tiles", "pixels_dir": str(planted / "run/features"), "tiles_per_slide": 4}
    encoder = {"data": tiles, "student": {"model_arguments": {"channels": [2, 2]}}, **EVERYWHERE}
    settings = {
        "first": {"data": features, "student": small, "teachers": {"network": small, **EVERYWHERE}},
        "second": {"data": features, "student": taught, "teachers": {"network": taught}},
        "encoder": {**encoder, "teacher": {"encoder": "stain_texture"}},
        "again": {**encoder, "teacher": {"encoder": f"distilled:{planted / 'encoder'}"}},
    }
    for name, value in settings.items():
        of_students = {"criteria": [{"type": "kd"}], **EVERYWHERE} if "teachers" in value else {}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**value, **of_students}))
    return {f"{name}.yaml": Path("distilled") / name for name in settings}


def keep_for_the_next(folder: Path, made: Path) -> None:
    """Copy what a distillation left to where the next one takes it from."""
    shutil.copytree(folder / made, folder / PLANTED / made.name)
