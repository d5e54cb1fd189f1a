"""What stain normalization wins, and what it costs, when test slides are stained unlike the training's.

Real nuclei (CRCHistoPhenotypes, 60 patients, as in crc_nuclei.py), described by `stain_texture`, or by its
first six columns alone: mean and deviation of red, green and blue. A logistic regression learns from four
fifths of the patients which nuclei are cancerous and is asked for the others, whose pixels are changed as if
by another laboratory. Each patient is one slide: the fits see its nuclei alone. All shifts but `camera`
follow Beer-Lambert, the model that macenko and vahadane assume, so they flatter these two; `camera` (more
saturated, warmer) does not. A shift that all test slides share hardly changes their ranks; `each its own`
draws another one for every slide. Patients whose fit fails stay as they are.

    python benchmarks/stain_shift.py --data ../shared/data

Or whole slides of tissue, drawn: `--drawn` takes a cohort of `wsi-kd demo-cohort`, whose slides differ in
stain, glass and brightness as they are; tiles of 256 px, tumor or not.

    wsi-kd demo-cohort results/demo-cohort --slides 24
    python benchmarks/stain_shift.py --drawn results/demo-cohort
"""

import argparse
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast, get_args

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crc_nuclei import CELL_PX, read_instances
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.files import publish_json
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import TileBatch
from wsi_kd.features.stain.fits import CannotFit, Method, StainFit
from wsi_kd.features.stain.normalizer import create_normalizer, fit_stains
from wsi_kd.features.stain.reference import built_in_target
from wsi_kd.features.stain_texture import stain_texture
from wsi_kd.settings.all import Settings
from wsi_kd.steps.mask import mask_slide
from wsi_kd.steps.tile import tile_slide
from wsi_kd.steps.tile_pixels import open_tiles

FOLDS: Final = 5
FEATURES: Final = {"stain_texture": None, "colors": 6}
"""Columns of `stain_texture` that are learned from."""
METHODS: Final = ("none", *get_args(Method))
Recolor = Callable[[np.ndarray, np.random.Generator], np.ndarray]
WHITE: Final = 255.0


class Patient(NamedTuple):
    """Nuclei of one patient: their pixels, and which are cancerous."""

    tiles: TileBatch
    labels: np.ndarray


