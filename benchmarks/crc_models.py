"""What the benchmarks on CRC nuclei share: the classes, settings for a CPU, the scores of a model."""

from typing import Any, Final

import torch

from wsi_kd.bags.datasets import BagSet
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.training.validation import auc

CLASSES: Final = ("benign", "cancer")


def settings_of(**train: Any) -> Settings:
    """Return settings whose section train is the defaults but for what is given, in float32 on a CPU."""
    value = {"precision": "float32", "device": "cpu", "recipes": ["weno", "distill"], **train}
    return parse_settings({"train": value}, where="benchmark")


def score(model: TeacherStudent, bags: BagSet) -> dict[str, float]:
    """Return the test part's AUCs: bags by the teacher, tiles (all slides together) by the student."""
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(bags.features).float(), torch.from_numpy(bags.offsets))
    known = torch.from_numpy(bags.tile_labels >= 0)
    truth = torch.from_numpy(bags.tile_labels == 1)[known]
    if output.instance_logits is None:
        raise SystemExit("a model of recipe weno has a student")
    bag = output.bag_logits[:, 1] - output.bag_logits[:, 0]
    return {
        "bag AUC": auc(bag, torch.from_numpy(bags.labels == 1)),
        "instance AUC": auc(output.instance_logits[known, 0], truth),
    }
