"""Step check-precision: what bfloat16, compiling and half-precision files do to a trained model's answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wsi_kd.bags.manifest import Manifest
from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json
from wsi_kd.features.encoders import STAIN_TEXTURE
from wsi_kd.features.pixels import PIXELS
from wsi_kd.inference.logit_gate import SlideChange, Verdict, judge
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps.precision_models import EncodedSlide, check_models_fit, load_checked, slide_change
from wsi_kd.steps.precision_record import How, precision_record
from wsi_kd.steps.precision_slides import PickedSlide, encode_slides, pick_slides
from wsi_kd.steps.predict import scored_slides
from wsi_kd.steps.split import read_fold


class Asked(NamedTuple):
    """What is asked, of how much."""

    slides: int = 4
    tiles: int = 512
    """Of each slide."""
    precision: str = ""
    """Instead of embed.precision: what it would change."""
    compiled: bool = False
    """As if embed.compile were set."""


class Checked(NamedTuple):
    """What was found; the file holds the same."""

    slides: tuple[SlideChange, ...] = ()
    verdict: Verdict | None = None
    """None where there is nothing to check."""
    how: str = ""
    """How tiles were encoded to be held against float32."""
    nothing: str = ""
    """Why there is nothing to check."""


def run_check_precision(
    manifest: Manifest,
    *,
    model_dirs: Sequence[Path],
    models_dir: Path,
    features_dir: Path,
    splits_path: Path,
    out_path: Path,
    settings: Settings,
    asked: Asked,
) -> Checked:
    """Encode tiles of a few slides as asked and in float32, score both, and write what changed.

    Slides are of the models' test part, then of their val part, by turns of the classes; a bag is the picked
    tiles. The same is asked of rounding to the stored type, and of the feature files as they are. Where the
    precision is float32 and nothing is compiled, nothing is encoded or written.

    Args:
        manifest: where the slides are.
        model_dirs: models of one fold.
        models_dir: folder of the run's models.
        features_dir: the run's feature files: they name tiles, stains and stored type.
        splits_path: the run's.
        out_path: `precision.json`; written whatever is found.
        settings: sections `slides`, `embed`, `predict` and `adopt` are used.
        asked: how much, and what instead of the settings.

    Raises:
        BadInput: models, features, slides or settings that are missing or do not belong together.
        RunFailed: the file could not be written.
    """
    embed = _embed_asked(settings, asked)
    if nothing := _nothing_to_check(embed):
        return Checked(nothing=nothing)
    device = choose_device(settings.predict.device)
    models = load_checked(model_dirs, models_dir, classes=manifest.classes, device=device)
    scored = scored_slides(manifest, read_fold(splits_path, models[0].loaded.header["fold"]))
    slides = pick_slides(
        sorted(scored, key=lambda slide: slide[1] != "test"),
        features_dir=features_dir,
        classes=manifest.classes,
        slides=asked.slides,
        tiles=asked.tiles,
    )
    check_models_fit(slides, models)
    changes = tuple(slide_change(one, models) for one in _encoded(slides, embed, settings))
    verdict, how = judge(changes), _how(embed)
    described = {"embed": embed.model_dump(mode="json"), "check_precision": asked._asdict()}
    paired = list(zip(slides, changes, strict=True))
    record = precision_record(paired, verdict, models=models, how=how, settings=described)
    publish_json(out_path, record)
    return Checked(changes, verdict, str(how))


def _embed_asked(settings: Settings, asked: Asked) -> EmbedSettings:
    if settings.adopt.folder is not None:
        raise BadInput(
            "adopt.folder: another program made the features; nothing here encodes tiles as it did"
        )
    update: Mapping[str, Any] = {
        "precision": asked.precision or settings.embed.precision,
        "compile": settings.embed.compile or asked.compiled,
    }
    return settings.embed.model_copy(update=update)


def _nothing_to_check(embed: EmbedSettings) -> str:
    """Say why every tile would be encoded twice alike; empty where it would not."""
    if embed.encoder in {STAIN_TEXTURE, PIXELS}:
        return f"encoder '{embed.encoder}' is no network: embed.precision and embed.compile change nothing"
    if embed.compile or _dtype(embed.precision, embed) != torch.float32:
        return ""
    return (
        f"embed.precision {embed.precision} is float32 on {_how(embed).device} and embed.compile is off; ask "
        "what bfloat16 would change with: --precision bfloat16"
    )


def _encoded(slides: Sequence[PickedSlide], embed: EmbedSettings, settings: Settings) -> list[EncodedSlide]:
    """Encode in float32, then as asked: one network is in memory at a time."""
    plain = embed.model_copy(update={"precision": "float32", "compile": False})
    exact = encode_slides(slides, plain, settings)
    found = encode_slides(slides, embed, settings)
    asked, encoded = _dtype(embed.precision, embed), []
    for slide, first, second in zip(slides, exact, found, strict=True):
        own = _dtype(slide.embedded_in, embed)
        expected = first if own == torch.float32 else second if own == asked else None
        encoded.append(EncodedSlide(slide, first, second, expected))
    return encoded


def _dtype(precision: str, embed: EmbedSettings) -> torch.dtype:
    return matmul_dtype(precision, choose_device(embed.device))


def _how(embed: EmbedSettings) -> How:
    device = choose_device(embed.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return How(str(_dtype(embed.precision, embed)).removeprefix("torch."), embed.compile, name)
