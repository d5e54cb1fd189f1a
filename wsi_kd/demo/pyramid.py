"""Write tiled JPEG pyramids that OpenSlide opens: a generic TIFF, an Aperio-like SVS, a Leica-like SCN.

Scanners store no pixels where nothing was scanned; OpenSlide answers such places with alpha 0. RGBA pixels
are written the same way: a tile whose alpha is 0 everywhere is left out of the file (a byte count of zero).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import imagecodecs
import numpy as np
import tifffile
from jaxtyping import UInt8

from wsi_kd.core.files import publish

Container: TypeAlias = Literal["tiff", "svs", "scn"]
Image: TypeAlias = UInt8[np.ndarray, "height width channels"]
"""RGB, or RGBA with alpha 0 where the scanner stored nothing."""

Level: TypeAlias = UInt8[np.ndarray, "_ _ channels"]
"""The same, one of several sizes."""

UM_PER_CM = 10_000.0
NM_PER_UM = 1_000.0
SMALLEST_TILE_PX = 16
RGBA_CHANNELS = 4


def write_pyramid(
    path: Path,
    pixels: Image,
    *,
    mpp: float | None,
    container: Container = "tiff",
    levels: int = 3,
    downsample: int = 4,
    tile_px: int = 256,
    jpeg_quality: int = 85,
    objective_power: int | None = 20,
    offset_level0_px: tuple[int, int] = (0, 0),
) -> None:
    """Write `pixels` (height, width, 3 or 4) and their area-averaged pyramid through `publish`.

    Equal arguments give equal bytes. Level k is `downsample**k` times smaller than level 0.

    Args:
        path: the file; OpenSlide looks at the content, not at the suffix.
        pixels: level 0, RGB or RGBA uint8. JPEG holds no alpha: only tiles that are transparent throughout
            stay so, and the coarse levels of RGBA pixels get smaller tiles, to leave out the same area.
        mpp: um/px for the resolution tags (and Aperio's `MPP`); None leaves every trace of it out.
        container: `tiff` (vendor generic-tiff), `svs` (aperio) or `scn` (leica: the only one that
            has slide bounds, and the only one whose tiles must all be present).
        levels: pyramid levels, the finest included.
        downsample: factor between one level and the next.
        tile_px: tile edge of level 0, a multiple of 16.
        jpeg_quality: 1 to 100; chroma is stored at half resolution, as scanners do.
        objective_power: Aperio's `AppMag`, Leica's objective; None leaves it out; a TIFF has no place for it.
        offset_level0_px: x, y where the scanned area starts (`scn` only, there above 0); margins are equal.

    Raises:
        RunFailed: the file cannot be written; a former one stays intact.
        ValueError: the arguments contradict one another.
    """
    _check(pixels, container=container, tile_px=tile_px, offset=offset_level0_px)
    if container == "scn" and (min(offset_level0_px) < 1 or objective_power is None):
        raise ValueError("OpenSlide refuses an SCN without objective_power or with an offset_level0_px of 0")
    images = _pyramid(pixels, levels=levels, downsample=downsample)
    description = {
        "tiff": None,
        "svs": _aperio_description(pixels, tile_px=tile_px, mpp=mpp, objective_power=objective_power),
        "scn": _leica_description(images, mpp=mpp, objective_power=objective_power, offset=offset_level0_px),
    }[container]
    with publish(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=container == "scn") as writer:
        for level, image in enumerate(images):
            shrink = downsample**level if image.shape[2] == RGBA_CHANNELS else 1
            edge_px = max(SMALLEST_TILE_PX, tile_px // shrink)
            writer.write(
                _tiles(image, edge_px=edge_px, jpeg_quality=jpeg_quality),
                shape=(*image.shape[:2], 3),
                dtype=np.uint8,
                tile=(edge_px, edge_px),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                subfiletype=int(level > 0),
                description=description if level == 0 or container == "svs" else None,
                software=False,
                metadata=None,
                **_resolution(mpp, scale=downsample**level if container == "tiff" else 1),
            )


def _check(pixels: Image, *, container: Container, tile_px: int, offset: tuple[int, int]) -> None:
    if pixels.shape[2] not in (3, RGBA_CHANNELS) or pixels.dtype != np.uint8:
        raise ValueError(
            f"pixels: expected RGB or RGBA uint8, found {pixels.shape[2]} channels of {pixels.dtype}"
        )
    if tile_px < SMALLEST_TILE_PX or tile_px % SMALLEST_TILE_PX:
        raise ValueError(f"tile_px: TIFF wants a multiple of {SMALLEST_TILE_PX}, found {tile_px}")
    if offset != (0, 0) and container != "scn":
        raise ValueError(
            f"offset_level0_px: only container 'scn' can place the scanned area, found {container!r}"
        )
    if pixels.shape[2] == RGBA_CHANNELS and container == "scn":
        raise ValueError("pixels: OpenSlide fails on an SCN with missing tiles; expected RGB, found RGBA")


def _pyramid(pixels: Level, *, levels: int, downsample: int) -> list[Level]:
    images = [pixels]
    for _ in range(levels - 1):
        height, width = (edge // downsample for edge in images[-1].shape[:2])
        images.append(cv2.resize(images[-1], (width, height), interpolation=cv2.INTER_AREA))
    return images


def _tiles(image: Image, *, edge_px: int, jpeg_quality: int) -> Iterator[bytes]:
    """Yield the JPEG stream of every tile, row by row; an empty one where the whole tile is transparent."""
    height, width, channels = image.shape
    for y in range(0, height, edge_px):
        for x in range(0, width, edge_px):
            tile = image[y : y + edge_px, x : x + edge_px]
            if channels == RGBA_CHANNELS and not tile[..., 3].any():
                yield b""
                continue
            beyond = ((0, edge_px - tile.shape[0]), (0, edge_px - tile.shape[1]), (0, 0))
            padded = np.pad(tile[..., :3], beyond, mode="edge")
            yield bytes(
                imagecodecs.jpeg8_encode(
                    padded, level=jpeg_quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
                )
            )


def _resolution(mpp: float | None, *, scale: int) -> dict[str, Any]:
    if mpp is None:
        return {}
    per_cm = UM_PER_CM / (mpp * scale)
    return {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}


def _aperio_description(
    pixels: Image, *, tile_px: int, mpp: float | None, objective_power: int | None
) -> str:
    height, width = pixels.shape[:2]
    size = f"{width}x{height}"
    text = f"Aperio Image Library v12.0.15 \r\n{size} [0,0 {size}] ({tile_px}x{tile_px}) JPEG/RGB"
    if objective_power is not None:
        text += f"|AppMag = {objective_power}"
    return text if mpp is None else f"{text}|MPP = {mpp:.6g}"


def _leica_description(
    images: list[Level], *, mpp: float | None, objective_power: int | None, offset: tuple[int, int]
) -> str:
    """Describe one scanned area in a larger slide, in nanometers (500 a pixel where mpp is absent)."""
    nm = round(NM_PER_UM * (0.5 if mpp is None else mpp))
    height, width = images[0].shape[:2]
    whole = f'sizeX="{(width + 2 * offset[0]) * nm}" sizeY="{(height + 2 * offset[1]) * nm}"'
    area = f'sizeX="{width * nm}" sizeY="{height * nm}" offsetX="{offset[0] * nm}" offsetY="{offset[1] * nm}"'
    dimensions = "".join(
        f'<dimension sizeX="{image.shape[1]}" sizeY="{image.shape[0]}" r="{level}" ifd="{level}"/>'
        for level, image in enumerate(images)
    )
    return (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="slide" {whole}>'
        '<image name="scan"><device model="Leica SCN400" version="1"/>'
        f'<pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>'
        f"<view {area}/>"
        f"<scanSettings><objectiveSettings><objective>{objective_power}</objective></objectiveSettings><illuminationSettings>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
        "</image></collection></scn>"
    )
