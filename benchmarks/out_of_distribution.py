"""Does the out-of-distribution flag fire where it should, and how often where it should not?

Slides are parted at random: three fifths train, one fifth validate, one fifth test, 40 times. (Nuclei: one
slide a patient. Of the drawn cohort twelve patients have two slides, which may fall apart.)
The training tiles set the moments and the covariance (`wsi_kd.mil.feature_spread`), the validation slides the
limit (`wsi_kd.inference.likeness`); no model is trained, for the distance knows features alone. Test slides
as they are count the false flags. The same slides with their pixels changed as if by another laboratory
(stain_shift.py), and other tissue, are what should be flagged: a skin biopsy (CMU-1) in pieces, nine tiles of
NCT-CRC. Two distances are compared, both per feature and the median over a slide's tiles: the root mean
square of the z-scores, and with it the constant limit of 2; and the Mahalanobis distance of `FeatureSpread`.

    python benchmarks/out_of_distribution.py --data ../shared/data
    python benchmarks/out_of_distribution.py --data ../shared/data --drawn results/demo-cohort
    python benchmarks/out_of_distribution.py --data ../shared/data --encoder torchvision:mobilenet_v2 \
        --weights ../shared/data/weights/mobilenet_v2_imagenet_q8dequant_fp16.pt --input-px 96
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import openslide
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

from stain_shift import SHIFTS, read_drawn, read_patients
from wsi_kd.core.files import publish_json
from wsi_kd.features.encoders import Encoder
from wsi_kd.inference.likeness import UNLIKE, calibrate_limit
from wsi_kd.mil.feature_spread import FeatureSpread
from wsi_kd.mil.scaling import FeatureScaling
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps.encoder import build_encoder

SPLITS: Final = 40
TRAIN, VAL = 0.6, 0.8
PIECE_PX: Final = 512
"""Edge of the pieces that the skin biopsy is cut into; each counts as a slide."""
PALEST: Final = 225
"""Tiles whose darkest mean color is paler hold no tissue."""
SCANNED: Final = "as scanned"
Slides = list[Tensor]
"""Features (tiles, features) of each slide."""


class Yardstick(NamedTuple):
    """What a training part knows of its own tiles."""

    scaling: FeatureScaling
    plain: FeatureSpread
    """Not fitted: the root mean square of z-scores."""
    spread: FeatureSpread

    def distances(self, slide: Tensor) -> dict[str, float]:
        """Return a slide's distance by either measure."""
        z_scores = self.scaling(slide)
        return {
            "rms z": float(self.plain(z_scores).median()),
            "spread": float(self.spread(z_scores).median()),
        }


def fit_yardstick(slides: Slides) -> Yardstick:
    """Fit moments and covariance on training slides."""
    rows = torch.cat(slides)
    width = rows.shape[1]
    scaling, spread = FeatureScaling(width), FeatureSpread(width)
    deviation, mean = torch.std_mean(rows, dim=0, correction=0)
    scaling.fit(mean=mean, deviation=deviation)
    z_scores = scaling(rows)
    spread.fit((z_scores.T @ z_scores).double() / len(rows))
    return Yardstick(scaling, FeatureSpread(width), spread)


def cut(pixels: np.ndarray, edge: int) -> np.ndarray:
    """Cut an image into tiles that hold tissue (tiles, edge, edge, 3)."""
    height, width = pixels.shape[:2]
    corners = [(y, x) for y in range(0, height - edge + 1, edge) for x in range(0, width - edge + 1, edge)]
    tiles = np.stack([pixels[y : y + edge, x : x + edge] for y, x in corners])
    return tiles[tiles.mean(axis=(1, 2)).min(axis=1) < PALEST]


def other_tissue(data: Path, *, edge: int, tiles: int, seed: int) -> dict[str, list[np.ndarray]]:
    """Return tiles of a skin biopsy's pieces and of nine colon tissues."""
    rng = np.random.default_rng(seed)
    with openslide.OpenSlide(str(data / "wsi" / "CMU-1-Small-Region.svs")) as slide:
        skin = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    pieces = [
        skin[y : y + PIECE_PX, x : x + PIECE_PX]
        for y in range(0, skin.shape[0] - PIECE_PX + 1, PIECE_PX)
        for x in range(0, skin.shape[1] - PIECE_PX + 1, PIECE_PX)
    ]
    paths = sorted((data / "patches" / "nct-crc-samples").glob("*.tif"))
    colon = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    found = {
        "skin (CMU-1)": [cut(piece, edge) for piece in pieces],
        "NCT-CRC tiles": [cut(image, min(edge, *image.shape[:2])) for image in colon],
    }
    return {
        name: [one[rng.permutation(len(one))[:tiles]] for one in slides if len(one) > 0]
        for name, slides in found.items()
    }


