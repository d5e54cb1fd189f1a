"""From the samples of a source to the loaders of a distillation, and to those that a teacher learns from."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.core.tensors import tensors_hash
from wsi_kd.distillation.parts import MIN_CLASSES, Drawn, draw_evenly, draw_parts, falsify
from wsi_kd.distillation.samples import (
    PARTS,
    UNKNOWN,
    Batch,
    Indices,
    Labels,
    SamplePart,
    Samples,
    Scaling,
    fit_scaling,
    whole,
)
from wsi_kd.distillation.task import Data
from wsi_kd.kd.batches import describe, read_batch, walk

Elsewhere: TypeAlias = Literal["left_out", "uniform"]
"""What a specialist sees of the other classes: nothing, or that all classes are as likely."""
TRAIN_DRAW: Final = 10
LABELED_DRAW: Final = 11
NOISE_DRAW: Final = 12
TEACHER_DRAW: Final = 13
"""Second words of seeds: each draw has a generator of its own."""


class DataOptions(NamedTuple):
    """What every source has in common."""

    batch_size: int
    val: int | float
    test: int | float
    seed: int
    train_samples: int | None
    """Training samples that are kept; None: all."""
    labeled: int | None
    """Of those, how many keep their labels; None: all."""
    label_noise: float
    """Share of the training labels made false."""
    standardize: bool
    workers: int
    """Processes of the loaders."""


class Lesson(NamedTuple):
    """What a teacher that is trained first learns from."""

    classes: tuple[int, ...]
    """Empty: all."""
    elsewhere: Elsewhere
    samples: int | None
    """None: all."""
    all_labels: bool
    """From those too that the student does not have."""


class Prepared(NamedTuple):
    """Loaders, and what is known of them."""

    data: Data
    class_names: tuple[str, ...]
    scaling: Scaling | None
    """What is done to each sample before a network sees it."""
    fingerprint: str
    """Tells these data from others."""
    pool: "Pool | None"
    """None: loaders of the user's, from which nothing else can be drawn."""


class Pool(NamedTuple):
    """The training part by number."""

    samples: Samples
    labels: Labels
    """Of all samples, false ones included."""
    labeled: Indices
    unlabeled: Indices
    """Those without a label or whose label is kept from the student."""
    scaling: Scaling | None
    options: DataOptions


def prepare_data(made: Samples | Data, options: DataOptions, *, where: str) -> Prepared:
    """Draw the parts and make their loaders; loaders of the user's (`Data`) are taken as they are.

    Raises:
        BadInput: parts that cannot be drawn; options that loaders cannot follow.
    """
    if isinstance(made, Data):
        return _as_given(made, options, where=where)
    parts = draw_parts(made, val=options.val, test=options.test, seed=options.seed, where=where)
    pool = _draw_pool(made, parts, options)
    train = np.concatenate([pool.labeled, pool.unlabeled])
    if options.standardize:
        pool = pool._replace(scaling=fit_scaling(made.inputs, train, batch_size=options.batch_size))
    data = Data(
        train=_loader(pool, pool.labeled, training=True),
        val=_loader(pool, parts.val),
        test=_loader(pool, parts.test),
        classes=len(made.class_names),
        input_shape=made.inputs.shape,
        unlabeled=_loader(pool, pool.unlabeled, training=True, labels=False) if len(pool.unlabeled) else None,
    )
    drawn = {"labels": pool.labels, "labeled": pool.labeled, "unlabeled": pool.unlabeled, **parts._asdict()}
    told = tensors_hash({name: torch.from_numpy(values) for name, values in drawn.items()})
    fingerprint = content_hash([made.inputs.fingerprint(), told, options.standardize])
    return Prepared(data, made.class_names, pool.scaling, fingerprint, pool)


def teacher_loader(prepared: Prepared, lesson: Lesson) -> DataLoader[Any]:
    """Return the training batches of a teacher: all of the student's with labels, or what `lesson` says.

    A specialist that is shown the other classes as well has soft labels, (samples, classes).

    Raises:
        BadInput: classes that there are not, more samples than there are, a lesson of the user's own loaders.
    """
    pool = prepared.pool
    if pool is None:
        if lesson != Lesson((), "left_out", None, all_labels=False):
            raise BadInput(
                "teachers: classes, samples and all_labels are drawn from a source; with loaders of your own "
                "train the teacher yourself, and give its weights"
            )
        return prepared.data.train
    chosen = pool.labeled
    if lesson.all_labels:
        hidden = pool.unlabeled[pool.labels[pool.unlabeled] != UNKNOWN]
        chosen = np.sort(np.concatenate([chosen, hidden]))
    if strange := sorted(set(lesson.classes) - set(range(len(prepared.class_names)))):
        raise BadInput(f"teachers: no class {strange[0]}; the data have 0 to {len(prepared.class_names) - 1}")
    taught = np.isin(pool.labels[chosen], lesson.classes) if lesson.classes else np.ones(len(chosen), bool)
    if lesson.elsewhere == "left_out":
        chosen, taught = chosen[taught], taught[taught]
    if lesson.samples is not None:
        kept = draw_evenly(pool.labels, chosen, count=lesson.samples, seed=[pool.options.seed, TEACHER_DRAW])
        chosen, taught = kept, taught[np.searchsorted(chosen, kept)]
    if taught.all():
        return _loader(pool, chosen, training=True)
    soft = _soft_labels(pool.labels[chosen], taught, classes=len(prepared.class_names))
    return _loader(pool, chosen, training=True, soft=soft)


