"""Recipe instance: instance-level MIL without a bag teacher. Any number of classes.

One linear classifier on the projector scores every instance, e_i = W h_i + b, and the bag logits are pooled
from these scores alone: their maximum, mean, or the mean of the k largest. There is no attention to learn,
so what the bag says and what its instances say cannot part: the evidence is the instance classifier. The
loss is the cross entropy of the bag. Baseline of Ilse et al. (ICML 2018, table 1, "instance") and, with the
features of foundation models, a strong one.
"""

from pathlib import Path
from typing import Final

from wsi_kd.bags.datasets import BagSet
from wsi_kd.training.loop import OnEpoch, Trained
from wsi_kd.training.plan import Architecture, Optimization, Pooling
from wsi_kd.training.recipes.abmil import train_abmil

POOLING_TEACHERS: Final[dict[Pooling, str]] = {
    "max": "max_pooling",
    "mean": "mean_pooling",
    "topk": "top_k_pooling",
}
"""Pooling -> the teacher of the registry that is exactly that."""


def train_instance(
    train: BagSet,
    val: BagSet,
    *,
    classes: int,
    pooling: Pooling,
    architecture: Architecture,
    optimization: Optimization,
    work_dir: Path,
    on_epoch: OnEpoch,
) -> Trained:
    """Train on bag labels; the epoch of the lowest cross entropy on `val` is selected.

    `architecture.teacher` is not read: the pooling takes its place. `work_dir` holds the state of an
    unfinished run: called again with the same arguments, training goes on there.

    Raises:
        BadInput: bags that cannot be trained on, or a damaged state.
        RunFailed: a loss that is not finite, named with its bag and epoch.
    """
    return train_abmil(
        train,
        val,
        classes=classes,
        architecture=pooled_architecture(architecture, pooling),
        optimization=optimization,
        work_dir=work_dir,
        on_epoch=on_epoch,
    )


def pooled_architecture(architecture: Architecture, pooling: Pooling) -> Architecture:
    """Return the shape with the bag's logits pooled from the instances'."""
    return architecture._replace(teacher=POOLING_TEACHERS[pooling])