def encode_all(slides: Mapping[str, Sequence[np.ndarray]], encoder: Encoder) -> dict[str, Slides]:
    """Turn every slide's tiles into features."""
    return {
        name: [torch.from_numpy(encoder(tiles)).float() for tiles in parts] for name, parts in slides.items()
    }


def measure(features: Mapping[str, Slides], *, seed: int) -> dict[str, dict[str, float]]:
    """Return, a condition, the mean over splits of AUROCs and of the shares flagged."""
    rng = np.random.default_rng(seed)
    count = len(features[SCANNED])
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in features}
    for _ in range(SPLITS):
        train, val, test = np.split(rng.permutation(count), [int(TRAIN * count), int(VAL * count)])
        yardstick = fit_yardstick([features[SCANNED][index] for index in train])
        known = [yardstick.distances(features[SCANNED][index]) for index in val]
        cases = [str(index) for index in val]
        limits = {key: calibrate_limit([one[key] for one in known], cases).limit for key in known[0]}
        usual = [yardstick.distances(features[SCANNED][index]) for index in test]
        for name, slides in features.items():
            chosen = [slides[index] for index in test] if name in SHIFTS else slides
            shown = [yardstick.distances(slide) for slide in chosen]
            rows[name].append(_row(usual, shown, limits=limits))
    return {
        name: {key: float(np.mean([row[key] for row in found])) for key in found[0]}
        for name, found in rows.items()
    }


def _row(
    usual: list[dict[str, float]], shown: list[dict[str, float]], *, limits: Mapping[str, float]
) -> dict[str, float]:
    truth = [0] * len(usual) + [1] * len(shown)
    row = {"constant": float(np.mean([one["rms z"] > UNLIKE for one in shown]))}
    for key, limit in limits.items():
        row[f"auroc {key}"] = float(roc_auc_score(truth, [one[key] for one in (*usual, *shown)]))
        row[f"flagged {key}"] = float(np.mean([one[key] > limit for one in shown]))
    return row


def main() -> None:
    """Print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds patches/ and wsi/")
    parser.add_argument("--drawn", type=Path, help="a drawn cohort in place of the nuclei")
    parser.add_argument("--encoder", default="stain_texture")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--input-px", type=int)
    parser.add_argument("--tiles", type=int, default=60, help="tiles of each slide, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    table = run(given)
    print("| slides | AUROC, rms z | flagged, rms z > 2 | AUROC, spread | flagged, calibrated limit |")
    print("|---|---|---|---|---|")
    for name, row in table.items():
        first, second = (
            "" if name == SCANNED else f"{row[f'auroc {key}']:.2f}" for key in ("rms z", "spread")
        )
        print(f"| {name} | {first} | {row['constant']:.0%} | {second} | {row['flagged spread']:.1%} |")
    if given.json:
        publish_json(given.json, table)


def run(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Read, change, encode and measure."""
    torch.set_num_threads(1)
    halves = (0.5, 0.5, 0.5) if given.weights else None
    encoder = build_encoder(
        EmbedSettings(
            encoder=given.encoder,
            weights=given.weights,
            input_px=given.input_px,
            pixel_mean=halves,
            pixel_std=halves,
            device="cpu",
        )
    )
    patients = (
        read_patients(given.data, nuclei=given.tiles, seed=given.seed)
        if given.drawn is None
        else read_drawn(given.drawn, count=given.tiles, seed=given.seed)
    )
    rng = np.random.default_rng(given.seed)
    shown = {name: [change(one.tiles, rng) for one in patients] for name, change in SHIFTS.items()}
    edge = patients[0].tiles.shape[1]
    shown |= other_tissue(given.data, edge=edge, tiles=given.tiles, seed=given.seed)
    return measure(encode_all(shown, encoder), seed=given.seed)


if __name__ == "__main__":
    main()