def _draw_pool(samples: Samples, parts: Drawn, options: DataOptions) -> Pool:
    train = parts.train
    if options.train_samples is not None:
        train = draw_evenly(
            samples.labels, train, count=options.train_samples, seed=[options.seed, TRAIN_DRAW]
        )
    known = train[samples.labels[train] != UNKNOWN]
    labeled = known
    if options.labeled is not None:
        seed = [options.seed, LABELED_DRAW]
        labeled = draw_evenly(samples.labels, known, count=options.labeled, seed=seed)
    if not len(labeled):
        raise BadInput("data: no training sample with a label; raise labeled, or add some")
    labels = samples.labels.copy()
    if options.label_noise:
        seed, classes = [options.seed, NOISE_DRAW], len(samples.class_names)
        labels[known] = falsify(labels[known], share=options.label_noise, classes=classes, seed=seed)
    return Pool(samples, labels, labeled, np.setdiff1d(train, labeled), None, options)


def _loader(
    pool: Pool,
    indices: Indices,
    *,
    training: bool = False,
    labels: bool = True,
    soft: Tensor | None = None,
) -> DataLoader[Any]:
    own = soft if soft is not None else torch.from_numpy(pool.labels[indices])
    part = SamplePart(pool.samples.inputs, indices, labels=own if labels else None, scaling=pool.scaling)
    size = pool.options.batch_size
    # a last batch of one sample has neither deviations (batch norm) nor pairs (losses on them)
    alone = training and len(part) > size and len(part) % size == 1
    return DataLoader[Batch](
        part,
        batch_size=size,
        shuffle=training,
        drop_last=alone,
        collate_fn=whole,
        # not persistent ones: a new and a going iterator draw different numbers from torch's generator,
        # so that a resumed training would not be the uninterrupted one
        num_workers=pool.options.workers,
    )


def _soft_labels(labels: Labels, taught: Sequence[bool] | np.ndarray, *, classes: int) -> Tensor:
    soft = torch.full((len(labels), classes), 1.0 / classes)
    known = torch.as_tensor(np.asarray(taught))
    soft[known] = torch.nn.functional.one_hot(torch.from_numpy(labels)[known], classes).float()
    return soft


def _as_given(data: Data, options: DataOptions, *, where: str) -> Prepared:
    if options.labeled is not None or options.label_noise or options.train_samples or options.standardize:
        raise BadInput(
            f"{where}: it makes loaders, so labeled, label_noise, train_samples and standardize cannot be "
            "followed; do it where they are made, and leave these out"
        )
    for name, part in zip(PARTS, (data.train, data.val, data.test), strict=True):
        if not isinstance(part, Iterable):
            raise BadInput(f"{where}: {name} is {describe(part)}; expected a DataLoader or a list of batches")
    if type(data.classes) is not int or data.classes < MIN_CLASSES:
        raise BadInput(f"{where}: classes is {data.classes!r}; expected a number, {MIN_CLASSES} or more")
    test = read_batch(next(walk(data.test, what="test")), adapter=None, device=torch.device("cpu"))
    if test.labels is None:
        raise BadInput(f"{where}: test yields batches without labels; label that part")
    batch = read_batch(next(walk(data.val, what="val")), adapter=None, device=torch.device("cpu"))
    if isinstance(batch.inputs, Tensor) and tuple(batch.inputs.shape[1:]) != tuple(data.input_shape):
        raise BadInput(
            f"{where}: input_shape is {data.input_shape}, samples are {tuple(batch.inputs.shape[1:])}; "
            "correct input_shape"
        )
    tensors = {"inputs": batch.inputs, "labels": batch.labels}
    seen = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    names = tuple(map(str, range(data.classes)))
    return Prepared(data, names, None, tensors_hash(seen), None)
