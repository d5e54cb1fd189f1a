"""What `infer` loads once: checkpoints, and the encoder and network that they were trained on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.core.messages import warn
from wsi_kd.core.tensors import float32_by_default
from wsi_kd.features.distilled import WEIGHTS_NAME, distilled_folder, is_distilled
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.foreign_header import GIVEN_ENCODER
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.encoder import build_encoder, tell_notes
from wsi_kd.steps.mask import mask_network
from wsi_kd.tissue.segmentation_network import SegmentationNetwork
from wsi_kd.training.checkpoint import LoadedModel, load_model

MUST_AGREE = (
    "classes",
    "encoder",
    "encoder_settings",
    "weights_hash",
    "feature_dim",
    "stain",
    "network_sha256",
    "student_pooling",
    "top_k",
)
"""Members of the headers that models of one ensemble share, so that features are computed once."""

PLACES = {"mask": {"network", "network_device", "edited_dir"}, "embed": {"weights", "weights_dir", "device"}}
"""Settings that say where something lies, not what it is; hashes say that."""
SHOWN_CHARACTERS = 60


class Inference(NamedTuple):
    """What is loaded once and serves every slide."""

    models: tuple[LoadedModel, ...]
    """On `device`; several are an ensemble."""
    encoder: Encoder
    settings: Settings
    device: torch.device
    network: SegmentationNetwork | None
    """What finds the tissue, where the models' slides were segmented by a network."""

    @property
    def header(self) -> dict[str, Any]:
        """Of the first model; what all share can be read there."""
        return self.models[0].header


def load_inference(
    model_dirs: Sequence[Path],
    *,
    device: str = "auto",
    weights: Path | None = None,
    network: Path | None = None,
    edited_dir: Path | None = None,
) -> Inference:
    """Load checkpoints, the encoder that they were trained on, and the network that found the tissue, if any.

    Args:
        model_dirs: folders with model.safetensors and model.json.
        device: auto, cpu, cuda or cuda:N, for encoder, network and models.
        weights: the encoder's weight file, of which a model records name and hash; another is refused.
        network: the same of the segmentation network.
        edited_dir: folder of hand-drawn outlines of tissue; a model records that there was one.

    Raises:
        BadInput: a damaged checkpoint, models that do not belong together, an unknown encoder, or weights or
            a network that are not those of the training.
    """
    place = choose_device(device)
    models = load_models(model_dirs, device=place)
    _refuse_given_encoder(models[0], where=model_dirs[0])
    settings = _settings(
        models[0],
        device=str(place),
        weights=weights,
        network=network,
        edited_dir=edited_dir,
        where=model_dirs[0] / "model.json",
    )
    with float32_by_default():
        encoder = build_encoder(settings.embed)
    tell_notes(settings)
    _check_encoder(encoder, models[0], where=str(settings.embed.weights or settings.embed.encoder))
    return Inference(models, encoder, settings, place, _mask_network(models[0], settings))


def load_models(model_dirs: Sequence[Path], *, device: torch.device) -> tuple[LoadedModel, ...]:
    """Load the models of one answer onto `device`.

    Raises:
        BadInput: no model, a damaged checkpoint, one model twice, or models that do not belong together.
    """
    if not model_dirs:
        raise BadInput("no model was given; expected at least one folder with model.json")
    models = tuple(load_model(folder) for folder in model_dirs)
    _check_ensemble(model_dirs, models)
    for loaded in models:
        loaded.model.to(device)
    return models


def models_identity(models: Sequence[LoadedModel]) -> list[str]:
    """Return a hash of each model's header: weights, thresholds, settings and all else."""
    return [content_hash(loaded.header) for loaded in models]


def _check_ensemble(model_dirs: Sequence[Path], models: Sequence[LoadedModel]) -> None:
    first, first_dir = _shared(models[0].header), model_dirs[0]
    weights: dict[str, Path] = {}
    for folder, loaded in zip(model_dirs, models, strict=True):
        sha256 = str(loaded.header["weights_sha256"])
        if sha256 in weights:
            raise BadInput(f"one model twice in an ensemble: {weights[sha256]} and {folder}; name each once")
        weights[sha256] = folder
        shared = _shared(loaded.header)
        for name in dict.fromkeys([*first, *shared]):
            if shared.get(name) != first.get(name):
                raise BadInput(
                    f"these models are no ensemble: {first_dir} has {name} {_short(first.get(name))}, "
                    f"{folder} has {_short(shared.get(name))}; give models of one run and recipe"
                )


