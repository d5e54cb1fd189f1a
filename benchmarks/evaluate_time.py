"""How long `wsi-kd evaluate` measures a large cohort, part by part, on a drawn table of scores.

    python benchmarks/evaluate_time.py
    python benchmarks/evaluate_time.py --slides 300 --seeds 1 --resamples 200 --tiles 1000 --json FILE

Scores, labels, patients (five slides in four of them), two sites and three scanners are drawn; nothing is
read, so this is what measuring costs beside the reading of tables. `share` is each part's share of one slide
score. A run measures of each recipe three different slide scores so, of its last epoch's models the areas
alone, and with annotations its tile scores: `detect` is one slide's tiles with the four scores of a recipe
with student, `tile score` all resamples of one score of `--tile-slides` slides. Seconds are the processor's
for this process alone: others' work on the machine does not count.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from wsi_kd.core.files import publish_json
from wsi_kd.core.provenance import stamp
from wsi_kd.evaluation.calibration_record import calibrate
from wsi_kd.evaluation.curves import score_curves
from wsi_kd.evaluation.decision_curve import decision_curve
from wsi_kd.evaluation.froc import SlideDetections, detect_all
from wsi_kd.evaluation.localization import TileScores, measure_tiles
from wsi_kd.evaluation.operating_points import operating_points
from wsi_kd.evaluation.sampled_scores import SlidePlan, sample_scores
from wsi_kd.evaluation.slide_metrics import SlideScores, measure_slides, summarize_slides

CONFIDENCE: Final = 0.95
EDGE: Final = 256
NAMES: Final = ("attention", "attention_evidence", "evidence", "student")

Row: TypeAlias = dict[str, Any]


class Drawn(NamedTuple):
    """Scores of one model kind: test and validation slides of every seed and fold, and the groups."""

    test: tuple[SlideScores, ...]
    plan: SlidePlan


def draw_scores(slides: int, *, seeds: int, folds: int) -> Drawn:
    """Draw scores that tell the classes apart with an AUC of about 0.9."""
    rng = np.random.default_rng(0)
    labels = (rng.random(slides) < 0.4).astype(np.int64)
    names = np.array([f"slide_{index}" for index in range(slides)])
    cases = np.array([f"case_{index * 4 // 5}" for index in range(slides)])
    test, validation = [], []
    for seed in range(seeds):
        scores = 1.0 / (1.0 + np.exp(-rng.normal(2.0 * labels - 1.0, 1.1)))
        for fold in range(folds):
            for parts, held in ((test, fold), (validation, (fold + 1) % folds)):
                chosen = np.flatnonzero(np.arange(slides) % folds == held)
                values = scores[chosen]
                ids, patients = tuple(names[chosen].tolist()), tuple(cases[chosen].tolist())
                truth, calls = labels[chosen], values >= 0.5
                parts.append(SlideScores(seed, fold, ids, patients, truth, values, calls, None, 0.5))
    columns = {
        "site": {name: f"site {index % 2}" for index, name in enumerate(names.tolist())},
        "scanner": {name: f"scanner {index % 3}" for index, name in enumerate(names.tolist())},
    }
    return Drawn(tuple(test), SlidePlan(tuple(validation), columns))


def draw_tiles(tiles: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Draw one slide: positions on a square, a round lesion, four scores."""
    side = int(np.ceil(tiles**0.5))
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)[:tiles]
    labels = (((cells - side / 3) ** 2).sum(axis=1) < (side / 8) ** 2).astype(np.int8)
    scores = {name: rng.normal(labels.astype(np.float64), 1.0) for name in NAMES}
    return (cells * EDGE).astype(np.int64), labels, scores


