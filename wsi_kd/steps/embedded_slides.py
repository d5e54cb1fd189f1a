"""Part of step embed: slides of a job from their tile files to their feature files, in one line."""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import numpy as np

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.machine import usable_cpus
from wsi_kd.core.places import without_folder, without_paths
from wsi_kd.core.provenance import stamp
from wsi_kd.core.records import SlideStatus
from wsi_kd.features.embed import embed_slides
from wsi_kd.features.encoders import Encoder
from wsi_kd.features.store import FeatureFile, TileFile
from wsi_kd.features.tile_units import EmbeddedTiles, OpenedTiles, SlideTiles
from wsi_kd.settings.all import Settings
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps.encoder import notes_of, stored_dtype
from wsi_kd.steps.left_out import DROPPED, check_left_out, quality_check, quality_of
from wsi_kd.steps.stain_numbers import UNCHANGED, slide_stains
from wsi_kd.steps.status import failure, joined_notes, unnamed
from wsi_kd.steps.tile_pixels import open_tiles

STEP = "embed"
KIND = "features"
SHOWN_REASONS = 3


class SlideToEmbed(NamedTuple):
    """A slide's tiles, and what its features are to be made with."""

    tiles: TileFile
    """A failed slide's pass its status on."""
    row: SlideRow
    stain: Mapping[str, Any] = UNCHANGED
    """What `stain_numbers.shared_numbers` returned in this run, or in that which trained the model."""
    check: Callable[[], None] = lambda: None
    """Called before the slide is opened; may refuse the job."""


def features_of_slides(
    slides: Iterable[SlideToEmbed],
    encoder: Encoder,
    *,
    settings: Settings,
    workers: int | None = None,
    on_tiles: Callable[[int], None] = lambda _: None,
) -> Generator[FeatureFile, None, None]:
    """Embed slides; yield them in order; one that failed or is too damaged has (0, D) features, and why.

    Slides are asked for, and opened, a little before their turn; batches span them, which moves no number.
    Close the iterator where it is not used up.

    Args:
        slides: of one job.
        encoder: as the section `embed` describes it.
        settings: sections `slides`, `stain` and `embed` are used.
        workers: reading threads (0: none); default: the CPU cores this process may use.
        on_tiles: told how many more tiles have been read.

    Raises:
        BadInput: features that are not finite, or not in the chosen dtype; what a slide's `check` raises,
            after the slides before it.
    """
    asked: deque[_Embedding] = deque()

    def readable() -> Iterator[SlideTiles]:
        for slide in slides:
            asked.append(_Embedding(slide, encoder, settings))
            if asked[-1].is_readable:
                yield asked[-1].reading()

    found = embed_slides(
        readable(),
        encoder,
        batch_size=settings.embed.batch_size,
        workers=usable_cpus() if workers is None else workers,
        dtype=stored_dtype(settings.embed),
        on_tiles=on_tiles,
    )
    with closing(found):
        for one in found:
            while not asked[0].is_readable:
                yield asked.popleft().without_features()
            yield asked.popleft().finished(one)
    while asked:
        yield asked.popleft().without_features()


