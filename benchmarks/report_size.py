"""How large the report page is and how long it takes to draw, by the number of slides, on drawn runs.

    python benchmarks/report_size.py
    python benchmarks/report_size.py --slides 3000 --resamples 1000 --out page.html --json FILE

A run of two recipes (one with a student), five folds and one seed: scores, labels, two slides a patient, and
the qualities of slides are drawn, one slide in fifty failed. Pictures are left out: the gallery's number does
not grow with the cohort. Seconds are the processor's for this process alone.
"""

import argparse
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_json, publish_text
from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.evaluation.scored_slides import SlideScores
from wsi_kd.evaluation.slide_metrics import SlidePlan, measure_slides
from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.build import build_page
from wsi_kd.report.record import ModelRun, RunRecord
from wsi_kd.report.render import render_page
from wsi_kd.report.reporting_items import reporting_items
from wsi_kd.report.reporting_sources import ReportingSources, SplitFacts
from wsi_kd.report.slide_quality import SlideQuality, slide_quality

CLASSES: Final = ["normal", "tumor"]
FOLDS: Final = 5
RECIPES: Final = {"abmil": ("teacher",), "weno": ("teacher", "student")}
HEADER: Final = {
    "facts": {
        "format": "openslide/aperio",
        "vendor": "aperio",
        "scanner": "ScanScope AT2",
        "objective": "40",
    },
    "pen_mm2": 0.5,
    "fold_mm2": 0.1,
}


def draw_scores(slides: np.ndarray, fold: int) -> SlideScores:
    """Scores of the slides of one part; every second slide is positive."""
    labels = slides % 2
    logits = np.random.default_rng([fold, len(slides)]).normal(2.4 * labels - 1.2, 1.2)
    scores = 1 / (1 + np.exp(-logits))
    return SlideScores(
        seed=0,
        fold=fold,
        slide_ids=tuple(f"slide_{slide:05d}" for slide in slides),
        case_ids=tuple(f"case_{slide // 2:05d}" for slide in slides),
        labels=labels.astype(np.int64),
        scores=scores,
        calls=scores >= 0.5,
        class_probabilities=None,
        threshold=0.5,
    )


def prediction(part: SlideScores, at: int) -> PredictionRow:
    """One line of the table of predictions."""
    score = float(part.scores[at])
    values: dict[str, Any] = dict.fromkeys(PredictionRow._fields, 0.5)
    label = CLASSES[int(part.labels[at])]
    values |= {"slide_id": part.slide_ids[at], "case_id": part.case_ids[at], "site": "", "label": label}
    values |= {"part": "test", "teacher_call": label, "student_call": label, "out_of_distribution": False}
    return PredictionRow(**{**values, "teacher_probability": score, "student_probability": score})


def draw_slides(count: int) -> tuple[SlideQuality, ...]:
    """Qualities of slides: one in fifty holds no tissue."""
    rng = np.random.default_rng(0)
    found = []
    for slide in range(count):
        blurred, empty = (int(part) for part in rng.integers(0, 900, 2))
        counts = {"tiles": 9000, "blurred": blurred, "pen": 0, "background": empty}
        failed = slide % 50 == 0
        reason = "no tissue: 0.0% of the slide is stained" if failed else ""
        status = SlideStatus.EMPTY if failed else SlideStatus.OK
        tiles, tissue = (0, 0.0) if failed else (9000, float(rng.uniform(20, 300)))
        row = StatusRow(f"slide_{slide:05d}", status, reason, "embed", tiles, tissue, 0.2528, "vendor", 30.0)
        found.append(slide_quality(row, None if failed else {**HEADER, "quality_counts": counts}))
    return tuple(found)


