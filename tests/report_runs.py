"""A run to report on, made up slide by slide; every number in it comes from the real evaluation code."""

from collections import Counter
from functools import cache

import numpy as np
from checked_precision import drawn_line
from hostile_texts import hostile
from reporting_parts import made_sources

from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.evaluation.against_baseline import MeasuredRecipe, compare_recipes
from wsi_kd.evaluation.froc import detect
from wsi_kd.evaluation.localization import CONVENTIONS, TileScores, measure_tiles
from wsi_kd.evaluation.slide_metrics import SlidePlan, SlideScores, measure_slides
from wsi_kd.inference.slide_prediction import SLIDE_SCORES
from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.build import build_page
from wsi_kd.report.page import Card, Picture, Strip
from wsi_kd.report.record import ModelRun, RunRecord
from wsi_kd.report.render import render_page
from wsi_kd.report.reporting_items import reporting_items
from wsi_kd.report.slide_quality import slide_quality
from wsi_kd.report.timings import JobTiming

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs="
BOOTSTRAP = {"samples": 100, "confidence": 0.95, "seed": 0}
ROW_OF_TILES = np.array([[0, 0], [256, 0], [512, 0]], np.int64)
HEADER = {
    "facts": {"format": "openslide/aperio", "vendor": "aperio", "scanner": "ScanScope", "objective": "20"},
    "pen_mm2": 0.25,
    "fold_mm2": 0.0,
    "quality_counts": {"tiles": 90, "blurred": 9, "pen": 0, "background": 18},
    "dropped_blurred": 10,
}
"""What the header of a slide's feature file tells the page."""


@cache
def tile_metrics(seeds, folds):
    """Instance metrics of three tiles in each of four slides a fold; no text of the run is in them."""
    parts = []
    for seed in seeds:
        for fold in range(folds):
            labels = np.tile([False, False, True], 4)
            scores = np.random.default_rng([seed, fold]).random(12) + labels * 0.5
            parts.append(
                TileScores(
                    seed=seed,
                    fold=fold,
                    scores=scores,
                    labels=labels,
                    slide=np.repeat(np.arange(4), 3),
                    case_ids=tuple(f"{fold}{slide // 2}" for slide in range(4)),
                    positive_slides=np.array([True, False, True, True]),
                    detections=tuple(
                        detect(
                            scores[first : first + 3],
                            labels[first : first + 3].astype(np.int8),
                            coords=ROW_OF_TILES,
                            tile_level0_px=256.0,
                        )
                        for first in range(0, 12, 3)
                    ),
                )
            )
    return measure_tiles(parts, convention="", **BOOTSTRAP)


