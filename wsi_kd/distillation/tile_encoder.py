"""A large tile encoder distilled into a small one, by features or by logits, without any label.

    small side   h = encoder(pixels), logits = W h + b (only where logits are learned)
    large side   g = (features - mean) / deviation, moments of the training tiles; logits of a trained model

Both sides are what `wsi_kd.kd` calls networks: every loss of its registry that needs no labels works between
h and g (`hint`: a linear map of h must equal g, thrown away afterwards) or between the logits. Standardized,
because features of one encoder differ in scale by orders of magnitude and MIL standardizes them anyway. The
best epoch is that of the lowest weighted sum of the losses on the validation slides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from wsi_kd.core.errors import BadInput
from wsi_kd.core.tensors import tensors_below
from wsi_kd.distillation.sources.tiles import TileSet
from wsi_kd.distillation.task import Outcome, TrainPlan
from wsi_kd.features.distilled import EncoderForm
from wsi_kd.features.distilled_network import build_network
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.outputs import FEATURES, LABELS, LOGITS, DistillationLoss
from wsi_kd.kd.schedules import Schedule
from wsi_kd.kd.seeding import seeded
from wsi_kd.mil.projectors import SYMMETRIES, turn

ENCODER: Final = "encoder"
DESCRIBED: Final = "described"
LAYERS: Final = (ENCODER, DESCRIBED)
BYTE: Final = 255.0
LEAST_DEVIATION: Final = 1e-6


class SmallSide(nn.Module):
    """The small encoder with its normalization; a linear classifier on it where logits are learned."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, form: EncoderForm, *, classes: int) -> None:
        """Build with new weights; `classes` 0: none, the logits are the features."""
        super().__init__()
        self.encoder = build_network(form.network, form.model_arguments)
        self.register_buffer("mean", torch.tensor(form.pixel_mean).view(1, 3, 1, 1) * BYTE)
        self.register_buffer("deviation", torch.tensor(form.pixel_std).view(1, 3, 1, 1) * BYTE)
        self.feature_dim = self._probe(form)
        self.head = nn.Linear(self.feature_dim, classes) if classes else nn.Identity()

    def forward(
        self, pixels: UInt8[Tensor, "tiles edge edge 3"], *said: Tensor
    ) -> Float[Tensor, "tiles logits"]:
        """Score tiles; what the large side `said` travels with them and is not looked at."""
        images = pixels.permute(0, 3, 1, 2).float()
        logits: Tensor = self.head(self.encoder((images - self.mean) / self.deviation))
        return logits

    @torch.no_grad()
    def _probe(self, form: EncoderForm) -> int:
        self.encoder.eval()
        try:
            found = self.encoder(torch.zeros(2, 3, form.input_px, form.input_px))
        except (RuntimeError, ValueError, AssertionError) as error:
            what = " ".join(str(error).split())[:150]
            raise BadInput(
                f"student: {form.network} does not take tiles of {form.input_px} px ({what}); "
                "set student.input_px to an edge that it takes"
            ) from None
        self.encoder.train()
        return int(found.shape[1])


class LargeSide(nn.Module):
    """What the large encoder, and a model on it, said of the tiles: frozen, so it needs no network."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor) -> None:
        """Take the moments of the training tiles' features (tiles, features)."""
        super().__init__()
        mean, deviation = _moments(features)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.described = nn.Identity()

    def forward(self, pixels: Tensor, features: Tensor, *logits: Tensor) -> Float[Tensor, "tiles logits"]:
        """Return the logits that came with the tiles, else the standardized features."""
        described: Tensor = self.described((features.float() - self.mean) / self.deviation)
        return logits[0] if logits else described


