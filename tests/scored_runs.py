"""A run's folder with features, split, statuses and untrained models: no slide, no training."""

import numpy as np
import torch

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.inference.likeness import Limit
from wsi_kd.mil.registry import create_model
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.evaluate import run_evaluate
from wsi_kd.steps.predict import run_predict
from wsi_kd.steps.status import write_status
from wsi_kd.training.checkpoint import save_model

CLASSES = ("normal", "tumor")
NAMES = ["contrast", "mean_red", "mean_green", "mean_blue"]
SETTINGS = parse_settings({"evaluate": {"bootstrap_samples": 100}}, where="test")
LIMIT = Limit(4.0, "lognormal", 0.05, 6, 6, "val")
MODEL = {
    "teacher": "gated_abmil",
    "feature_dim": 4,
    "classes": 2,
    "hidden_dim": 8,
    "attention_dim": 4,
    "dropout": 0.25,
    "student_hidden_dim": 0,
}


class Run:
    """A run's folder with features, split, statuses and untrained models."""

    def __init__(self, root, *, classes=CLASSES):
        self.root = root
        self.classes = classes
        self.rows = [_row(root, index, classes) for index in range(24)]
        self.manifest = Manifest(tuple(self.rows), classes)
        ids = [row.slide_id for row in self.rows[:-1]]  # the last slide failed
        self.folds = [
            Fold(tuple(ids[:8]), tuple(ids[8:14]), tuple(ids[14:])),
            Fold(tuple(ids[12:]), tuple(ids[6:12]), tuple(ids[:6])),
        ]
        for index, row in enumerate(self.rows[:-1]):
            write_features(root / "features" / f"{row.slide_id}.h5", features_of(row, index))
        self.write_splits()
        statuses = [StatusRow(i, SlideStatus.OK, "", "embed", 30, 1.0, 0.5, "vendor", 0.1) for i in ids]
        failed = StatusRow(
            self.rows[-1].slide_id, SlideStatus.EMPTY, "no tissue", "mask", 0, 0.0, 0.5, "vendor", 0.1
        )
        write_status(root / "status.csv", [*statuses, failed], stamp("status", {}))

    def write_splits(self):
        parts = [{i: name for name, ids in fold._asdict().items() for i in ids} for fold in self.folds]
        rows = [
            [row.slide_id, row.case_id, row.label, *(part.get(row.slide_id, "excluded") for part in parts)]
            for row in self.rows
        ]
        columns = ["slide_id", "case_id", "label", "fold_0", "fold_1"]
        header = {**stamp("splits", {}), "classes": list(self.classes)}
        publish_table(self.root / "splits.csv", columns, rows, stamp=header)

    def save_model(self, recipe, *, fold, seed=0, **changes):
        torch.manual_seed(10 * seed + fold)
        arguments = {**MODEL, "classes": len(self.classes), "with_student": recipe == "weno"}
        header = {
            **stamp("model", {}),
            "recipe": recipe,
            "model": arguments,
            "classes": list(self.classes),
            "feature_dim": 4,
            "encoder": "made_up",
            "encoder_settings": {},
            "weights_hash": "w",
            "student_pooling": "topk",
            "top_k": 3,
            "thresholds": {
                "teacher": 0.45,
                **dict.fromkeys(
                    ("student", "student_max", "student_topk"), 0.5 if recipe == "weno" else None
                ),
            },
            "threshold_rule": "youden",
            "threshold_split": "val",
            "out_of_distribution": LIMIT._asdict(),
            "seed": seed,
            "fold": fold,
            "epoch": 3,
        }
        directory = self.root / "models" / recipe / f"seed{seed}" / f"fold{fold}"
        save_model(directory, "model", create_model(**arguments), header={**header, **changes})
        save_model(directory, "last", create_model(**arguments), header={**header, **changes, "epoch": 9})
        return directory

    def predict(self, recipe, *, fold, seed=0):
        out_dir = self.root / "predictions" / recipe / f"seed{seed}" / f"fold{fold}"
        run_predict(
            self.manifest,
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            model_dir=self.save_model(recipe, fold=fold, seed=seed),
            fold=fold,
            out_dir=out_dir,
            settings=Settings(),
        )
        return out_dir

    def evaluate(self, folders):
        return run_evaluate(
            self.manifest,
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            status_path=self.root / "status.csv",
            prediction_dirs=folders,
            out_dir=self.root / "evaluation",
            settings=SETTINGS,
        )


def _row(root, index, classes):
    label = classes[index % len(classes)]
    path = root / f"s{index}.tif"
    return SlideRow(
        slide_id=f"s{index}",
        path=path,
        label=label,
        case_id=f"case{index // 2 if index < 4 else index}",
        split="",
        slide_mpp=None,
        annotation=root / f"s{index}.geojson" if label != classes[0] else None,
        site="site A",
    )


def features_of(row, index, **changes):
    generator = np.random.default_rng(index)
    labels = (generator.random(30) < 0.3) & (row.label != "normal")
    features = generator.normal(size=(30, 4)) + 2.0 * labels[:, None]
    header = {
        **stamp("features", {}),
        "status": "ok",
        "reason": "",
        "encoder": "made_up",
        "encoder_settings": {},
        "weights_hash": "w",
        "feature_dim": 4,
        "feature_names": NAMES,
        "tile_level0_px": 256.5,
    }
    known = labels.astype(np.int8) if row.label != "normal" else np.full(30, -1, dtype=np.int8)
    coords = generator.integers(0, 9999, (30, 2))
    return FeatureFile(row.slide_id, features.astype(np.float16), coords, known, {**header, **changes})
