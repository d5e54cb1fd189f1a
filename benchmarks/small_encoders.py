"""Four ways to a small tile encoder, on one fold's slides: by features, by logits, by labels, not at all."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.tensors import tensors_below
from wsi_kd.distillation.optimizers import optimizer_factory
from wsi_kd.distillation.sources.tiles import TileSet, read_pixels
from wsi_kd.distillation.task import TrainPlan
from wsi_kd.distillation.tile_encoder import EncoderTask, SmallSide, Turned, distill_encoder
from wsi_kd.features.distilled import EncoderForm
from wsi_kd.features.distilled_network import build_network
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.kd import LOSSES, Cosine, Distiller
from wsi_kd.mil.weno import TeacherStudent

CHANNELS: Final = (16, 32, 64, 128)
ENCODED_AT_ONCE: Final = 256


class Pixels(NamedTuple):
    """The tiles of a bag set, in its order."""

    tiles: Tensor
    """(tiles, edge, edge, 3) bytes."""
    slide_labels: Tensor
    """(tiles,): each tile has its slide's."""


def form_of(edge_px: int) -> EncoderForm:
    """Return the small encoder's shape: tiles are read as they are."""
    return EncoderForm("tile_cnn", {"channels": list(CHANNELS)}, edge_px, (0.5,) * 3, (0.5,) * 3)


def read_tiles(pixels_dir: Path, bags: BagSet) -> Pixels:
    """Read the pixels of the very tiles of `bags`."""
    tiles = []
    for number, slide_id in enumerate(bags.slide_ids):
        slide = read_pixels(pixels_dir / f"{slide_id}.h5")
        coords = bags.coords[bags.offsets[number] : bags.offsets[number + 1]]
        if slide is None or not np.array_equal(slide.file.coords, coords):
            raise SystemExit(f"{pixels_dir / slide_id}.h5: not the tiles of the features; run embed anew")
        tiles.append(slide.tiles)
    labels = np.repeat(bags.labels, np.diff(bags.offsets))
    return Pixels(torch.from_numpy(np.concatenate(tiles)), torch.from_numpy(labels))


def said_of(large: TeacherStudent, bags: BagSet) -> Tensor:
    """Return the tile logits of a trained model's student on the large encoder's features."""
    with torch.no_grad():
        output = large(torch.from_numpy(bags.features).float(), torch.from_numpy(bags.offsets))
    if output.instance_logits is None:
        raise SystemExit("the large model has no student; take one of recipe weno")
    logits: Tensor = output.instance_logits
    return logits


def plan_of(epochs: int, seed: int) -> TrainPlan:
    """Return the plan that all trainings share."""
    optimizer = optimizer_factory("adamw", {"weight_decay": 1e-2}, learning_rate=2e-3)
    return TrainPlan(epochs, optimizer, Cosine(1.0, 0.0), "cpu", seed)


def by_teacher(
    kind: str, pixels: dict[str, Pixels], bags: dict[str, BagSet], *, large: TeacherStudent, plan: TrainPlan
) -> dict[str, Tensor]:
    """Distill by `features` or by `logits`, without any label; return the encoder's weights."""
    logits = {part: said_of(large, bags[part]) if kind == "logits" else None for part in ("train", "val")}
    train, val = (
        TileSet(pixels[part].tiles, torch.from_numpy(bags[part].features), logits[part])
        for part in ("train", "val")
    )
    loss = LOSSES["hint"]() if kind == "features" else LOSSES["bkd"](activation="sigmoid")
    task = EncoderTask(
        form=form_of(train.pixels.shape[1]),
        train=train,
        val=val,
        criteria={kind: (loss, 1.0)},
        plan=plan,
        batch_size=128,
        turned=True,
        weight_schedules={},
        state_path=None,
        on_epoch=None,
    )
    return distill_encoder(task).outcome.weights


def by_labels(pixels: dict[str, Pixels], plan: TrainPlan) -> dict[str, Tensor]:
    """Train alone: every tile is told its slide's label; the same steps, optimizer and turned tiles."""
    student = small_side(pixels["train"].tiles.shape[1], seed=plan.seed, classes=2)
    distiller = Distiller(
        student,
        [],
        criteria={"ce": (LOSSES["ce"](), 1.0)},
        optimizer=plan.optimizer,
        learning_rate_schedule=plan.learning_rate_schedule,
        seed=plan.seed,
        adapter=lambda batch: ((batch[0],), batch[1]),
        augment=Turned(),
    )
    distiller.fit(*(_labeled(pixels[part]) for part in ("train", "val")), epochs=plan.epochs)
    return tensors_below("encoder.", distiller.student_state(which="best"))


def not_at_all(edge_px: int, seed: int) -> dict[str, Tensor]:
    """Return the weights that all three start from."""
    return dict(small_side(edge_px, seed=seed, classes=0).encoder.state_dict())


def small_side(edge_px: int, *, seed: int, classes: int) -> SmallSide:
    """Build the student with weights drawn by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallSide(form_of(edge_px), classes=classes)


def describe(weights: dict[str, Tensor], pixels: Pixels, bags: BagSet) -> BagSet:
    """Return the bags with the small encoder's features in the place of the large one's."""
    encoder = small_encoder(weights, pixels.tiles.shape[1])
    parts = torch.split(pixels.tiles, ENCODED_AT_ONCE)
    return bags._replace(features=np.concatenate([encoder(part.numpy()) for part in parts]))


def small_encoder(weights: dict[str, Tensor], edge_px: int) -> NetworkEncoder:
    """Return the encoder as a run uses it."""
    form = form_of(edge_px)
    network = build_network(form.network, form.model_arguments)
    network.load_state_dict(weights)
    return NetworkEncoder(
        "small",
        network,
        input_px=edge_px,
        pixel_mean=form.pixel_mean,
        pixel_std=form.pixel_std,
        model_arguments={},
        weights_hash="",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def _labeled(pixels: Pixels) -> DataLoader[Any]:
    dataset = TensorDataset(*pixels)
    order = BatchSampler(RandomSampler(dataset), 128, drop_last=False)
    return DataLoader(dataset, sampler=order, batch_size=None)
