"""Source `features`: tiles of the workflow's feature files, labeled by annotation or by their slide."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64

from wsi_kd.bags.datasets import MUST_AGREE
from wsi_kd.bags.manifest_checks import check_case_ids, check_columns, check_labels, check_slide_ids
from wsi_kd.bags.tables import read_text_table
from wsi_kd.core.errors import BadInput
from wsi_kd.core.records import SlideStatus
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.distillation.samples import ArrayInputs, Samples
from wsi_kd.features.store import FeatureFile, read_features

TILE_CLASSES = ("negative", "positive")


class Slide(NamedTuple):
    """One row of the manifest, as far as features need it: the scan itself may be elsewhere."""

    slide_id: str
    label: str
    case_id: str


def read_feature_files(
    *,
    features_dir: Path,
    manifest: Path,
    labels: Literal["tile", "slide"],
    tiles_per_slide: int,
    tile_seed: int,
) -> Samples:
    """Read `features_dir`/<slide_id>.h5 of the manifest's slides; those that failed are left out.

    Of slides with more tiles `tiles_per_slide` are drawn, by `tile_seed`. Samples of one case are never in
    two parts.

    Raises:
        BadInput: faults of the manifest, files that are absent or damaged, features of different encoders or
            tilings, no tile with a label.
    """
    slides, class_names = _read_manifest(manifest)
    features: list[FeatureArray] = []
    tile_labels: list[Int64[np.ndarray, "tiles"]] = []
    cases: list[str] = []
    traits: Mapping[str, Any] | None = None
    for number, slide in enumerate(slides):
        path = features_dir / f"{slide.slide_id}.h5"
        file = read_features(path)
        if file.header["status"] != SlideStatus.OK:
            continue
        traits = _agreeing(file, traits, path=path)
        chosen = _draw(len(file.features), tiles_per_slide, seed=[tile_seed, number])
        features.append(file.features[chosen])
        own = file.tile_labels[chosen].astype(np.int64)
        if labels == "slide":
            own = np.full(len(chosen), class_names.index(slide.label), dtype=np.int64)
        tile_labels.append(own)
        cases += [slide.case_id] * len(chosen)
    if not features:
        raise BadInput(
            f"{features_dir}: no slide of {manifest} has status ok; run the workflow's embed first"
        )
    values = torch.from_numpy(np.concatenate(features))
    names = class_names if labels == "slide" else TILE_CLASSES
    return Samples(ArrayInputs(values), np.concatenate(tile_labels), names, cases=tuple(cases))


def _read_manifest(path: Path) -> tuple[list[Slide], tuple[str, ...]]:
    table = read_text_table(path)
    check_columns(table, ("slide_id", "label"))
    cells: Sequence[dict[str, str]] = [row.cells for row in table.rows]
    slides = [Slide(row["slide_id"], row["label"], row.get("case_id") or row["slide_id"]) for row in cells]
    check_slide_ids(table, [slide.slide_id for slide in slides])
    check_case_ids(table, [slide.case_id for slide in slides])
    return slides, check_labels(table, [slide.label for slide in slides], ())


def _agreeing(file: FeatureFile, former: Mapping[str, Any] | None, *, path: Path) -> Mapping[str, Any]:
    own = {key: file.header.get(key) for key in MUST_AGREE} | {"width": file.features.shape[1]}
    differing = [key for key in own if former is not None and own[key] != former[key]]
    if former is not None and differing:
        key = differing[0]
        raise BadInput(
            f"{path}: its {key} is {own[key]}, the slides before it have {former[key]}; make all with one "
            "run of wsi-kd embed"
        )
    return own


def _draw(tiles: int, most: int, *, seed: list[int]) -> Int64[np.ndarray, "chosen"]:
    return np.sort(np.random.default_rng(seed).permutation(tiles)[:most])