def _shared(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what models of one ensemble agree in, by the name that a message gives it."""
    named = {name: header.get(name) for name in MUST_AGREE}
    for section, values in header["sections"].items():
        kept = {key: value for key, value in values.items() if key not in PLACES.get(section, set())}
        named |= {f"{section}.{key}": value for key, value in kept.items()}
    return {**named, "student": bool(header["model"]["with_student"])}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _refuse_given_encoder(loaded: LoadedModel, *, where: Path) -> None:
    """Tell of a model that learned from another program's features: nothing here can make them of a slide."""
    name = str(loaded.header["encoder"])
    if name.startswith(GIVEN_ENCODER):
        told = name.removeprefix(GIVEN_ENCODER)
        raise BadInput(
            f"{where}: this model was trained on features that another program made (encoder: {told}), which "
            "wsi-kd cannot make from a slide; make the slide's features there and give them with: "
            "wsi-kd infer --features FILE"
        )


def _check_encoder(encoder: Encoder, loaded: LoadedModel, *, where: str) -> None:
    found = {
        "weights_hash": encoder.weights_hash,
        "feature_dim": encoder.feature_dim,
        "encoder_settings": dict(encoder.settings),
    }
    for key, value in found.items():
        if value != loaded.header[key]:
            raise BadInput(
                f"{where}: the encoder's {key} is {value}, the model was trained on {loaded.header[key]}; "
                "give the encoder weights of the training with --weights"
            )


def _mask_network(loaded: LoadedModel, settings: Settings) -> SegmentationNetwork | None:
    """Load the network that found the tissue at training; its file may have moved."""
    file, expected = settings.mask.network, loaded.header.get("network_sha256", "")
    remedy = "give the segmentation network of the training with --mask-network"
    if settings.mask.source == "network" and file is not None and not file.is_file():
        raise BadInput(f"{file}: no such file; {remedy}")
    network = mask_network(settings)
    if network is not None and network.sha256 != expected:
        raise BadInput(f"{file}: sha256 {network.sha256}, at training it was {expected}; {remedy}")
    return network


def _settings(
    loaded: LoadedModel,
    *,
    device: str,
    weights: Path | None,
    network: Path | None,
    where: Path,
    edited_dir: Path | None = None,
) -> Settings:
    """Return the settings of the training with files where they lie here; models record names alone."""
    sections = {name: dict(section) for name, section in loaded.header["sections"].items()}
    sections["embed"]["device"] = sections["mask"]["network_device"] = device
    if network is not None:
        if sections["mask"].get("source") != "network":
            raise BadInput(f"{where}: no segmentation network found the tissue; leave --mask-network out")
        sections["mask"]["network"] = str(network)
    _place_weights(sections["embed"], weights, where=where)
    offline = sections["embed"].get("weights_dir")
    if offline is not None and not Path(offline).is_dir():
        sections["embed"]["weights_dir"] = None  # the training machine's; the weights' hash decides
    _place_outlines(sections["mask"], edited_dir)
    return parse_settings(sections, where=str(where))


def _place_weights(embed: dict[str, Any], weights: Path | None, *, where: Path) -> None:
    """Name the encoder's weight file, given or where the training had it."""
    if weights is not None:
        embed["weights"] = str(weights)
        return
    recorded, encoder = embed.get("weights"), str(embed.get("encoder", ""))
    if recorded is None and is_distilled(encoder):
        recorded = str(distilled_folder(encoder, None) / WEIGHTS_NAME)
    if recorded is not None and not Path(recorded).is_file():
        raise BadInput(
            f"{where}: the encoder's weights were the file '{recorded}' at training, which is not here; "
            "give it with --weights"
        )


def _place_outlines(mask: dict[str, Any], edited_dir: Path | None) -> None:
    recorded = mask.get("edited_dir")
    if edited_dir is not None:
        mask["edited_dir"] = str(edited_dir)
    elif recorded is not None and not Path(recorded).is_dir():
        mask["edited_dir"] = None
        warn(f"infer: hand-drawn outlines (at training in '{recorded}') are read with --edited-dir only")
