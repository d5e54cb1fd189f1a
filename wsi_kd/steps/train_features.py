"""What a training learns from: the parts of a fold, their features in memory or left on disk."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from wsi_kd.bags.datasets import MUST_AGREE, BagSet, load_bags
from wsi_kd.bags.manifest import Manifest
from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.core.machine import available_memory
from wsi_kd.core.messages import say

FeaturesIn: TypeAlias = Literal["auto", "memory", "disk"]
SHARE_FOR_FEATURES: Final = 0.5
"""Of the available memory; the rest is for steps, for other jobs and for the system's cache of files."""
GB: Final = 1e9


class Parts(NamedTuple):
    """What a model is trained on and selected on."""

    train: BagSet
    val: BagSet


def load_parts(
    fold: Fold, manifest: Manifest, features_dir: Path, *, features_in: FeaturesIn, processes: int
) -> Parts:
    """Check the features of the fold's train and val slides, and hold them or leave them on disk.

    `processes` is how many train together; each would hold all.

    Raises:
        BadInput: slides without features or with features of another kind, slides unknown to the manifest.
    """
    rows = {row.slide_id: row for row in manifest.rows}
    absent = [slide_id for slide_id in (*fold.train, *fold.val) if slide_id not in rows]
    if absent:
        raise BadInput(
            f"the split names slides that the manifest does not hold: {', '.join(absent)}; run: wsi-kd split"
        )
    paths = (features_dir / f"{slide_id}.h5" for slide_id in (*fold.train, *fold.val))
    on_disk = features_in == "disk" or (features_in == "auto" and not have_room(paths, processes=processes))
    train, val = (
        load_bags(features_dir, [rows[slide_id] for slide_id in part], manifest.classes, on_disk=on_disk)
        for part in (fold.train, fold.val)
    )
    odd = [key for key in MUST_AGREE if train.header.get(key) != val.header.get(key)]
    if odd:
        raise BadInput(
            f"{features_dir}: train and val slides differ in {', '.join(odd)}; run anew: wsi-kd embed"
        )
    return Parts(train, val)


def have_room(paths: Iterable[Path], *, processes: int) -> bool:
    """Tell whether so many processes can each hold these files in half of the memory; say so where not."""
    stored = 0
    for path in paths:
        with suppress(OSError):  # one that is absent is told of where it is read
            stored += path.stat().st_size
    available = available_memory()
    if stored * processes <= SHARE_FOR_FEATURES * available:
        return True
    each = f" for each of {processes} processes" if processes > 1 else ""
    say(
        f"train: the features stay on disk: {stored / GB:.1f} GB{each} and {available / GB:.1f} GB of memory "
        "available (train.features_in)"
    )
    return False
