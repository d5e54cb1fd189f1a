"""A cohort of drawn features with its split, for tests of the step `train`."""

from pathlib import Path

import numpy as np

from wsi_kd.bags.manifest import Manifest, SlideRow
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.train import run_train

HEADER = {
    "status": "ok",
    "reason": "",
    "encoder": "stain_texture",
    "encoder_settings": {"tiles": "raw"},
    "weights_hash": "none",
    "feature_dim": 8,
    "tile_px": 256,
    "tile_mpp": 0.5,
    "overlap_px": 0,
    "tile_level0_px": 256.0,
    "slide_mpp": 0.5,
}
FILES = {
    "history.csv",
    "history.csv.meta.json",
    "last.json",
    "last.safetensors",
    "model.json",
    "model.safetensors",
}


class Cohort:
    """24 slides of 6 to 29 tiles; every third tile of positive ones is shifted. 12 train, 6 val, 6 test."""

    def __init__(self, folder: Path, labels=("normal", "tumor")):
        self.features_dir, self.splits_path, self.out_dir = (
            folder / "features",
            folder / "splits.csv",
            folder / "out",
        )
        slide_ids = [f"s{index:02d}" for index in range(24)]
        rows = [
            SlideRow(
                slide_id, Path(f"{slide_id}.svs"), labels[index % len(labels)], slide_id, "", None, None, ""
            )
            for index, slide_id in enumerate(slide_ids)
        ]
        self.manifest = Manifest(tuple(rows), labels)
        parts = ["train"] * 12 + ["val"] * 6 + ["test"] * 6
        table = [[row.slide_id, row.case_id, row.label, part] for row, part in zip(rows, parts, strict=True)]
        header = {**stamp("splits", {}), "classes": list(labels)}
        publish_table(self.splits_path, ["slide_id", "case_id", "label", "fold_0"], table, stamp=header)
        for index, row in enumerate(rows):
            if parts[index] != "test":  # training must not even look at a test slide
                self.write(row.slide_id, positive=row.label == labels[1], seed=index)

    def write(self, slide_id, *, positive, seed, **header):
        rng = np.random.default_rng(seed)
        tiles = 6 + seed
        features = rng.standard_normal((tiles, 8))
        labels = np.where(positive & (np.arange(tiles) % 3 == 0), 1, 0).astype(np.int8)
        features[labels == 1, 0] += 4.0
        coords = np.zeros((tiles, 2), np.int64)
        slide = FeatureFile(
            slide_id,
            features.astype("float16"),
            coords,
            labels,
            {**stamp("features", {}), **HEADER, **header},
        )
        write_features(self.features_dir / f"{slide_id}.h5", slide)

    def arguments(self, recipe="weno", *, out_dir=None, fold=0, **train):
        """What `run_train` takes, with these settings of section `train`."""
        small = {"epochs": 6, "hidden_dim": 16, "attention_dim": 8, "device": "cpu", "learning_rate": 0.01}
        return {
            "features_dir": self.features_dir,
            "splits_path": self.splits_path,
            "manifest": self.manifest,
            "recipe": recipe,
            "seed": 3,
            "fold": fold,
            "out_dir": out_dir or self.out_dir,
            "settings": parse_settings({"train": {**small, **train}}, where="test"),
        }

    def train(self, recipe="weno", **changes):
        arguments = self.arguments(recipe, **changes)
        run_train(**arguments)
        return arguments["out_dir"]
