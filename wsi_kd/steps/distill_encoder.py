"""Step distill for tiles: a large encoder's features in; a small one out, for `embed.encoder: distilled:`.

| file | holds |
|---|---|
| `encoder.safetensors`, `encoder.json` | the small encoder of the best epoch, and what rebuilds it |
| `history.csv` | one row an epoch |
| `state-<hash>.safetensors` | where a killed run goes on; a finished one is not trained again |
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash, publish_table, writable_folder
from wsi_kd.core.places import without_folder, without_paths
from wsi_kd.core.provenance import stamp
from wsi_kd.core.shapes import FeatureArray
from wsi_kd.core.tensors import tensors_hash
from wsi_kd.distillation.sources.tiles import (
    Describe,
    Judge,
    TileSet,
    computed_features,
    read_tile_set,
    stored_features,
)
from wsi_kd.distillation.tile_encoder import EncoderOutcome, EncoderTask, check_criteria, distill_encoder
from wsi_kd.features.distilled import EncoderForm
from wsi_kd.features.distilled_network import save_encoder
from wsi_kd.features.encoders import check_encoder_name
from wsi_kd.features.store import read_header
from wsi_kd.features.tile_cnn import TILE_CNN
from wsi_kd.settings.distill_encoder import DistillEncoderSettings, TilesSettings
from wsi_kd.steps.distill_plan import criteria_of, train_plan, weight_schedules_of
from wsi_kd.steps.encoder import build_encoder
from wsi_kd.steps.split import read_fold
from wsi_kd.training.checkpoint import LoadedModel, load_model

LARGE_KEYS: Final = ("encoder", "encoder_settings", "weights_hash", "feature_dim")
DRAW: Final = 3
"""Second word of the seed of the validation slides."""


class LargeFacts(NamedTuple):
    """The large side: who describes tiles, who judges them, and what tells it apart in a header."""

    describe: Describe
    judge: Judge | None
    told: dict[str, Any]


def run_distill_encoder(settings: DistillEncoderSettings, *, out: Path, say: Callable[[str], None]) -> Path:
    """Distill a tile encoder; `say` is told a line an epoch. Return the folder that `distilled:` takes.

    Raises:
        BadInput: whatever of settings and files cannot be used.
        RunFailed: training diverged, or a full disk.
    """
    data, student = settings.data, settings.student
    criteria = criteria_of(settings)
    check_criteria(criteria, logits=settings.model is not None)
    _check_student(student.encoder)
    parts = draw_slides(data)
    writable_folder(out)
    large = _large_side(settings, parts)
    train, val = (_read(data, ids, large, input_px=student.input_px) for ids in (parts.train, parts.val))
    form = EncoderForm(
        student.encoder, student.model_arguments, train.pixels.shape[1], student.pixel_mean, student.pixel_std
    )
    tiles_sha256 = tensors_hash(_tensors("train", train) | _tensors("val", val))
    key = {"settings": settings.model_dump(mode="json"), "tiles": tiles_sha256}
    task = EncoderTask(
        form=form,
        train=train,
        val=val,
        criteria=criteria,
        plan=train_plan(settings.train, device=settings.train.device),
        batch_size=data.batch_size,
        turned=settings.train.augmentation == "dihedral",
        weight_schedules=weight_schedules_of(settings),
        state_path=out / f"state-{content_hash(key)[:16]}.safetensors",
        on_epoch=_teller(say, epochs=settings.train.epochs),
    )
    made = distill_encoder(task)
    facts = {"learned_from": large.told, "slides": _counts(parts), "tiles_sha256": tiles_sha256}
    _write(out, task, made, settings=without_paths(settings.model_dump(mode="json")), facts=facts)
    return out


def draw_slides(data: TilesSettings) -> Fold:
    """Return the slides of each part: those of the splits' fold, or a drawn share of all for validation.

    Raises:
        BadInput: no such folder, splits without this fold or of other slides; too few slides to draw.
    """
    found = sorted(path.stem for path in data.pixels_dir.glob("*.h5"))
    if not found:
        raise BadInput(
            f"{data.pixels_dir}: no feature files; expected those of a run with embed.encoder: pixels"
        )
    if data.splits is not None:
        return read_fold(data.splits, data.fold)
    order = np.random.default_rng([data.seed, DRAW]).permutation(len(found))
    count = max(1, round(data.val * len(found)))
    if count == len(found):
        raise BadInput(f"{data.pixels_dir}: one slide; at least two are needed, one of them for validation")
    val, train = (tuple(found[i] for i in sorted(part)) for part in (order[:count], order[count:]))
    return Fold(train, val, ())


def _check_student(name: str) -> None:
    if name in {"stain_texture", "pixels"} or name.startswith("distilled:"):
        raise BadInput(
            f"student.encoder '{name}' is no network that can be trained; take {TILE_CNN}, or a name "
            "of timm or torchvision"
        )
    if name != TILE_CNN:
        check_encoder_name(name)


def _large_side(settings: DistillEncoderSettings, parts: Fold) -> LargeFacts:
    data, model = settings.data, None if settings.model is None else load_model(settings.model)
    if data.features_dir is not None:
        header = read_header(data.features_dir / f"{parts.train[0]}.h5")
        describe = stored_features(data.features_dir)
        told = {key: header.get(key) for key in LARGE_KEYS}
    elif settings.teacher is not None:
        encoder = build_encoder(settings.teacher)
        describe = computed_features(encoder)
        told = {
            "encoder": without_folder(settings.teacher.encoder),
            "encoder_settings": dict(encoder.settings),
            "weights_hash": encoder.weights_hash,
            "feature_dim": encoder.feature_dim,
        }
    else:
        raise TypeError("settings without a large encoder are refused when they are read")
    if model is None:
        return LargeFacts(describe, None, told)
    _check_model(model, told, data, where=settings.model)
    kept = {key: model.header[key] for key in ("recipe", "seed", "fold", "weights_sha256")}
    return LargeFacts(describe, tile_judge(model), {**told, "model": kept})


def _check_model(
    model: LoadedModel, told: Mapping[str, Any], data: TilesSettings, *, where: Path | None
) -> None:
    if model.header["weights_hash"] != told["weights_hash"]:
        raise BadInput(
            f"{where}: trained on features of weights {model.header['weights_hash']}, these are of "
            f"{told['weights_hash']}; take a model of the large encoder's run"
        )
    if data.splits is not None and model.header["fold"] != data.fold:
        raise BadInput(
            f"{where}: a model of fold {model.header['fold']}, data.fold is {data.fold}: it has learned from "
            "slides that are tested on here; take the model of the same fold"
        )


def tile_judge(loaded: LoadedModel) -> Judge:
    """Return what gives a model's logits of a slide's tiles: its student's, without one its evidence."""

    @torch.no_grad()
    def judge(features: FeatureArray) -> Float32[np.ndarray, "tiles classes"]:
        offsets = torch.tensor([0, len(features)])
        output = loaded.model(torch.from_numpy(features).float(), offsets)
        logits = output.evidence if output.instance_logits is None else output.instance_logits
        scored: Float32[np.ndarray, "tiles classes"] = logits.float().numpy()
        return scored

    return judge


