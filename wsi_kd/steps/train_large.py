"""The trained model that recipe distill learns from: loaded, and checked to be of the same training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_kd.core.errors import BadInput
from wsi_kd.training.checkpoint import LoadedModel, load_model

SAME_FEATURES = ("encoder", "encoder_settings", "weights_hash")


def load_large(
    directory: Path | None,
    *,
    recipe: str,
    seed: int,
    fold: int,
    classes: Sequence[str],
    header: Mapping[str, Any],
) -> LoadedModel:
    """Load the selected model in `directory`; `header` is that of the features it is to be shown.

    Another seed or fold is refused: a model of another fold has seen slides that are tested on in this one.

    Raises:
        BadInput: no such model, or one of another recipe, seed, fold, encoder or other classes.
    """
    remake = f"wsi-kd train --recipe {recipe} --seed {seed} --fold {fold}"
    if directory is None or not (directory / "model.json").is_file():
        raise BadInput(
            f"{directory or 'no folder given'}: recipe distill learns from the trained model of recipe "
            f"{recipe}, and there is none; make it first with: {remake}"
        )
    large = load_model(directory)
    wanted = {"recipe": recipe, "seed": seed, "fold": fold, "classes": list(classes)}
    wanted |= {key: header[key] for key in SAME_FEATURES}
    odd = [
        f"{key} {large.header.get(key)} instead of {value}"
        for key, value in wanted.items()
        if large.header.get(key) != value
    ]
    if odd:
        raise BadInput(
            f"{directory / 'model.json'}: not the model to learn from: {'; '.join(odd)}; "
            f"make it anew with: {remake}"
        )
    return large


def told_of(large: LoadedModel) -> dict[str, Any]:
    """Return what tells the large model apart, its size beside it."""
    kept = {key: large.header[key] for key in ("recipe", "teacher", "epoch", "weights_sha256")}
    return {**kept, "parameters": sum(value.numel() for value in large.model.parameters())}
