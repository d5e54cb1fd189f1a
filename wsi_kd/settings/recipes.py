"""Settings of the recipes to compare WENO with; docs/recipes.md compares them."""

from typing import Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from wsi_kd.settings.base import Section

TeacherName: TypeAlias = Literal[
    "abmil",
    "gated_abmil",
    "mean_pooling",
    "max_pooling",
    "top_k_pooling",
    "additive_mil",
    "clam_sb",
    "clam_mb",
    "dsmil",
    "dtfd",
    "transmil",
]
ProjectorName: TypeAlias = Literal["linear", "affine", "alexnet_cifar", "cnn_small", "resnet18"]
WITHOUT_ATTENTION: Final = ("mean_pooling",)
"""Teachers to which all tiles are alike: nothing can be learned of their attention."""
FIXED_ATTENTION: Final = ("mean_pooling", "max_pooling", "top_k_pooling")
"""Teachers whose attention is a rule: no loss can train it."""


class InstanceSettings(Section):
    """Section `train.instance`: the bag's logits pooled from an instance classifier, no bag teacher."""

    pooling: Literal["max", "mean", "topk"] = "topk"
    """Which tiles make the slide's logits: the most positive one, all, or the train.top_k most positive."""


class InsSettings(Section):
    """Section `train.ins`: an instance classifier taught by prototypes, after INS."""

    pooling: Literal["max", "mean", "topk"] = "topk"
    """Which tiles make the slide's logits; as in train.instance."""
    prototype_decay: float = Field(default=0.99, ge=0, lt=1)
    """What a prototype keeps of itself at a step; the rest is the mean of the tiles that move it."""
    label_decay: float = Field(default=0.9, ge=0, lt=1)
    """What a tile's pseudo label keeps of itself at an epoch; the rest is the prototypes' vote."""
    positive_fraction: float = Field(default=0.1, gt=0, le=1)
    """Share of each positive slide's tiles, the most positive, that moves the positive prototype."""
    temperature: float = Field(default=0.1, gt=0)
    """Of the softmax in the contrastive loss."""
    contrast_instances: int = Field(default=512, ge=2)
    """Tiles a step that are contrasted with each other."""
    contrast_weight: float = Field(default=0.1, ge=0)
    """Weight of the contrastive loss."""
    bag_weight: float = Field(default=1.0, gt=0)
    """Weight of the slide's cross entropy."""
    warm_up_epochs: int = Field(default=5, ge=0)
    """Epochs in which every tile has its slide's label; none of them is selected."""


class MhimSettings(Section):
    """Section `train.mhim`: a moving average hides the most telling tiles from the model, after MHIM."""

    mask_ratio: float = Field(default=0.02, gt=0, lt=1)
    """Share of every slide's tiles that is hidden, rounded up, one at least."""
    average: float = Field(default=0.99, gt=0, lt=1)
    """Decay a step of the moving average that chooses them."""
    consistency_weight: float = Field(default=0.1, ge=0)
    """Weight of the cross entropy with the average's word on the whole slide."""
    warm_up_epochs: int = Field(default=5, ge=0)
    """Epochs in which nothing is hidden; none of them is selected."""


class AutoSettings(Section):
    """Section `train.auto`: the validation part chooses between abmil and weno."""

    tolerance: float = Field(default=2.0, ge=0)
    """Standard errors of the paired difference by which weno's loss may exceed abmil's: weno is kept."""


NOT_NARROWABLE: Final = ("additive_mil", "dsmil", "transmil")
"""Teachers with layers of the projector's width behind it: the projector cannot be narrowed alone."""


class SpectralSettings(Section):
    """Section `train.spectral`: a layer that learns which neurons it needs; wsi-kd prune cuts the rest."""

    layer: Literal["none", "projector", "student"] = "none"
    """projector: of width train.hidden_dim; student: its hidden layer, of width train.weno.student_hidden_dim
    (recipes without one train as ever)."""
    penalty: float = Field(default=0.01, gt=0)
    """Weight of the squares of gates, weights and what reads the layer: more leaves fewer neurons."""
    gate_rate: float = Field(default=100.0, gt=0)
    """Learning rate of the gates, in learning rates of all else."""


class DistillSettings(Section):
    """Section `train.distill`: a small model taught by another recipe's, of the same seed and fold."""

    teacher_recipe: Literal["abmil", "weno", "instance", "ins", "mhim", "auto"] = "weno"
    """Recipe whose trained model teaches; it must be in train.recipes as well."""
    teacher: TeacherName = "abmil"
    """Bag classifier of the small model."""
    projector: ProjectorName | None = None
    """Projector of the small model; default: that of train.projector."""
    hidden_dim: int = Field(default=32, ge=1)
    """Width of the small model's projector."""
    attention_dim: int = Field(default=16, ge=1)
    """Width of the small model's attention."""
    temperature: float = Field(default=4.0, gt=0)
    """Softens the bag logits of both models."""
    label_weight: float = Field(default=0.1, ge=0)
    """Weight of the cross entropy with the slides' labels."""
    bag_weight: float = Field(default=0.9, ge=0)
    """Weight of the divergence from the large model's bag probabilities, times temperature^2."""
    attention_weight: float = Field(default=0.1, ge=0)
    """Weight of the divergence from the large model's attention over a slide's tiles."""
    instance_weight: float = Field(default=1.0, ge=0)
    """Weight of the cross entropy with the tile probabilities of the large model's student, where it has one;
    0: the small model gets no student."""
    hint_weight: float = Field(default=0.0, ge=0)
    """Weight of the squared difference between projected tiles, the small model's after a linear map."""
    start: Literal["random", "copy_average"] = "random"
    """Weights before training: random, or the large model's main neurons copied and the rest averaged, for
    which both must be abmil, or both gated_abmil with the same attention_dim."""

    @model_validator(mode="after")
    def _something_teaches(self) -> Self:
        if not (self.bag_weight or self.attention_weight or self.instance_weight or self.hint_weight):
            raise ValueError(
                "bag_weight, attention_weight, instance_weight and hint_weight are all 0, so the large model "
                "teaches nothing; give one a weight above 0"
            )
        if self.attention_weight and self.teacher in FIXED_ATTENTION:
            raise ValueError(
                f"attention_weight {self.attention_weight:g} trains attention, that of teacher "
                f"{self.teacher} is a fixed rule; set attention_weight to 0, or take another teacher"
            )
        return self
