"""Source `image_folder`: a folder a class, images decoded when they are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.distillation.samples import MAX_BYTE, PARTS, Indices, Samples

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
DEEP_MODES: Final = ("I", "F")
"""Whole and floating numbers, as PIL names them: I, I;16, I;16B, F."""
MODES: Final = {1: "L", 3: "RGB"}


class ImageFiles:
    """Images of files, (channels, edge, edge), 0 to 1."""

    def __init__(self, paths: Sequence[Path], *, image_px: int, channels: int) -> None:
        self._paths, self._mode = tuple(paths), MODES[channels]
        self.shape: tuple[int, ...] = (channels, image_px, image_px)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Decode these files.

        Raises:
            BadInput: one that is no image or damaged, by its name.
        """
        decoded = torch.stack([torch.from_numpy(self._decode(self._paths[index])) for index in indices])
        return decoded.float().div_(MAX_BYTE)

    def fingerprint(self) -> str:
        """Return a hash of names, sizes and times of change."""
        facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths]
        return content_hash([list(self.shape), *map(list, facts)])

    def _decode(self, path: Path) -> np.ndarray:
        edge = self.shape[1]
        try:
            with Image.open(path) as image:
                _check_depth(path, image.mode)
                pixels = np.array(image.convert(self._mode).resize((edge, edge), Image.Resampling.BILINEAR))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            what = " ".join(str(error).split())
            raise BadInput(f"{path}: not a readable image ({what}); mend or remove it") from None
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy()  # noqa: PLR2004  # gray


def read_image_folder(*, path: Path, image_px: int, channels: int) -> Samples:
    """List `<class>/<image>`, or `<part>/<class>/<image>` if there is a folder `train`; nothing is decoded.

    Raises:
        BadInput: no such folder, no classes, classes without images, parts of different classes.
    """
    if not path.is_dir():
        raise BadInput(f"data.path: {path} is no folder; expected one folder a class in it")
    parts = [part for part in PARTS if (path / part).is_dir()] if (path / "train").is_dir() else []
    roots = [path / part for part in parts] or [path]
    classes = [entry.name for entry in _folders(roots[0])]
    if not classes:
        raise BadInput(f"{roots[0]}: no folders in it; expected one a class")
    files: list[Path] = []
    labels: list[int] = []
    own: dict[str, Indices] = {}
    for number, root in enumerate(roots):
        first = len(files)
        for folder in _folders(root):
            images = _images(folder)
            if folder.name not in classes:
                raise BadInput(f"{folder}: no such class in {roots[0]}; expected {', '.join(classes)}")
            files += images
            labels += [classes.index(folder.name)] * len(images)
        if parts:
            own[parts[number]] = np.arange(first, len(files), dtype=np.int64)
    inputs = ImageFiles(files, image_px=image_px, channels=channels)
    return Samples(inputs, np.array(labels, dtype=np.int64), tuple(classes), own or None)


def _check_depth(path: Path, mode: str) -> None:
    """Refuse more than 8 bits a value: PIL would cut them off at 255, most often to plain white."""
    if mode.startswith(DEEP_MODES):
        raise BadInput(
            f"{path}: its values have more than 8 bits (mode {mode}), and how much is white is not known; "
            "convert it to 8 bits, or take the source npz"
        )


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise BadInput(
            f"{folder}: no images in it (known are {', '.join(sorted(SUFFIXES))}); remove the folder"
        )
    return files
