"""Checkpoints with weights as they were drawn: what they say is not the point of the tests that use them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from wsi_kd.core.provenance import stamp
from wsi_kd.features.encoders import StainTextureEncoder
from wsi_kd.inference.likeness import Limit
from wsi_kd.mil.registry import create_model
from wsi_kd.settings.all import parse_settings
from wsi_kd.training.checkpoint import save_model

SECTIONS = {"mask": {"mask_mpp": 2.0}, "tile": {"tile_px": 64}}
"""For the slides of synthetic.py: some 20 tiles each."""


HEADER = {
    "teacher": "gated_abmil",
    "feature_dim": StainTextureEncoder.feature_dim,
    "encoder": "stain_texture",
    "encoder_settings": {},
    "weights_hash": StainTextureEncoder.weights_hash,
    "network_sha256": "",
    "stain": {},
    "student_pooling": "topk",
    "top_k": 5,
    "threshold_rule": "youden",
    "threshold_split": "val",
    "out_of_distribution": Limit(1e9, "lognormal", 0.05, 6, 6, "val")._asdict(),
    "epoch": 0,
}


def write_model(
    folder: Path,
    *,
    seed: int = 0,
    fold: int = 0,
    classes: Sequence[str] = ("normal", "tumor"),
    with_student: bool = True,
    sections: dict[str, dict[str, object]] | None = None,
    **changes: object,
) -> Path:
    """Write a model of the stain_texture encoder; `changes` are members of its header."""
    torch.manual_seed(100 * seed + fold)
    arguments = {
        "teacher": "gated_abmil",
        "feature_dim": StainTextureEncoder.feature_dim,
        "classes": len(classes),
        "hidden_dim": 16,
        "attention_dim": 8,
        "dropout": 0.25,
        "student_hidden_dim": 0,
        "with_student": with_student,
    }
    settings = parse_settings(SECTIONS if sections is None else sections, where="test")
    made_by = ("slides", "mask", "tile", "embed")
    scores = ("teacher", "student") if with_student else ("teacher",)
    header = {
        **stamp("model", {}),
        **HEADER,
        "recipe": "weno" if with_student else "abmil",
        "model": arguments,
        "classes": list(classes),
        "sections": {name: getattr(settings, name).model_dump(mode="json") for name in made_by},
        "thresholds": dict.fromkeys(scores, 0.5),
        "seed": seed,
        "fold": fold,
        **changes,
    }
    save_model(folder, "model", create_model(**arguments), header=header)
    return folder
