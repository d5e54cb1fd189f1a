"""Finished runs to compare, as files: predictions of made-up models, and the page that compares them."""

from pathlib import Path

import numpy as np

from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_json, publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.tables import PredictionRow, write_predictions
from wsi_kd.steps.compare_runs import run_compare

CLASSES = ("normal", "tumor")
HOSTILE_NAMES = (
    "<script>document.title='taken'<",
    "\"quoted\" & 'run' {{ 7 * 7 }} \u202e żółć 卒",
    "r" * 200,
)
"""Folder names that a page must show as text: markup, quotes, template syntax, reordering, great length."""


class RunFolder:
    """Writes one finished run: slides of two to a case, two folds, each fold's test part the other's val."""

    def __init__(self, root, *, classes=CLASSES, slides=range(40), quality=1.0, seeds=(0,)):
        self.root, self.classes, self.seeds = Path(root), tuple(classes), tuple(seeds)
        self.ids = list(slides)
        self.quality = quality
        self.recipes = {"abmil": False, "weno": True}
        self.label_of = lambda slide: self.classes[slide % len(self.classes)]
        self.case_of = lambda slide: f"case_{slide // 2}"
        half = [[f"s{slide}" for slide in self.ids if slide // 4 % 2 == side] for side in (0, 1)]
        self.folds = [Fold((), tuple(half[1]), tuple(half[0])), Fold((), tuple(half[0]), tuple(half[1]))]

    def row(self, slide, *, part, recipe, seed):
        """One slide's scores: further from the threshold by `quality`, equal in every run but for that."""
        positive = self.label_of(slide) != self.classes[0]
        noise = np.random.default_rng([slide, seed, len(recipe)]).normal(size=2)
        teacher, student = 1 / (1 + np.exp(-(noise + (2 * positive - 1) * self.quality)))
        student = float(student) if self.recipes[recipe] else None
        many = len(self.classes) > 2
        spread = self._by_class(slide, float(teacher)) if many else (1 - float(teacher), float(teacher))
        return PredictionRow(
            slide_id=f"s{slide}",
            case_id=self.case_of(slide),
            site="",
            label=self.label_of(slide),
            part=part,
            teacher_probability=float(teacher),
            student_probability=student,
            student_max_probability=student,
            student_topk_probability=student,
            teacher_call="",
            student_call="",
            threshold_teacher=0.5,
            threshold_student=None if student is None else 0.5,
            threshold_student_max=None if student is None else 0.5,
            threshold_student_topk=None if student is None else 0.5,
            feature_distance=1.0,
            out_of_distribution=False,
            class_probabilities=spread,
            **({"student_class_probabilities": spread} if many and student is not None else {}),
        )

    def _by_class(self, slide, score):
        shares = np.full(len(self.classes), (1 - score) / len(self.classes))
        shares[slide % len(self.classes)] += score
        return tuple(float(share) for share in shares)

    def write(self):
        scores = {recipe: ("teacher", "student")[: 1 + taught] for recipe, taught in self.recipes.items()}
        models = [{"seed": seed, "fold": fold} for seed in self.seeds for fold in range(len(self.folds))]
        for recipe in self.recipes:
            for model in models:
                self._write_predictions(recipe, **model)
                self._write_model(recipe, **model)
        self._write_splits()
        evaluate = {"bootstrap_samples": 200, "confidence": 0.95, "seed": 0, "baseline": "abmil"}
        publish_json(
            self.root / "evaluation" / "metrics.json",
            {
                **stamp("metrics", {"evaluate": evaluate}),
                "classes": list(self.classes),
                "recipes": {
                    recipe: {"models": models, "scores": {name: {} for name in names}}
                    for recipe, names in scores.items()
                },
            },
        )
        return self.root

    def _write_predictions(self, recipe, *, seed, fold):
        rows = [
            self.row(int(slide_id[1:]), part=part, recipe=recipe, seed=seed)
            for part in ("val", "test")
            for slide_id in getattr(self.folds[fold], part)
        ]
        thresholds = {"teacher": 0.5, "student": 0.5 if self.recipes[recipe] else None}
        header = {
            **stamp("predictions", {}),
            "recipe": recipe,
            "seed": seed,
            "fold": fold,
            "thresholds": thresholds,
        }
        path = self.root / "predictions" / recipe / f"seed{seed}" / f"fold{fold}" / "predictions.csv"
        write_predictions(path, rows, classes=self.classes, header=header)

    def _write_model(self, recipe, *, seed, fold):
        folder = self.root / "models" / recipe / f"seed{seed}" / f"fold{fold}"
        train = {"learning_rate": 1e-3 * self.quality, "epochs": 20}
        sections = {"tile": {"tile_px": 256}, "embed": {"weights": "/secret/place/encoder.pt"}}
        header = {**stamp("model", {"train": train}), "recipe": recipe, "sections": sections}
        publish_json(folder / "model.json", header)

    def _write_splits(self):
        parts = [
            {slide: name for name, ids in fold._asdict().items() for slide in ids} for fold in self.folds
        ]
        rows = []
        for slide in self.ids:
            placed = (part.get(f"s{slide}", "") for part in parts)
            rows.append([f"s{slide}", self.case_of(slide), self.label_of(slide), *placed])
        columns = ["slide_id", "case_id", "label", *(f"fold_{index}" for index in range(len(self.folds)))]
        header = {**stamp("splits", {"split": {"folds": len(self.folds)}}), "classes": list(self.classes)}
        publish_table(self.root / "splits.csv", columns, rows, stamp=header)


def compared_page(folder, names=HOSTILE_NAMES):
    """Write runs of these names, the first the best, the last of fewer slides, and return the page's path."""
    folder = Path(folder)
    last = len(names) - 1
    runs = [
        RunFolder(
            folder / name,
            quality=2.0 / (index + 1),
            seeds=(0, 1),
            slides=range(32) if index and index == last else range(40),
        ).write()
        for index, name in enumerate(names)
    ]
    return run_compare(runs, out_dir=folder / "comparison")
