"""A run on a drawn tile encoder, from slides to models that nobody trained, for what checks its precision."""

from pathlib import Path
from typing import NamedTuple

import torch

from wsi_kd.bags.manifest import Manifest, read_manifest
from wsi_kd.bags.splits import Fold
from wsi_kd.core.files import publish_table
from wsi_kd.core.provenance import stamp
from wsi_kd.features.distilled import EncoderForm
from wsi_kd.features.distilled_network import build_network, save_encoder
from wsi_kd.features.store import read_features
from wsi_kd.mil.registry import create_model
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.check_precision import Asked, run_check_precision
from wsi_kd.steps.embed import run_embed
from wsi_kd.steps.mask import run_mask
from wsi_kd.steps.tile import run_tile
from wsi_kd.training.checkpoint import save_model

FORM = EncoderForm("tile_cnn", {"channels": [4, 6]}, 64, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
FEATURES = 6
FOLDS = (
    Fold(("case04_0", "case05_0"), ("case02_0", "case03_0"), ("case00_0", "case01_0")),
    Fold(("case00_0", "case01_0"), ("case04_0", "case05_0"), ("case02_0", "case03_0")),
)
"""Even cases are normal, odd ones have tumor; two slides have no features: nothing may ask for them."""
EMBEDDED = FOLDS[0].val + FOLDS[0].test
CLASSES = ("normal", "tumor")


def draw_encoder(folder: Path, *, offset: float) -> Path:
    """Save a small network; the larger `offset`, the more of what it sees bfloat16 rounds away.

    The first block adds it to every channel, and each filter of the second one sums to zero: in float32
    nothing is left of it.
    """
    torch.manual_seed(3)
    network = build_network(FORM.network, FORM.model_arguments)
    first, second = network.blocks[0], network.blocks[1]
    with torch.no_grad():
        first[1].bias += offset
        second[0].weight -= second[0].weight.mean(dim=(1, 2, 3), keepdim=True)
        second[1].bias += 0.5
    save_encoder(folder, network.state_dict(), form=FORM, feature_dim=FEATURES, settings={}, facts={})
    return folder


class PrecisionRun(NamedTuple):
    """Its folder, and where its slides are."""

    root: Path
    manifest: Manifest
    sections: dict[str, dict[str, object]]

    def settings(self, **embed):
        sections = {**self.sections, "embed": {**self.sections["embed"], **embed}}
        return parse_settings(sections, where="test")

    def features(self, slide_id):
        return read_features(self.root / "features" / f"{slide_id}.h5")

    def model_dir(self, recipe, *, fold=0, seed=0):
        return self.root / "models" / recipe / f"seed{seed}" / f"fold{fold}"

    def check(self, *model_dirs, embed=None, **asked):
        """Check eight tiles of each slide, unless asked otherwise."""
        return run_check_precision(
            self.manifest,
            model_dirs=model_dirs or [self.model_dir("weno")],
            models_dir=self.root / "models",
            features_dir=self.root / "features",
            splits_path=self.root / "splits.csv",
            out_path=self.root / "evaluation" / "precision.json",
            settings=self.settings(**(embed or {})),
            asked=Asked(**{"tiles": 8, **asked}),
        )

    def save_model(self, recipe, *, fold=0, seed=0, gain=1.0, folder=None, **changes):
        """Write a model with drawn weights; `gain` multiplies the logits of teacher and student."""
        torch.manual_seed(seed + 1)
        arguments = {
            "teacher": "mean_pooling",
            "feature_dim": FEATURES,
            "classes": len(CLASSES),
            "hidden_dim": 8,
            "attention_dim": 4,
            "dropout": 0.25,
            "student_hidden_dim": 0,
            "with_student": recipe == "weno",
        }
        model = create_model(**arguments)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("teacher.", "student.")):
                    parameter.mul_(gain)
        made = self.features(EMBEDDED[0]).header
        header = {
            **stamp("model", {}),
            **{
                key: made[key]
                for key in ("encoder", "encoder_settings", "weights_hash", "feature_dim", "stain")
            },
            "recipe": recipe,
            "model": arguments,
            "classes": list(CLASSES),
            "student_pooling": "topk",
            "top_k": 3,
            "seed": seed,
            "fold": fold,
            **changes,
        }
        folder = folder or self.model_dir(recipe, fold=fold, seed=seed)
        save_model(folder, "model", model, header=header)
        return folder


def make_run(root, cohort, *, offset=0.0, stain=None, **embed) -> PrecisionRun:
    """Mask, tile and embed four slides, and deal six into two folds."""
    encoder = draw_encoder(root.parent / f"{root.name}-encoder", offset=offset)
    manifest = read_manifest(cohort.manifest, slides_dir=None, classes=list(CLASSES))
    sections = {
        "mask": {"mask_mpp": 2.0},
        "tile": {"tile_px": 64},
        "stain": stain or {},
        "embed": {"encoder": f"distilled:{encoder}", "device": "cpu", **embed},
        "predict": {"device": "cpu"},
    }
    run = PrecisionRun(root, manifest, sections)
    settings, rows = run.settings(), [row for row in manifest.rows if row.slide_id in EMBEDDED]
    masks, tiles, features = (root / name for name in ("masks", "tiles", "features"))
    run_mask(rows, masks_dir=masks, status_path=masks / "chunk-0.csv", settings=settings)
    run_tile(rows, masks_dir=masks, tiles_dir=tiles, status_path=tiles / "chunk-0.csv", settings=settings)
    run_embed(
        rows, tiles_dir=tiles, features_dir=features, status_path=features / "chunk-0.csv", settings=settings
    )
    _write_splits(root / "splits.csv", manifest)
    return run


def _write_splits(path: Path, manifest: Manifest) -> None:
    parts = [{one: name for name, ids in fold._asdict().items() for one in ids} for fold in FOLDS]
    rows = [
        [row.slide_id, row.case_id, row.label, *(part.get(row.slide_id, "excluded") for part in parts)]
        for row in manifest.rows
    ]
    header = {**stamp("splits", {}), "classes": list(CLASSES)}
    publish_table(path, ["slide_id", "case_id", "label", "fold_0", "fold_1"], rows, stamp=header)
