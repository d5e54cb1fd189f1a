"""What one process and two processes train alike: the cases, and the program of one of the two."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bags_on_disk import loaded_from_files
from safetensors.torch import load_file, save_file

from wsi_kd.bags.datasets import BagSet
from wsi_kd.training.joining import Place, joined
from wsi_kd.training.plan import Architecture, Compression, Distillation, Gates, Masking, Mining, Optimization
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.auto import train_auto
from wsi_kd.training.recipes.distill import train_distill
from wsi_kd.training.recipes.instance import train_instance
from wsi_kd.training.recipes.mhim import train_mhim
from wsi_kd.training.recipes.weno import train_weno

DIM, EPOCHS = 12, 3
TRAIN_SIZES = (17, 3, 40, 9, 1, 25, 12, 8, 31, 5, 14, 22, 6)
"""13 bags, 4 a step at most: the last step has one bag, fewer than two processes."""
VAL_SIZES = (9, 4, 15, 7, 3)

ARCHITECTURE = Architecture(
    teacher="gated_abmil", hidden_dim=16, attention_dim=8, dropout=0.25, student_hidden_dim=0
)
OPTIMIZATION = Optimization(
    epochs=EPOCHS,
    patience=20,
    learning_rate=1e-3,
    weight_decay=1e-2,
    gradient_clip=5.0,
    token_budget=70,
    bags_per_step=4,
    seed=5,
    precision="float32",
    device="cpu",
)
DISTILLATION = Distillation(
    schedule="joint",
    pseudo_label="evidence",
    label_floor=0.1,
    teacher_average=0.0,
    negative_weight=0.3,
    student_weight=1.0,
    warm_up_epochs=0,
    instance_batch=64,
    student_pooling="topk",
    top_k=3,
)
MINING = Mining(
    rule="threshold",
    start_epoch=0,
    hidden_fraction=0.5,
    pieces=3,
    threshold=0.5,
    drop_probability=0.5,
    max_drop_fraction=0.5,
    symmetric=True,
    guard=True,
    guard_drop=0.5,
)
MASKING = Masking(mask_ratio=0.1, average=0.9, consistency_weight=0.5, warm_up_epochs=1)
COMPRESSION = Compression(
    temperature=2.0,
    label_weight=0.5,
    bag_weight=0.5,
    attention_weight=0.5,
    instance_weight=1.0,
    hint_weight=0.1,
    narrow_start=False,
    student_pooling="topk",
    top_k=3,
)


def draw_bags(sizes, *, seed):
    """Bags of these sizes; in every other one a third of the instances is shifted."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    features = rng.standard_normal((offsets[-1], DIM)).astype(np.float32)
    labels = np.arange(len(sizes), dtype=np.int64) % 2
    for bag in np.flatnonzero(labels):
        features[offsets[bag] : offsets[bag + 1] : 3, 0] += 2.0
    return BagSet(
        slide_ids=tuple(f"bag_{bag}" for bag in range(len(sizes))),
        features=features,
        offsets=offsets,
        labels=labels,
        tile_labels=np.zeros(len(features), np.int8),
        coords=np.zeros((len(features), 2), np.int64),
        header={},
    )


TRAIN, VAL = draw_bags(TRAIN_SIZES, seed=0), draw_bags(VAL_SIZES, seed=1)


def case(train, *, teacher="gated_abmil", optimization=None, **arguments):
    return partial(
        train,
        TRAIN,
        VAL,
        classes=2,
        architecture=ARCHITECTURE._replace(teacher=teacher),
        optimization=OPTIMIZATION._replace(**(optimization or {})),
        **arguments,
    )


def weno(*, teacher="gated_abmil", mining=None, optimization=None, **distillation):
    return case(
        train_weno,
        teacher=teacher,
        optimization=optimization,
        distillation=DISTILLATION._replace(**distillation),
        mining=None if mining is None else MINING._replace(rule=mining),
    )


def distill():
    """A small model learns from one that a run of weno has just made."""

    def train(*, work_dir, on_epoch):
        large = weno()(work_dir=work_dir / "large", on_epoch=on_epoch).model
        return case(train_distill, teacher="abmil", compression=COMPRESSION, large=large)(
            work_dir=work_dir, on_epoch=on_epoch
        )

    return train


def weno_on_disk():
    """Each process leaves files of its own on disk and trains from there."""

    def train(*, work_dir, on_epoch):
        folder = work_dir.parent / f"features {os.getpid()}"
        parts = [
            loaded_from_files(part, folder / name, on_disk=True)
            for name, part in (("train", TRAIN), ("val", VAL))
        ]
        arguments = {**weno().keywords, "work_dir": work_dir, "on_epoch": on_epoch}
        return train_weno(*parts, **arguments)

    return train


CASES = {
    "abmil": lambda: case(train_abmil, optimization={"feature_noise": 0.2}),
    "abmil transmil": lambda: case(train_abmil, teacher="transmil"),
    "abmil clam_sb": lambda: case(train_abmil, teacher="clam_sb"),
    "abmil gates": lambda: case(train_abmil, optimization={"gates": Gates("projector", 0.01, 10.0)}),
    "instance": lambda: case(train_instance, pooling="topk"),
    "mhim": lambda: case(train_mhim, masking=MASKING),
    "weno": weno,
    "weno on disk": weno_on_disk,
    "weno dsmil": lambda: weno(teacher="dsmil", pseudo_label="minmax_bag"),
    "weno dtfd": lambda: weno(teacher="dtfd", warm_up_epochs=1),
    "weno clam_mb": lambda: weno(teacher="clam_mb", pseudo_label="attention_evidence"),
    "weno minmax_global": lambda: weno(teacher="dsmil", pseudo_label="minmax_global"),
    "weno average": lambda: weno(teacher_average=0.9),
    "weno bag labels": lambda: weno(bag_label_share=0.5),
    "weno mining threshold": lambda: weno(mining="threshold"),
    "weno mining random": lambda: weno(mining="random"),
    "weno mining sub_bags": lambda: weno(mining="sub_bags"),
    "weno alternate": lambda: weno(schedule="alternate", pseudo_label="expmax"),
    "weno released": lambda: weno(
        teacher="dsmil", schedule="released", pseudo_label="minmax_global", label_floor=0.0
    ),
    "auto": lambda: case(train_auto, distillation=DISTILLATION, mining=None, tolerance=2.0),
    "distill": distill,
}


def train_case(name, folder):
    """Train a case and leave in `folder` what came of it; of several processes the first writes."""
    trained = CASES[name]()(work_dir=folder / "work", on_epoch=lambda row: None)
    model = trained.last_model
    with torch.no_grad():
        output = model(torch.from_numpy(VAL.features[:]), torch.from_numpy(VAL.offsets))
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {"bag_logits": output.bag_logits, "evidence": output.evidence}
    if output.instance_logits is not None:
        tensors["instance_logits"] = output.instance_logits
    return tensors, trained.history


def read_case(folder):
    return load_file(folder / "tensors.safetensors"), json.loads((folder / "history.json").read_text())


def main(rank, processes, folder):
    """Train the cases named on the command line as one process of several."""
    torch.set_num_threads(1)
    with joined(Place(rank, processes, f"file://{folder}/meeting"), device="cpu") as ranks:
        for name in sys.argv[4:]:
            own = folder / name.replace(" ", "_")
            own.mkdir(exist_ok=True)
            tensors, history = train_case(name, own)
            if ranks.first:
                save_file(
                    {key: value.contiguous() for key, value in tensors.items()}, own / "tensors.safetensors"
                )
                (own / "history.json").write_text(json.dumps(history))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