def seconds_of(work: Callable[[], object]) -> float:
    """Return the processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure_parts(drawn: Drawn, *, resamples: int) -> Iterator[Row]:
    """Time one slide score whole, and what it consists of."""
    arguments = {"samples": resamples, "confidence": CONFIDENCE, "seed": 0}
    sampled = sample_scores(drawn.test, **arguments)
    whole = seconds_of(lambda: measure_slides(drawn.test, **arguments, plan=drawn.plan))
    without = drawn.plan._replace(columns={})
    ungrouped = seconds_of(lambda: measure_slides(drawn.test, **arguments, plan=without))
    parts: dict[str, float] = {
        "areas and calls": seconds_of(lambda: summarize_slides(drawn.test, **arguments)),
        "operating points": seconds_of(lambda: operating_points(sampled, drawn.plan)),
        "calibration": seconds_of(lambda: calibrate(sampled, drawn.plan.validation)),
        "decision curve": seconds_of(lambda: decision_curve(sampled, scaled=None)),
        "curves": seconds_of(lambda: score_curves(sampled)),
        "subgroups": whole - ungrouped,
    }
    yield {"part": "slide score", "seconds": whole, "share": 1.0}
    for name, seconds in parts.items():
        yield {"part": name, "seconds": seconds, "share": seconds / whole}


def measure_detections(tiles: int, *, slides: int, seeds: int, resamples: int) -> Iterator[Row]:
    """Time the detections of one slide, and one tile score of many slides with all resamples."""
    rng = np.random.default_rng(1)
    coords, labels, scores = draw_tiles(tiles, rng)
    detect = seconds_of(lambda: detect_all(scores, labels, coords=coords, tile_level0_px=float(EDGE)))
    yield {"part": "detect", "tiles": tiles, "seconds": detect, "seconds_per_1000": detect * 1000 / tiles}
    parts = [_tile_part(slides, tiles, seed=seed) for seed in range(seeds)]
    arguments = {"convention": "", "samples": resamples, "confidence": CONFIDENCE, "seed": 0}
    whole = seconds_of(lambda: measure_tiles(parts, **arguments))
    yield {"part": "tile score", "slides": slides, "tiles": tiles, "seconds": whole}


def _tile_part(slides: int, tiles: int, *, seed: int) -> TileScores:
    rng = np.random.default_rng(seed)
    scores, labels, found = [], [], []
    for index in range(slides):
        coords, truth, drawn = draw_tiles(tiles, rng)
        truth = truth * np.int8(index % 2)
        scores.append(drawn["student"].astype(np.float64))
        labels.append(truth == 1)
        one: Mapping[str, SlideDetections] = detect_all(
            {"student": drawn["student"]}, truth, coords=coords, tile_level0_px=float(EDGE)
        )
        found.append(one["student"])
    return TileScores(
        seed=seed,
        fold=0,
        scores=np.concatenate(scores),
        labels=np.concatenate(labels),
        slide=np.repeat(np.arange(slides), tiles),
        case_ids=tuple(f"case_{index * 4 // 5}" for index in range(slides)),
        positive_slides=np.arange(slides) % 2 == 1,
        detections=tuple(found),
    )


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=3000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--tiles", type=int, default=15000, help="of the slide whose detections are timed")
    parser.add_argument("--tile-slides", type=int, default=100, help="slides of the tile score")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    drawn = draw_scores(asked.slides, seeds=asked.seeds, folds=asked.folds)
    rows = list(measure_parts(drawn, resamples=asked.resamples))
    peak_slides = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows += measure_detections(
        asked.tiles, slides=asked.tile_slides, seeds=asked.seeds, resamples=asked.resamples
    )
    about = {key: value for key, value in vars(asked).items() if key != "json"}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    for row in rows:
        share = f"{row['share']:7.1%}" if "share" in row else ""
        print(f"{row['part']:<18} {row['seconds']:8.2f} s {share}")
    print(f"peak memory of the slide scores: {peak_slides:.0f} MiB")
    if asked.json is not None:
        record = {**stamp("benchmark", about), "peak_slides_mib": peak_slides, "rows": rows}
        publish_json(asked.json, record)


if __name__ == "__main__":
    main()
