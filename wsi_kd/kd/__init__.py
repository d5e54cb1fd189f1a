"""Knowledge distillation for any teacher, student and loader: docs/kd.md."""

from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.evaluation import Evaluation
from wsi_kd.kd.fitting import FitResult
from wsi_kd.kd.outputs import DistillationLoss, Outputs
from wsi_kd.kd.registry import LOSSES, METHODS, Method
from wsi_kd.kd.schedules import Constant, Cosine, Linear, Steps, WarmupCosine
from wsi_kd.kd.taps import LayerTaps
from wsi_kd.kd.training_step import Step

__all__ = [
    "LOSSES",
    "METHODS",
    "Constant",
    "Cosine",
    "DistillationLoss",
    "Distiller",
    "Evaluation",
    "FitResult",
    "LayerTaps",
    "Linear",
    "Method",
    "Outputs",
    "Step",
    "Steps",
    "WarmupCosine",
]
