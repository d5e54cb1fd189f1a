"""Feature files of a former run that still fit what would be made."""

from pathlib import Path

from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import FeatureFile, read_features


def kept_features(path: Path, expected_hash: str) -> FeatureFile | None:
    """Return the file if it is whole and carries the expected `inputs_hash`; a damaged one is made anew."""
    if not path.is_file():
        return None
    try:
        features = read_features(path)
    except BadInput:
        return None
    return features if features.header.get("inputs_hash") == expected_hash else None
