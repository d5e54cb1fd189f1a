"""A run to report on, made up slide by slide; every number in it comes from the real evaluation code."""

from collections import Counter
from functools import cache

import numpy as np

from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.evaluation.against_baseline import MeasuredRecipe, compare_recipes
from wsi_kd.evaluation.localization import CONVENTIONS, TileScores, measure_tiles
from wsi_kd.evaluation.slide_metrics import SlideScores, measure_slides
from wsi_kd.inference.predict import SLIDE_SCORES
from wsi_kd.inference.tables import PredictionRow
from wsi_kd.report.page import Card, Picture
from wsi_kd.report.record import ModelRun, RunRecord

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs="
BOOTSTRAP = {"samples": 100, "confidence": 0.95, "seed": 0}


@cache
def tile_metrics(seeds, folds):
    """Instance metrics of three tiles in each of four slides a fold; no text of the run is in them."""
    parts = []
    for seed in seeds:
        for fold in range(folds):
            labels = np.tile([False, False, True], 4)
            parts.append(
                TileScores(
                    seed=seed,
                    fold=fold,
                    scores=np.random.default_rng([seed, fold]).random(12) + labels * 0.5,
                    labels=labels,
                    slide=np.repeat(np.arange(4), 3),
                    case_ids=tuple(f"{fold}{slide // 2}" for slide in range(4)),
                    positive_slides=np.array([True, False, True, True]),
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

    def scores(self, models, score):
        parts = []
        for model in models:
            values = np.array([getattr(row, f"{score}_probability") for row in model.test])
            threshold = {"teacher": 0.5, "student_max": 0.6}.get(score, 0.4)
            parts.append(
                SlideScores(
                    seed=model.seed,
                    fold=model.fold,
                    slide_ids=tuple(row.slide_id for row in model.test),
                    case_ids=tuple(row.case_id for row in model.test),
                    labels=np.array([self.classes.index(row.label) for row in model.test]),
                    scores=values,
                    calls=values >= threshold,
                    class_probabilities=None,
                    threshold=threshold,
                )
            )
        return measure_slides(parts, **BOOTSTRAP)

    def recipe_metrics(self, models):
        found = self.measured(models)
        measured = {
            "scores": {name: score.metrics for name, score in found.slides.items()},
            "instances": {name: score.metrics for name, score in found.tiles.items()},
        }
        return {**measured, "models": self.model_records(models), "last": measured}

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
        return Card(
            text("slide_1"), text("right"), True, ((text("Case"), text("case_1")),), (picture,), text("note")
        )

    def record(self):
        models = self.models()
        return RunRecord(
            title=self.text("A run"),
            metrics=self.metrics(models),
            statuses=self.statuses(),
            models=models,
            cards=(self.card(),),
            settings={"tile": {"positive_names": [self.text("tumor")]}},
            git=self.text("abc"),
            commands=(self.text("snakemake"),),
        )