class _Embedding:
    """One slide's header as it fills, and its file at the end."""

    def __init__(self, slide: SlideToEmbed, encoder: Encoder, settings: Settings) -> None:
        self._slide = slide
        self._settings = settings
        self._header = features_header(slide.tiles, encoder, settings, stain=slide.stain)
        self.is_readable = self._header["status"] == SlideStatus.OK

    def reading(self) -> SlideTiles:
        """Return what the line of threads needs."""
        check = quality_check(self._header, self._settings.embed)
        return SlideTiles(self._slide.tiles.coords, self._header["tile_px"], self._open, check)

    @contextmanager
    def _open(self) -> Iterator[OpenedTiles]:
        tiles, row, slides = self._slide.tiles, self._slide.row, self._settings.slides
        self._slide.check()
        stains = slide_stains(tiles, row, numbers=self._header["stain"], slides=slides)
        note = joined_notes(self._header["reason"], unnamed(stains.note, row))
        self._header.update(stain_source=stains.source, reason=note)
        with open_tiles(row.path, tiles.coords, header=tiles.header, slides=slides) as source:
            self._header["read_by"] = source.how
            yield OpenedTiles(source.read_many, stains.normalize)

    def finished(self, found: EmbeddedTiles | SlideProblem) -> FeatureFile:
        """Return the slide's file.

        Raises:
            BadInput: features that cannot be stored.
        """
        tiles, row, embed = self._slide.tiles, self._slide.row, self._settings.embed
        try:
            if isinstance(found, SlideProblem):
                raise found
            _check_damage(found, row, self._header, max_fraction=embed.max_damaged_fraction)
            check_left_out(found, self._header)
        except SlideProblem as problem:
            self._header.update(failure(problem.status, unnamed(problem.reason, row), step=STEP))
            return self.without_features()
        check_stored(found.largest, row.slide_id, embed)
        return FeatureFile(
            tiles.slide_id,
            found.features,
            tiles.coords[found.kept],
            tiles.tile_labels[found.kept],
            self._header,
            quality_of(found, tiles),
        )

    def without_features(self) -> FeatureFile:
        """Return the file of a slide that failed."""
        return without_features(self._slide.tiles, self._header)


def _check_damage(
    found: EmbeddedTiles, row: SlideRow, header: dict[str, Any], *, max_fraction: float
) -> None:
    tiles, damaged = len(found.kept), len(found.damaged)
    header["damaged_tiles"] = damaged
    header["damaged_reasons"] = [unnamed(reason, row) for reason in dict.fromkeys(found.damaged)][
        :SHOWN_REASONS
    ]
    if damaged > max_fraction * tiles or damaged == tiles:
        raise SlideProblem(
            SlideStatus.DAMAGED_TILES,
            f"{damaged} of {tiles} tiles cannot be read, embed.max_damaged_fraction allows "
            f"{max_fraction:.0%}; first: {'; '.join(header['damaged_reasons'])}",
        )


def check_stored(largest: float, slide_id: str, embed: EmbedSettings) -> None:
    """Refuse features that the stored type does not hold.

    Args:
        largest: magnitude of the largest one before it was rounded.
        slide_id: told in the error.
        embed: encoder and stored type.

    Raises:
        BadInput: a feature that is not finite, or beyond the type.
    """
    if not math.isfinite(largest):
        raise BadInput(
            f"{slide_id}: encoder '{embed.encoder}' gives features that are not finite; "
            "check embed.weights, or set embed.precision: float32"
        )
    if largest > float(np.finfo(embed.dtype).max):
        raise BadInput(
            f"{slide_id}: encoder '{embed.encoder}' gives features up to {largest:.3g}, beyond float16; "
            "set embed.dtype: float32"
        )


def features_header(
    tiles: TileFile, encoder: Encoder | None, settings: Settings, *, stain: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the header of a slide's features before anything is known of them."""
    made_with = {name: getattr(settings, name).model_dump(mode="json") for name in ("stain", "embed")}
    return {
        **tiles.header,
        **stamp(KIND, {**tiles.header.get("settings", {}), **without_paths(made_with)}),
        "encoder": without_folder(settings.embed.encoder),
        "encoder_settings": {**encoder.settings} if encoder else {},
        "encoder_notes": notes_of(settings),
        "weights_hash": encoder.weights_hash if encoder else "",
        "feature_dim": encoder.feature_dim if encoder else 0,
        "feature_dtype": stored_dtype(settings.embed),
        "feature_names": list(encoder.feature_names) if encoder else [],
        "stain": dict(stain),
        "stain_source": {},
        "damaged_tiles": 0,
        "damaged_reasons": [],
        "tiles_laid": len(tiles.coords),
        **dict.fromkeys(DROPPED.values(), 0),
        "quality_counts": {},
        "read_by": "",
        "inputs_hash": "",
    }


def without_features(tiles: TileFile, header: dict[str, Any]) -> FeatureFile:
    """Return the file of a slide that failed: (0, D) features and the reason."""
    features = np.zeros((0, header["feature_dim"]), header["feature_dtype"])
    return FeatureFile(tiles.slide_id, features, tiles.coords[:0], tiles.tile_labels[:0], header)