class RunMaker:
    """Makes a `RunRecord`; `text` changes every text that comes from outside."""

    def __init__(
        self, *, text=lambda plain: plain, recipes=("abmil", "weno"), seeds=(0,), folds=2, slides=24
    ):
        self.text, self.recipes, self.seeds, self.folds, self.slides = text, recipes, seeds, folds, slides
        self.classes = [text("normal"), text("tumor")]

    def label(self, slide):
        return slide % 2

    def row(self, slide, *, recipe, seed):
        rng = np.random.default_rng([slide, seed, len(recipe)])
        teacher, student = 1 / (1 + np.exp(-rng.normal((self.label(slide) * 2 - 1) * 1.2, 1.0, size=2)))
        student = float(student) if recipe == "weno" else None
        return PredictionRow(
            slide_id=self.text(f"slide_{slide}"),
            case_id=self.text(f"case_{slide // 2}"),
            site=self.text("site"),
            label=self.classes[self.label(slide)],
            part="test",
            teacher_probability=float(teacher),
            student_probability=student,
            student_max_probability=None if student is None else student**0.5,
            student_topk_probability=student,
            teacher_call=self.classes[int(teacher >= 0.5)],
            student_call="" if student is None else self.classes[int(student >= 0.4)],
            threshold_teacher=0.5,
            threshold_student=None if student is None else 0.4,
            threshold_student_max=None if student is None else 0.6,
            threshold_student_topk=None if student is None else 0.4,
            feature_distance=1.0,
            out_of_distribution=False,
            class_probabilities=(1 - float(teacher), float(teacher)),
        )

    def models(self):
        return tuple(
            ModelRun(
                recipe,
                seed,
                fold,
                selected_epoch=3,
                history=self.history(recipe),
                test=tuple(
                    self.row(slide, recipe=recipe, seed=seed)
                    for slide in range(self.slides)
                    if slide // 2 % self.folds == fold
                ),
            )
            for recipe in self.recipes
            for seed in self.seeds
            for fold in range(self.folds)
        )

    def history(self, recipe):
        epochs = np.arange(8.0)
        names = ["train_teacher_loss", "val_teacher_loss", "val_teacher_auc"]
        names += ["val_student_loss", "val_student_auc"] if recipe == "weno" else []
        return {"epoch": epochs, **{name: np.exp(-epochs / 4) for name in names}}

    def part(self, model, rows, score):
        values = np.array([getattr(row, f"{score}_probability") for row in rows])
        threshold = {"teacher": 0.5, "student_max": 0.6}.get(score, 0.4)
        return SlideScores(
            seed=model.seed,
            fold=model.fold,
            slide_ids=tuple(row.slide_id for row in rows),
            case_ids=tuple(row.case_id for row in rows),
            labels=np.array([self.classes.index(row.label) for row in rows]),
            scores=values,
            calls=values >= threshold,
            class_probabilities=None,
            threshold=threshold,
        )

    def scores(self, models, score):
        """Measure a score; the validation slides of a model are made up as its test slides are."""
        validation = [
            [
                self.row(slide, recipe=model.recipe, seed=model.seed)
                for slide in range(1000 + 100 * model.fold, 1016 + 100 * model.fold)
            ]
            for model in models
        ]
        parts = [self.part(model, model.test, score) for model in models]
        chosen_on = (self.part(model, rows, score) for model, rows in zip(models, validation, strict=True))
        columns = {
            self.text("site"): {name: self.text("north") for part in parts for name in part.slide_ids[::2]}
        }
        return measure_slides(
            parts, **BOOTSTRAP, plan=SlidePlan(validation=tuple(chosen_on), columns=columns)
        )

    def recipe_metrics(self, models):
        found = self.measured(models)
        measured = {
            "scores": {name: score.metrics for name, score in found.slides.items()},
            "instances": {name: score.metrics for name, score in found.tiles.items()},
        }
        return {
            **measured,
            "instances_reason": "",
            "models": self.model_records(models),
            "last": measured,
        }

    def measured(self, models):
        student = models[0].recipe == "weno"
        tiles = tile_metrics(self.seeds, self.folds)
        return MeasuredRecipe(
            slides={name: self.scores(models, name) for name in SLIDE_SCORES[: 4 if student else 1]},
            tiles={
                name: tiles._replace(metrics={**tiles.metrics, "convention": convention})
                for name, convention in CONVENTIONS.items()
                if student or name != "student"
            },
        )

    def model_records(self, models):
        student = models[0].recipe == "weno"
        return [
            {
                "seed": model.seed,
                "fold": model.fold,
                "epoch": 3,
                "thresholds": {"teacher": 0.5, "student": 0.4 if student else None},
                "student_pooling": "topk",
                "top_k": 5,
                "threshold_rule": "youden",
                "threshold_split": "val",
                "weights_sha256": "ab" * 32,
            }
            for model in models
        ]

    def statuses(self):
        used = [
            StatusRow(self.text(f"slide_{slide}"), SlideStatus.OK, "", "embed", 100, 12.5, 0.5, "vendor", 1.0)
            for slide in range(self.slides)
        ]
        reason = self.text("no tissue found")
        return (*used, StatusRow(self.text("glass"), SlideStatus.EMPTY, reason, "mask", 0, 0.0, 0.0, "", 1.0))

    def qualities(self):
        return tuple(
            slide_quality(row, HEADER if row.status == SlideStatus.OK else None) for row in self.statuses()
        )

    def jobs(self):
        names = [("train", self.text(f"{recipe}-seed0-fold0")) for recipe in self.recipes]
        return (
            JobTiming("mask", "", 12.0, 11.0, 300.0),
            *(JobTiming(*name, 75.0, 60.5, 900.5) for name in names),
        )

    def metrics(self, models):
        counts = dict(Counter(self.classes[self.label(slide)] for slide in range(self.slides)))
        part = {"slides": self.slides // 2, "cases": self.slides // 4, "slides_per_class": counts}
        by_recipe = {name: [model for model in models if model.recipe == name] for name in self.recipes}
        return {
            **stamp("metrics", {"evaluate": {"bootstrap_samples": 100, "confidence": 0.95, "seed": 0}}),
            "classes": self.classes,
            "positive_classes": self.classes[1:],
            "cohort": {
                "slides": self.slides + 1,
                "cases": self.slides // 2,
                "slides_per_class": counts,
                "unlabeled": 0,
                "flow": {"ok": self.slides, "empty": 1},
                "failed": [],
                "folds": [{"fold": fold, "part": "test", **part} for fold in range(self.folds)],
                "tiles": 2400,
                "labeled_tiles": 1200,
                "positive_tiles": 90,
            },
            "recipes": {name: self.recipe_metrics(chosen) for name, chosen in by_recipe.items()},
            "baselines": {"bag_mean": self.scores(by_recipe[self.recipes[0]], "teacher").metrics},
            "comparisons": compare_recipes(
                {name: self.measured(chosen) for name, chosen in by_recipe.items()},
                baseline="abmil",
                confidence=0.95,
            ),
            "research_only": RESEARCH_ONLY,
        }

    def card(self):
        text = self.text
        picture = Picture(PIXEL, text("alt"), text("caption"), width_px=1, height_px=1)
        facts = ((text("Case"), text("case_1")),)
        strip = Strip(text("Highest student probability"), (picture, picture))
        return Card(text("slide_1"), text("right"), True, facts, (picture,), text("note"), (strip,))

    def record(self):
        models = self.models()
        metrics = self.metrics(models)
        return RunRecord(
            title=self.text("A run"),
            metrics=metrics,
            slides=self.qualities(),
            models=models,
            jobs=self.jobs(),
            cards=(self.card(),),
            settings={"tile": {"positive_names": [self.text("tumor")]}},
            git=self.text("abc"),
            commands=(self.text("snakemake"),),
            reporting=self.reporting(models, metrics),
            precision=(drawn_line(self.text, self.recipes[0]),),
        )

    def reporting(self, models, metrics):
        return reporting_items(made_sources(self, models, metrics), settings={"title": self.text("A run")})


def hostile_page(folder):
    """Write the page of a run whose every text is hostile; return its path."""
    page = folder / "index.html"
    record = RunMaker(text=hostile, recipes=("weno",), folds=1).record()
    page.write_text(render_page(build_page(record)), encoding="utf-8")
    return page
