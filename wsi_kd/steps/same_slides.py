"""One slide file under several ids: whatever its name, a copy in another part of a fold is a leak."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wsi_kd.bags.splits import Fold
from wsi_kd.bags.tables import listed
from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import read_header


def read_fingerprints(slide_ids: Iterable[str], features_dir: Path) -> dict[str, str]:
    """Return the fingerprint of the file that each slide's features were made of, where their header has one.

    Features of other programs have none. One line of each file is read.

    Raises:
        BadInput: features that are absent or damaged.
    """
    found = {
        slide_id: read_header(features_dir / f"{slide_id}.h5").get("fingerprint") for slide_id in slide_ids
    }
    return {slide_id: str(fingerprint) for slide_id, fingerprint in found.items() if fingerprint}


def same_files(fingerprints: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the slide ids that share a file, in the order they were given.

    >>> same_files({"a": "1", "b": "2", "c": "1"})
    [('a', 'c')]
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for slide_id, fingerprint in fingerprints.items():
        groups[fingerprint].append(slide_id)
    return [tuple(slide_ids) for slide_ids in groups.values() if slide_ids[1:]]


def refuse_copies_across_parts(folds: Sequence[Fold], groups: Iterable[Sequence[str]]) -> None:
    """Refuse folds in which slides of one file stand in two parts.

    Raises:
        BadInput: naming the first such fold and its slides.
    """
    groups = [tuple(group) for group in groups]
    for index, fold in enumerate(folds):
        part_of = {slide_id: part for part, slide_ids in fold._asdict().items() for slide_id in slide_ids}
        leaks = []
        for group in groups:
            placed = [(slide_id, part_of[slide_id]) for slide_id in group if slide_id in part_of]
            if len({part for _, part in placed}) > 1:
                leaks.append(" = ".join(f"{slide_id} ({part})" for slide_id, part in placed))
        if leaks:
            raise BadInput(
                f"fold {index} leaks: the same slide file under several ids in more than one part: "
                f"{listed(leaks)}; keep one of them in the manifest, or give them one case_id"
            )