def draw_metrics(
    parts: list[SlideScores], validation: list[SlideScores], *, resamples: int
) -> dict[str, Any]:
    """The members of metrics.json that the page shows; every score is measured by itself."""
    half = {name: "north" if at % 2 else "south" for part in parts for at, name in enumerate(part.slide_ids)}
    plan = SlidePlan(validation=tuple(validation), columns={"site": half})
    slides = sum(len(part.labels) for part in parts)
    measured = measure_slides(parts, samples=resamples, confidence=0.95, seed=0, plan=plan).metrics
    model = {
        "seed": 0,
        "epoch": 9,
        "thresholds": {"teacher": 0.5, "student": 0.5},
        "threshold_rule": "youden",
    }
    model |= {"threshold_split": "val", "student_pooling": "topk", "top_k": 5, "weights_sha256": "0" * 64}
    recipe = {"instances": {}, "instances_reason": "no tile has a label"}
    recipe["models"] = [{**model, "fold": fold} for fold in range(FOLDS)]
    counts = dict.fromkeys(CLASSES, slides // 2)
    cohort = {
        "slides": slides,
        "cases": slides // 2,
        "slides_per_class": counts,
        "unlabeled": 0,
        "failed": [],
    }
    cohort |= {"flow": {"ok": slides}, "folds": [], "tiles": 0, "labeled_tiles": 0, "positive_tiles": 0}
    recipes = {
        name: {**recipe, "scores": dict.fromkeys(scores, measured), "last": {"scores": {}, "instances": {}}}
        for name, scores in RECIPES.items()
    }
    nothing = {"baseline": "abmil", "reason": "nothing is compared here", "slides": [], "tiles": []}
    return {
        **stamp("metrics", {}),
        "classes": CLASSES,
        "positive_classes": CLASSES[1:],
        "cohort": cohort,
        "recipes": recipes,
        "baselines": {},
        "comparisons": nothing,
        "research_only": RESEARCH_ONLY,
    }


def draw_run(slides: int, *, resamples: int) -> RunRecord:
    """A run as the report step reads it."""
    parts = [draw_scores(np.arange(slides)[fold::FOLDS], fold) for fold in range(FOLDS)]
    validation = [draw_scores(np.arange(slides, slides + slides // 5), fold) for fold in range(FOLDS)]
    metrics: Any = draw_metrics(parts, validation, resamples=resamples)
    history = {name: np.exp(-np.arange(100.0) / 30) for name in ("train_teacher_loss", "val_teacher_loss")}
    models = tuple(
        ModelRun(
            recipe,
            0,
            part.fold or 0,
            9,
            history,
            tuple(prediction(part, at) for at in range(len(part.labels))),
        )
        for recipe in RECIPES
        for part in parts
    )
    qualities = draw_slides(slides)
    reporting = reporting_items(draw_sources(metrics, qualities, models), settings={})
    return RunRecord(f"{slides} slides", metrics, qualities, models, (), (), {}, "", (), reporting)


def draw_sources(
    metrics: Any, slides: tuple[SlideQuality, ...], models: tuple[ModelRun, ...]
) -> ReportingSources:
    """What the checklist is made from; the split is the models' test parts alone."""
    first = [model for model in models if model.recipe == models[0].recipe]
    folds = tuple(Fold((), (), tuple(row.slide_id for row in model.test)) for model in first)
    rows = [row for model in first for row in model.test]
    split = SplitFacts(
        folds,
        {row.slide_id: row.case_id for row in rows},
        {row.slide_id: row.label for row in rows},
        {"folds": FOLDS, "seed": 0},
        "0" * 64,
    )
    headers = tuple({"settings": {"train": {}}} for _ in models)
    return ReportingSources(metrics, slides, split, models, headers, {}, {}, (), "")


def main() -> None:
    """Print one line a size: bytes of the page, seconds to draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[30, 300, 3000])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="where the last page is written")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for slides in given.slides:
        run = draw_run(slides, resamples=given.resamples)
        started = time.process_time()
        html = render_page(build_page(run))
        seconds = time.process_time() - started
        rows.append({"slides": slides, "bytes": len(html.encode()), "seconds": round(seconds, 2)})
        print(
            f"{slides:6d} slides: {rows[-1]['bytes'] / 1e6:.2f} MB without pictures, drawn in {seconds:.1f} s"
        )
        if given.out is not None:
            publish_text(given.out, html)
    if given.json is not None:
        publish_json(given.json, {**stamp("benchmark", vars(given) | {"out": "", "json": ""}), "rows": rows})


if __name__ == "__main__":
    main()