def _read(
    data: TilesSettings, slide_ids: tuple[str, ...], large: LargeFacts, *, input_px: int | None
) -> TileSet:
    return read_tile_set(
        data.pixels_dir,
        slide_ids,
        describe=large.describe,
        judge=large.judge,
        input_px=input_px,
        tiles_per_slide=data.tiles_per_slide,
        seed=data.seed,
    )


def _write(
    out: Path,
    task: EncoderTask,
    made: EncoderOutcome,
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write the history, then the encoder: its header stands for the whole."""
    outcome = made.outcome
    columns = [name for name in outcome.history[0] if outcome.history[0][name] is not None]
    rows = [[row[column] for column in columns] for row in outcome.history]
    publish_table(out / "history.csv", columns, rows, stamp=stamp("distillation_history", settings))
    scored = {"best_epoch": outcome.best_epoch, "validation_loss": outcome.best.loss}
    save_encoder(
        out,
        outcome.weights,
        form=task.form,
        feature_dim=made.feature_dim,
        settings=settings,
        facts={**facts, **scored, "tiles": {"train": len(task.train.pixels), "val": len(task.val.pixels)}},
    )


def _counts(parts: Fold) -> dict[str, int]:
    return {"train": len(parts.train), "val": len(parts.val)}


def _tensors(part: str, tiles: TileSet) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value for name, value in tiles._asdict().items() if value is not None}


def _teller(say: Callable[[str], None], *, epochs: int) -> Callable[[dict[str, Any]], None]:
    def tell(row: dict[str, Any]) -> None:
        known = {name: row[name] for name in row if name not in {"epoch", "learning_rate", "val_accuracy"}}
        told = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in known.items())
        say(f"student, epoch {int(row['epoch']) + 1} of {epochs}: {told}")

    return tell
