"""Untrained models of every teacher with a header that the export reads."""

import torch

from wsi_kd.inference.likeness import Limit
from wsi_kd.mil.registry import create_model
from wsi_kd.training.checkpoint import LoadedModel

FEATURES = 12
TWO, THREE = ("normal", "tumor"), ("normal", "low", "high")


def drawn_model(teacher, *, classes=TWO, with_student=True, **changes):
    """Return a model whose scaling, spread and weights are all drawn and far from where they start."""
    torch.manual_seed(len(teacher))
    described = {
        "teacher": teacher,
        "feature_dim": FEATURES,
        "classes": len(classes),
        "hidden_dim": 16,
        "attention_dim": 8,
        "dropout": 0.5,
        "student_hidden_dim": 0,
        "student_prototypes": 1,
        "with_student": with_student,
        **changes,
    }
    model = create_model(**described).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    width = len(model.scaling.mean)
    model.scaling.fit(mean=torch.randn(width), deviation=0.5 + torch.rand(width))
    rows = torch.randn(200, width, dtype=torch.float64) @ torch.randn(width, width, dtype=torch.float64)
    model.spread.fit(rows.T @ rows / 200)
    header = {
        "recipe": "weno" if with_student else "abmil",
        "teacher": teacher,
        "model": described,
        "classes": list(classes),
        "feature_dim": described["feature_dim"],
        "encoder": "made_up",
        "encoder_settings": {},
        "weights_hash": "w",
        "sections": {
            "tile": {"tile_px": 256, "tile_mpp": 0.5, "overlap_px": 0},
            "embed": {"weights": "/home/dr_house/weights.pt"},
        },
        "thresholds": {"teacher": 0.4, "student": 0.6, "student_max": 0.7, "student_topk": 0.6},
        "threshold_rule": "youden",
        "threshold_split": "val",
        "student_pooling": "topk",
        "top_k": 3,
        "out_of_distribution": Limit(1.5, "lognormal", 0.05, 6, 8, "val")._asdict(),
        "seed": 0,
        "fold": 1,
        "epoch": 2,
        "weights_sha256": "ab" * 32,
    }
    return LoadedModel(model, header)
