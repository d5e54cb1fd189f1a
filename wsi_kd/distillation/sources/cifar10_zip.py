"""Source `cifar10_zip`: CIFAR-10 as JPEG files of one archive, `<part>/<class>/<number>.jpg`."""

import io
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.samples import PARTS, ArrayInputs, Samples

CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EDGE_PX: Final = 32
DEPTH: Final = 3
"""Part, class, file."""


def read_cifar10_zip(*, path: Path) -> Samples:
    """Decode the archive's images, (3, 32, 32), kept as bytes in memory.

    Raises:
        BadInput: an archive that is absent or damaged, or holds other classes, parts or sizes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
            places = [_place(path, name) for name in names]
            pixels = [_decode(path, name, archive.read(name)) for name in names]
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: cannot be read ({error}); expected the .zip file of the images") from None
    if not names:
        raise BadInput(f"{path}: no .jpg files in it; expected {PARTS[0]}/{CLASSES[0]}/0000.jpg and so on")
    found = np.array([part for part, _ in places])
    own = {part: np.flatnonzero(found == part) for part in PARTS if part in found}
    labels = np.array([label for _, label in places], dtype=np.int64)
    return Samples(ArrayInputs(torch.from_numpy(np.stack(pixels))), labels, CLASSES, own)


def _place(path: Path, name: str) -> tuple[str, int]:
    parts = name.split("/")
    if len(parts) != DEPTH or parts[0] not in PARTS or parts[1] not in CLASSES:
        raise BadInput(
            f"{path}: {name} in it; expected <part>/<class>/<number>.jpg with parts {', '.join(PARTS)} and "
            f"classes {', '.join(CLASSES)}; for other images take the source image_folder"
        )
    return parts[0], CLASSES.index(parts[1])


def _decode(path: Path, name: str, content: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(
            f"{path}: {name} in it is not a readable image ({error}); copy the file again"
        ) from None
    if pixels.shape != (EDGE_PX, EDGE_PX, 3):
        raise BadInput(f"{path}: {name} in it is {pixels.shape}; expected {EDGE_PX} px")
    return pixels.transpose(2, 0, 1)