@dataclass(frozen=True)
class Turned:
    """Shows each tile by one of the square's eight symmetries, drawn anew; `Distiller`'s `augment`."""

    def __call__(self, inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
        """Turn the pixels; what is said of them stays."""
        pixels, *said = inputs
        symmetry = torch.randint(SYMMETRIES, (len(pixels),)).to(pixels.device)
        return (turn(pixels, symmetry), *said), labels


class EncoderTask(NamedTuple):
    """All that a distillation is given."""

    form: EncoderForm
    """The small encoder's."""
    train: TileSet
    val: TileSet
    criteria: Mapping[str, tuple[DistillationLoss, float]]
    plan: TrainPlan
    batch_size: int
    turned: bool
    """Whether tiles are turned and mirrored by chance."""
    weight_schedules: Mapping[str, Schedule]
    state_path: Path | None
    on_epoch: Callable[[dict[str, Any]], None] | None


class EncoderOutcome(NamedTuple):
    """What it comes to."""

    outcome: Outcome
    """`weights` are those of the encoder alone."""
    feature_dim: int


def distill_encoder(task: EncoderTask) -> EncoderOutcome:
    """Train the small encoder; killed, it goes on from `state_path`.

    Raises:
        BadInput: criteria that need labels, or logits where there are none; as `Distiller`.
        RunFailed: as `Distiller.fit`.
    """
    check_criteria(task.criteria, logits=task.train.logits is not None)
    plan = task.plan
    classes = 0 if task.train.logits is None else task.train.logits.shape[1]
    with seeded(plan.seed, 0, device=torch.device("cpu")):
        student = SmallSide(task.form, classes=classes)
    distiller = Distiller(
        student,
        LargeSide(task.train.features),
        criteria=task.criteria,
        layers={name: LAYERS for name, (loss, _) in task.criteria.items() if FEATURES in loss.needs},
        weight_schedules=task.weight_schedules,
        optimizer=plan.optimizer,
        learning_rate_schedule=plan.learning_rate_schedule,
        device=plan.device,
        seed=plan.seed,
        adapter=_unlabeled,
        augment=Turned() if task.turned else None,
    )
    loaders = [
        tile_loader(part, batch_size=task.batch_size, shuffled=shuffled)
        for part, shuffled in ((task.train, True), (task.val, False))
    ]
    result = distiller.fit(*loaders, epochs=plan.epochs, state_path=task.state_path, on_epoch=task.on_epoch)
    weights = tensors_below(f"{ENCODER}.", distiller.student_state(which="best"))
    outcome = Outcome(result.history, result.best, result.last, result.best_epoch, weights, told={})
    return EncoderOutcome(outcome, student.feature_dim)


def check_criteria(criteria: Mapping[str, tuple[DistillationLoss, float]], *, logits: bool) -> None:
    """Check that the losses can be computed of tiles without labels.

    Raises:
        BadInput: one needs labels, or logits where no model gives any.
    """
    for name, (loss, _) in criteria.items():
        if LABELS in loss.needs:
            raise BadInput(
                f"criterion '{name}': it needs labels, and tiles have none; "
                "take one on features (hint) or logits"
            )
        if LOGITS in loss.needs and not logits:
            raise BadInput(
                f"criterion '{name}': it reads logits; set `model` to a trained model's folder, or take a "
                "criterion on features (hint)"
            )


def tile_loader(tiles: TileSet, *, batch_size: int, shuffled: bool) -> DataLoader[Any]:
    """Return a loader of (pixels, features[, logits]), read a batch at a time."""
    parts = [tiles.pixels, tiles.features, *([] if tiles.logits is None else [tiles.logits])]
    dataset = TensorDataset(*parts)
    order = RandomSampler(dataset) if shuffled else SequentialSampler(dataset)
    # a last batch of one tile cannot be normalized over the batch
    drop = shuffled and len(tiles.pixels) % batch_size == 1 and len(tiles.pixels) > 1
    return DataLoader(dataset, sampler=BatchSampler(order, batch_size, drop_last=drop), batch_size=None)


def _unlabeled(batch: Any) -> tuple[Any, None]:
    return tuple(batch), None


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each feature, summed in float64; 1 where a feature hardly varies."""
    blocks = torch.split(features, 1 << 14)
    mean = torch.stack([block.double().sum(dim=0) for block in blocks]).sum(dim=0) / len(features)
    squares = torch.stack([(block.double() - mean).square().sum(dim=0) for block in blocks]).sum(dim=0)
    deviation = (squares / len(features)).sqrt()
    constant = deviation <= LEAST_DEVIATION * (1.0 + mean.abs())
    return mean.float(), torch.where(constant, torch.ones_like(deviation), deviation).float()
