"""Settings of the steps that make models: split, train."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from wsi_kd.settings.base import Section


class SplitSettings(Section):
    """Section `split`: which case is trained on, selected on, tested on."""

    folds: int = Field(default=5, ge=3)
    """Patient-grouped, stratified folds; fold i tests on part i, selects on part i+1."""
    seed: int = 0
    """Seed of the draw."""
    given: Path | None = None
    """Splits made elsewhere: a folder of CLAM's splits_<i>.csv, or a table with fold_<i> columns."""


class MiningSettings(Section):
    """Section `train.weno.mining`: hard positive mining, the student hiding what is too easy."""

    enabled: bool = False
    """Off by default: the paper's rule can invert the teacher on unmasked bags; see docs/weno.md."""
    start_epoch: int = Field(default=10, ge=0)
    """First epoch (from 0) that hides instances."""
    threshold: float = Field(default=0.9, gt=0, lt=1)
    """Instances whose student probability is above this are too easy."""
    drop_probability: float = Field(default=0.5, gt=0, le=1)
    """Chance that a too easy instance is hidden; 1 is the paper's rule."""
    max_drop_fraction: float = Field(default=0.5, ge=0, le=1)
    """Largest share of a bag that may be hidden."""
    symmetric: bool = True
    """Hide too easy instances in negative bags too, so that their absence tells nothing."""
    guard: bool = True
    """Score unmasked validation bags every epoch; when they fall, roll back and stop mining."""
    guard_drop: float = Field(default=0.1, gt=0, lt=1)
    """Fall of the validation bag AUC that trips the guard."""


class WenoSettings(Section):
    """Section `train.weno`: the student and what it learns from."""

    schedule: Literal["joint", "alternate", "released"] = "joint"
    """joint: one step on both losses; alternate: a teacher epoch, then a student epoch (the paper);
    released: alternate with the details of the authors' code, for comparison; see docs/weno.md."""
    pseudo_label: Literal["minmax_global", "minmax_bag", "expmax", "attention_evidence", "evidence"] = (
        "evidence"
    )
    """How attention becomes a soft label; minmax_global is the paper's."""
    label_floor: float = Field(default=0.0, ge=0, le=1)
    """Share of the bag's own label in the soft labels of a positive bag; 1: tiles take their bag's label."""
    teacher_average: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the teacher's moving average that makes the labels, e.g. 0.99; 0: none."""
    negative_weight: float = Field(default=0.1, gt=0, lt=1)
    """Weight of the negative half of the student's loss, the positive half has 1 minus it."""
    student_weight: float = Field(default=1.0, ge=0)
    """Weight of the student's loss beside the teacher's (joint schedule)."""
    warm_up_epochs: int = Field(default=0, ge=0)
    """Epochs in which the teacher learns alone."""
    instance_batch: int = Field(default=512, ge=1)
    """Instances a student step (alternate schedule)."""
    student_hidden_dim: int = Field(default=0, ge=0)
    """Width of the student's hidden layer; 0: a linear student on the shared projector."""
    mining: MiningSettings = MiningSettings()

    @model_validator(mode="after")
    def _released_form(self) -> Self:
        if self.schedule == "released" and self.pseudo_label != "minmax_global":
            raise ValueError("schedule released makes minmax_global labels only; set pseudo_label to that")
        if self.schedule == "released" and (self.label_floor or self.teacher_average):
            raise ValueError("schedule released knows no label_floor and no teacher_average; set both to 0")
        return self


class TrainSettings(Section):
    """Section `train`: the recipes and everything they share."""

    recipes: tuple[Literal["abmil", "weno"], ...] = ("abmil", "weno")
    """abmil: the teacher alone, the baseline; weno: teacher and student."""
    teacher: Literal[
        "abmil",
        "gated_abmil",
        "mean_pooling",
        "max_pooling",
        "additive_mil",
        "clam_sb",
        "dsmil",
        "dtfd",
        "transmil",
    ] = "gated_abmil"
    """Bag classifier of both recipes; docs/teachers.md compares them."""
    seeds: tuple[int, ...] = (0,)
    """Every recipe is trained once a seed and fold."""
    epochs: int = Field(default=60, ge=1)
    patience: int = Field(default=20, ge=1)
    """Epochs without a better validation loss before training stops."""
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    gradient_clip: float = Field(default=5.0, gt=0)
    """Largest gradient norm."""
    token_budget: int = Field(default=16_384, ge=1)
    """Instances a step: whole bags are packed together up to this many (one larger bag goes alone)."""
    bags_per_step: int = Field(default=4, ge=1)
    """Bags a step at most."""
    hidden_dim: int = Field(default=128, ge=1)
    """Width of the shared projector."""
    attention_dim: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.25, ge=0, lt=1)
    student_pooling: Literal["max", "topk"] = "topk"
    """How the student's instance logits become one for the bag."""
    top_k: int = Field(default=5, ge=1)
    """Instances averaged by topk (bags with fewer average all)."""
    threshold_rule: Literal["youden", "sensitivity"] = "youden"
    """How the operating point is chosen on the validation part; the checkpoint carries it."""
    min_sensitivity: float = Field(default=0.95, gt=0, le=1)
    """Sensitivity that the rule `sensitivity` keeps on the validation part."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 for matrix products on a GPU, float32 on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    weno: WenoSettings = WenoSettings()
