"""Feature files of any layout, checked one at a time: hashes where there are some, else form and values."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import SIDECAR_SUFFIX, check_table
from wsi_kd.core.progress import progress
from wsi_kd.features.foreign import read_foreign_slide
from wsi_kd.features.foreign_checks import feature_faults
from wsi_kd.features.foreign_folders import ForeignSlide, find_foreign, foreign_slide

ASSUMED_MPP = 1.0
"""STAMP's positions in um are checked as they are: their form needs no resolution."""
COHORT_TRAITS = (
    "encoder",
    "weights_hash",
    "feature_dim",
    "feature_dtype",
    "tile_px",
    "tile_mpp",
    "overlap_px",
)
"""What the slides of one cohort must share to be trained on together."""


class Verdict(NamedTuple):
    """One file; `faults` is empty where nothing is wrong."""

    path: str
    layout: str
    status: str
    tiles: int
    feature_dim: int
    feature_dtype: str
    faults: tuple[str, ...]
    traits: Mapping[str, Any] = MappingProxyType({})


def verify_paths(paths: Sequence[Path], *, layout: str = "auto") -> Iterator[Verdict]:
    """Check files and folders of features, one file in memory at a time.

    Of our own folders the status tables are checked too.

    Raises:
        BadInput: nothing there to check.
    """
    found = {path: _slides(path, layout) for path in paths}
    with progress("features verify", total=sum(map(len, found.values())), unit="files") as advance:
        for path, slides in found.items():
            for slide in slides:
                verdict = _verdict(slide)
                advance(slide_id=slide.slide_id, note="; ".join(verdict.faults) or "nothing wrong")
                yield verdict
            if path.is_dir():
                yield from _tables(path)


def disagreements(verdicts: Sequence[Verdict]) -> list[str]:
    """Tell in which traits the files of one cohort differ, with the counts of each value."""
    told = []
    for trait in COHORT_TRAITS:
        counts = Counter(str(verdict.traits[trait]) for verdict in verdicts if trait in verdict.traits)
        if len(counts) > 1:
            values = ", ".join(f"{value} ({count} files)" for value, count in counts.most_common())
            told.append(f"{trait}: {values}")
    return told


def _slides(path: Path, layout: str) -> list[ForeignSlide]:
    if path.is_dir():
        return list(find_foreign(path, layout).slides.values())
    return [foreign_slide(path, layout)]


def _verdict(slide: ForeignSlide) -> Verdict:
    empty = Verdict(str(slide.path), slide.layout, "", 0, 0, "", ())
    try:
        features = read_foreign_slide(slide, slide_mpp=ASSUMED_MPP if slide.layout != "wsi_kd" else None)
    except BadInput as error:
        return empty._replace(faults=(str(error).removeprefix(f"{slide.path}: "),))
    faults = list(feature_faults(features))
    if features.slide_id != slide.slide_id:
        faults.append(f"holds the slide '{features.slide_id}'")
    header = features.header
    return Verdict(
        path=str(slide.path),
        layout=str(header.get("layout") or slide.layout),
        status=str(header["status"]),
        tiles=len(features.coords),
        feature_dim=int(features.features.shape[1]),
        feature_dtype=str(features.features.dtype),
        faults=tuple(faults),
        traits={trait: header.get(trait) for trait in COHORT_TRAITS} if len(features.coords) else {},
    )


def _tables(folder: Path) -> Iterator[Verdict]:
    for sidecar in sorted(folder.glob(f"*.csv{SIDECAR_SUFFIX}")):
        table = sidecar.with_name(sidecar.name.removesuffix(SIDECAR_SUFFIX))
        try:
            check_table(table, remake="the command that wrote it")
            faults: tuple[str, ...] = ()
        except BadInput as error:
            faults = (str(error).removeprefix(f"{table}: "),)
        yield Verdict(str(table), "table", "", 0, 0, "", faults)
