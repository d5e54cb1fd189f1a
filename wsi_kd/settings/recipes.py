"""Settings of the recipes to compare WENO with; docs/recipes.md compares them."""

from typing import Literal

from pydantic import Field

from wsi_kd.settings.base import Section


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
