"""Part of step check-precision: slides of a finished run, and their tiles encoded once more."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.places import without_folder
from wsi_kd.core.progress import progress
from wsi_kd.features.embed import embed_slides
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.features.stain.fits import from_numbers
from wsi_kd.features.stain.normalizer import Normalizer, create_normalizer
from wsi_kd.features.store import FeatureFile, read_features
from wsi_kd.features.tile_units import EmbeddedTiles, OpenedTiles, SlideTiles
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps.embed import check_same_slide
from wsi_kd.steps.embedded_slides import check_stored
from wsi_kd.steps.encoder import build_encoder
from wsi_kd.steps.status import unnamed
from wsi_kd.steps.tile_pixels import open_tiles

STEP = "check-precision"
ENCODER_FACTS = ("encoder", "encoder_settings", "weights_hash", "feature_dim")
"""Members of a feature file's header that say what made it."""


class PickedSlide(NamedTuple):
    """A slide whose tiles are encoded again."""

    row: SlideRow
    part: str
    """val or test."""
    stored: FeatureFile
    """Of the picked tiles alone."""
    tiles_in_file: int

    @property
    def embedded_in(self) -> str:
        """What embed.precision was when the file was made."""
        return str(self.stored.header["settings"]["embed"]["precision"])


def pick_slides(
    candidates: Sequence[tuple[SlideRow, str]],
    *,
    features_dir: Path,
    classes: Sequence[str],
    slides: int,
    tiles: int,
) -> list[PickedSlide]:
    """Pick slides by turns of their classes, and tiles evenly from each; equal runs give equal picks.

    Args:
        candidates: slides and their parts; within a class the first ones are taken.
        features_dir: folder of their feature files.
        classes: labels in order; slides without a label come last.
        slides: how many, at most.
        tiles: of each, at most.

    Raises:
        BadInput: no slide at all, or a feature file that is absent or damaged.
    """
    by_label = {label: [one for one in candidates if one[0].label == label] for label in (*classes, "")}
    in_turn = [one for one in chain.from_iterable(zip_longest(*by_label.values())) if one is not None]
    if not in_turn:
        raise BadInput("no slide of this fold can be checked; its val and test parts are empty")
    return [_picked(row, part, features_dir, tiles=tiles) for row, part in in_turn[:slides]]


def spread_evenly(total: int, wanted: int) -> Int64[np.ndarray, "picked"]:
    """Return places of at most `wanted` out of `total`, the first always among them, none twice.

    >>> spread_evenly(10, 4).tolist(), spread_evenly(3, 4).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    kept = min(total, wanted)
    return np.arange(kept, dtype=np.int64) * total // max(kept, 1)


def encode_slides(
    slides: Sequence[PickedSlide], embed: EmbedSettings, settings: Settings
) -> list[Float32[np.ndarray, "tiles features"]]:
    """Read the picked tiles from their slides and encode them; features are not rounded.

    Stains are changed by the numbers that the feature files record. Nothing is held against float32 here.

    Args:
        slides: whose tiles are read.
        embed: encoder and precision.
        settings: section `slides` is used.

    Raises:
        BadInput: an encoder that is not the one of the features, a slide or tile that cannot be read, a slide
            that was replaced, features that are not finite or not in the stored type.
    """
    encoder = build_encoder(embed)
    if isinstance(encoder, NetworkEncoder):
        encoder.leave_unchecked()
    for slide in slides:
        _check_encoder(encoder, slide.stored.header, embed=embed)
    tiles = (
        SlideTiles(one.stored.coords, int(one.stored.header["tile_px"]), partial(_opened, one, settings))
        for one in slides
    )
    how = f"{STEP}, {'compiled' if embed.compile else embed.precision}"
    with progress(how, total=sum(len(one.stored.coords) for one in slides), unit="tiles") as on_tiles:
        found = embed_slides(
            tiles,
            encoder,
            batch_size=embed.batch_size,
            workers=usable_cpus(),
            dtype="float32",
            on_tiles=on_tiles,
        )
        with closing(found):
            return [_whole(one, made, embed=embed) for one, made in zip(slides, found, strict=True)]


def _picked(row: SlideRow, part: str, features_dir: Path, *, tiles: int) -> PickedSlide:
    whole = read_features(features_dir / f"{row.slide_id}.h5")
    kept = spread_evenly(len(whole.coords), tiles)
    stored = whole._replace(
        features=whole.features[kept],
        coords=whole.coords[kept],
        tile_labels=whole.tile_labels[kept],
        quality=None,
    )
    return PickedSlide(row, part, stored, len(whole.coords))


def _check_encoder(encoder: Encoder, header: Mapping[str, Any], *, embed: EmbedSettings) -> None:
    present = (
        without_folder(embed.encoder),
        {**encoder.settings},
        encoder.weights_hash,
        encoder.feature_dim,
    )
    for key, value in zip(ENCODER_FACTS, present, strict=True):
        if header[key] != value:
            raise BadInput(
                f"{header['slide_id']}: its features were made with {key} {header[key]}, the section embed "
                f"describes {value}; give the settings of the run"
            )


@contextmanager
def _opened(slide: PickedSlide, settings: Settings) -> Iterator[OpenedTiles]:
    stored = slide.stored
    check_same_slide(stored.header, slide.row)
    with open_tiles(slide.row.path, stored.coords, header=stored.header, slides=settings.slides) as source:
        yield OpenedTiles(source.read_many, _recorded_normalizer(stored.header))


def _recorded_normalizer(header: Mapping[str, Any]) -> Normalizer | None:
    """Return what was done to the stains of the slide; None where its tiles stayed as they were."""
    stain, source = header["stain"], header["stain_source"]
    if not stain or not source:
        return None
    return create_normalizer(
        stain["method"], source=from_numbers(source), target=from_numbers(stain["target"])
    )


def _whole(
    slide: PickedSlide, found: EmbeddedTiles | SlideProblem, *, embed: EmbedSettings
) -> Float32[np.ndarray, "tiles features"]:
    """Return the features of all picked tiles.

    Raises:
        BadInput: one is missing, or cannot be stored.
    """
    slide_id, again = slide.row.slide_id, "its tiles are read from the slide once more"
    if isinstance(found, SlideProblem):
        raise BadInput(f"{slide_id}: {unnamed(found.reason, slide.row)}; {again}")
    if found.damaged:
        raise BadInput(
            f"{slide_id}: {len(found.damaged)} of {len(found.kept)} tiles cannot be read any more "
            f"({unnamed(found.damaged[0], slide.row)}); {again}: put the file back that was embedded"
        )
    stored_as = str(slide.stored.features.dtype)
    check_stored(found.largest, slide_id, embed.model_copy(update={"dtype": stored_as}))
    return np.asarray(found.features)
