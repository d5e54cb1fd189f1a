"""Whether a record of `check-precision` speaks of what the run holds now."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsi_kd.core.files import read_json
from wsi_kd.features.store import read_header


def changed_since(record: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Yield what is other now, a model or a slide each; feature files that were removed are not missed.

    Args:
        record: content of `precision.json`.
        root: the run's folder.

    Raises:
        BadInput: a header that is damaged.
    """
    for model in record["models"]:
        header = root / "models" / model["model"] / "model.json"
        if model["in_run"] and _weights(header) != model["weights_sha256"]:
            yield f"{model['model']}: checked with other weights"
    for slide in record["slides"]:
        features = root / "features" / f"{slide['slide_id']}.h5"
        if features.is_file() and read_header(features).get("inputs_hash") != slide["features_inputs_hash"]:
            yield f"{slide['slide_id']}: other features now"


def _weights(model: Path) -> str:
    return str(read_json(model, remake="wsi-kd train")["weights_sha256"]) if model.is_file() else ""