def beer_lambert(*, strengths: tuple[float, float], turn: float = 0.0) -> Recolor:
    """Change amounts of hematoxylin and eosin and move their colors by `turn`, all else kept."""
    stains = cast("StainFit", built_in_target("macenko")).matrix
    rest = np.cross(*stains) / np.linalg.norm(np.cross(*stains))
    moved = stains + turn * np.array([[-1.0, 0.5, 1.0], [1.0, -0.5, 0.5]])
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    change = np.linalg.inv(np.vstack([stains, rest])) @ np.vstack([np.diag(strengths) @ moved, rest])

    def shifted(tiles: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        density = np.log(WHITE / np.maximum(tiles, 1.0))
        return np.clip(np.rint(WHITE * np.exp(-density @ change)), 0, 255).astype(np.uint8)

    return shifted


def each_its_own(tiles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give every slide strengths and dyes of its own."""
    hematoxylin, eosin = np.exp(rng.uniform(np.log(0.6), np.log(1.6), 2))
    change = beer_lambert(strengths=(float(hematoxylin), float(eosin)), turn=float(rng.uniform(-0.08, 0.08)))
    return change(tiles, rng)


def camera(tiles: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Show pixels through a camera that saturates by a third more and is warmer."""
    gray = tiles.mean(axis=-1, keepdims=True)
    shown = (gray + 1.33 * (tiles - gray)) * np.array([1.02, 0.98, 0.92])
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


SHIFTS: Final[Mapping[str, Recolor]] = {
    "as scanned": lambda tiles, _rng: tiles,
    "weak": beer_lambert(strengths=(0.6, 0.6)),
    "strong": beer_lambert(strengths=(1.5, 1.5)),
    "pink": beer_lambert(strengths=(0.8, 1.6)),
    "other dyes": beer_lambert(strengths=(1.0, 1.0), turn=0.1),
    "camera": camera,
    "each its own": each_its_own,
}


def read_patients(data: Path, *, nuclei: int, seed: int) -> list[Patient]:
    """Read up to `nuclei` nuclei of each patient, drawn evenly."""
    rng = np.random.default_rng(seed)
    patients = []
    with zipfile.ZipFile(data / "patches" / "crchisto_main_mosaics.zip") as archive:
        for patient, found in sorted(read_instances(archive).items()):
            mosaic = Image.open(io.BytesIO(archive.read(f"patient_{patient:03d}.png"))).convert("RGB")
            pixels = np.asarray(mosaic)
            chosen = [found[index] for index in np.sort(rng.permutation(len(found))[:nuclei])]
            tiles = [
                pixels[CELL_PX * one.row :, CELL_PX * one.column :][:CELL_PX, :CELL_PX] for one in chosen
            ]
            patients.append(Patient(np.stack(tiles), np.array([one.cancerous for one in chosen])))
    return patients


def read_drawn(folder: Path, *, count: int, seed: int) -> list[Patient]:
    """Read up to `count` tiles of each usable slide of a drawn cohort, half of them tumor if it has some."""
    rng = np.random.default_rng(seed)
    settings = Settings()
    manifest = read_manifest(folder / "slides.csv", slides_dir=None, classes=["normal", "tumor"])
    slides = []
    for row in manifest.rows:
        tiles = tile_slide(mask_slide(row, settings), row, settings, negative_label="normal")
        if tiles.header["status"] != SlideStatus.OK or (tiles.tile_labels < 0).any():
            continue
        order = rng.permutation(len(tiles.coords))
        tumor, other = (order[tiles.tile_labels[order] == label][: count // 2] for label in (1, 0))
        chosen = np.concatenate([tumor, other])
        with open_tiles(
            row.path, tiles.coords[chosen], header=tiles.header, slides=settings.slides
        ) as source:
            pixels = [source.read(x, y) for x, y in tiles.coords[chosen].tolist()]
        slides.append(Patient(np.stack(pixels), tiles.tile_labels[chosen] == 1))
    return slides


def described(tiles: TileBatch, method: str) -> tuple[np.ndarray, bool]:
    """Return the features of one patient's tiles after normalization, and whether it could be done."""
    if method == "none":
        return stain_texture(tiles), True
    known = cast("Method", method)
    try:
        fit = fit_stains(tiles.reshape(-1, 3), known)
    except CannotFit:
        return stain_texture(tiles), False
    normalize = create_normalizer(known, source=fit, target=built_in_target(known))
    return stain_texture(np.stack([normalize(tile) for tile in tiles])), True


def area(train: list[Any], test: list[Any]) -> float:
    """Learn from (features, labels) of patients, return the AUC over all nuclei of the others."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(*(np.concatenate(part) for part in zip(*train, strict=True)))
    features, labels = (np.concatenate(part) for part in zip(*test, strict=True))
    return float(roc_auc_score(labels, model.decision_function(features)))


def measure(patients: list[Patient], *, seed: int) -> dict[str, Any]:
    """Return AUCs by method, features and shift, one a fold, and how many fits failed."""
    positive = [bool(one.labels.any()) for one in patients]
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(patients, positive))
    areas: dict[str, dict[str, dict[str, list[float]]]] = {}
    failed: dict[str, dict[str, int]] = {}
    for method in METHODS:
        shown = {}
        failed[method] = {}
        for shift, change in SHIFTS.items():
            rng = np.random.default_rng(seed)
            made = [described(change(one.tiles, rng), method) for one in patients]
            shown[shift] = [(features, one.labels) for (features, _), one in zip(made, patients, strict=True)]
            failed[method][shift] = sum(not done for _, done in made)
        areas[method] = {
            kind: {
                shift: _areas(shown["as scanned"], found, folds, columns=columns)
                for shift, found in shown.items()
            }
            for kind, columns in FEATURES.items()
        }
    return {"auc": areas, "not_fitted": failed}


def _areas(scanned: list[Any], shifted: list[Any], folds: list[Any], *, columns: int | None) -> list[float]:
    def cut(patients: list[Any], indices: np.ndarray) -> list[Any]:
        return [(patients[i][0][:, :columns], patients[i][1]) for i in indices]

    return [area(cut(scanned, train), cut(shifted, test)) for train, test in folds]


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder that holds patches/")
    source.add_argument("--drawn", type=Path, help="folder of a drawn cohort")
    parser.add_argument("--tiles", type=int, default=40, help="nuclei or tiles of each slide")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if arguments.drawn is None:
        patients = read_patients(arguments.data, nuclei=arguments.tiles, seed=arguments.seed)
    else:
        patients = read_drawn(arguments.drawn, count=arguments.tiles, seed=arguments.seed)
    measured = measure(patients, seed=arguments.seed)
    print("| features | test slides | " + " | ".join(METHODS) + " |\n|---|---|" + "---|" * len(METHODS))
    for kind, shift in itertools.product(FEATURES, SHIFTS):
        cells = [f"{np.mean(measured['auc'][method][kind][shift]):.3f}" for method in METHODS]
        print(f"| {kind} | {shift} | " + " | ".join(cells) + " |")
    print(json.dumps({"not_fitted": measured["not_fitted"]}))
    if arguments.json:
        publish_json(arguments.json, measured)


if __name__ == "__main__":
    main()
