"""What a recipe is told, as plain values. The defaults live in the settings, not here."""

from typing import Literal, NamedTuple, TypeAlias

from wsi_kd.kd.pseudo_labels import PseudoLabelMode

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
StudentPooling: TypeAlias = Literal["max", "topk"]
Schedule: TypeAlias = Literal["joint", "alternate", "released"]


class Architecture(NamedTuple):
    """The model's shape."""

    teacher: str
    hidden_dim: int
    attention_dim: int
    dropout: float
    student_hidden_dim: int
    """Width of the student's hidden layer; 0: linear."""


class Optimization(NamedTuple):
    """How any recipe steps."""

    epochs: int
    patience: int
    """Epochs without a lower selection loss before training stops."""
    learning_rate: float
    """At the first epoch; falls to 0 along half a cosine over `epochs`."""
    weight_decay: float
    gradient_clip: float
    token_budget: int
    """Instances a step at most; a larger bag goes alone."""
    bags_per_step: int
    seed: int
    precision: Precision
    device: str


class Distillation(NamedTuple):
    """How WENO's student learns."""

    schedule: Schedule
    pseudo_label: PseudoLabelMode
    label_floor: float
    """Share of the bag's label in the soft labels of a positive bag."""
    teacher_average: float
    """Decay of the teacher's moving average that makes the labels; 0: the teacher itself does."""
    negative_weight: float
    student_weight: float
    """Weight of the student's loss beside the teacher's (joint schedule)."""
    warm_up_epochs: int
    """Epochs in which the teacher learns alone."""
    instance_batch: int
    """Instances a student step (alternate schedule)."""
    student_pooling: StudentPooling
    top_k: int


class Mining(NamedTuple):
    """How hard positives are mined; see wsi_kd.kd.mining."""

    start_epoch: int
    threshold: float
    drop_probability: float
    max_drop_fraction: float
    symmetric: bool
    guard: bool
    guard_drop: float
    """Fall of the validation bag AUC below its best that ends mining."""
