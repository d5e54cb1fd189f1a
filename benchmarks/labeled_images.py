"""Small labeled images, and their features by an encoder of the project, kept between runs.

| name | images | file below the data folder |
|---|---|---|
| `mnist` | 10,000 digits, 28 x 28 px, gray | `mnist/t10k-*-ubyte.gz` |
| `cifar10` | 13,000 of ten kinds, 32 x 32 px, color, JPEG | `cifar10/cifar10_jpeg_dev.zip` |
"""

import gzip
import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Int64
from PIL import Image
from safetensors.numpy import load_file, save_file

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.core.files import content_hash, publish
from wsi_kd.core.shapes import FeatureArray, TileBatch
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps.encoder import build_encoder, resizing_identity, weights_identity

IMAGES_MAGIC: Final = 2051
LABELS_MAGIC: Final = 2049
CIFAR_CLASSES: Final = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR_EDGE_PX: Final = 32


class LabeledImages(NamedTuple):
    """RGB images and the number of their class."""

    pixels: TileBatch
    labels: Int64[np.ndarray, "images"]


class LabeledFeatures(NamedTuple):
    """The same images after an encoder."""

    features: FeatureArray
    labels: Int64[np.ndarray, "images"]


def read_mnist(data: Path) -> LabeledImages:
    """Read MNIST's ten thousand test digits, gray repeated over three channels.

    Raises:
        BadInput: files that are absent or no idx files of one length.
    """
    folder = data / "mnist"
    pixels = _read_idx(folder / "t10k-images-idx3-ubyte.gz", magic=IMAGES_MAGIC)
    labels = _read_idx(folder / "t10k-labels-idx1-ubyte.gz", magic=LABELS_MAGIC)
    if len(pixels) != len(labels):
        raise BadInput(f"{folder}: {len(pixels)} images but {len(labels)} labels; copy the files again")
    return LabeledImages(np.repeat(pixels[..., None], 3, axis=3), labels.astype(np.int64))


def read_cifar10(data: Path) -> LabeledImages:
    """Read the CIFAR-10 images of `<part>/<class>/<number>.jpg` in an archive, in the order of their names.

    Raises:
        BadInput: an archive that is absent or damaged, or holds other classes or sizes.
    """
    path = data / "cifar10" / "cifar10_jpeg_dev.zip"
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
            pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    except (OSError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: cannot be read ({error}); name the data folder with --data") from None
    classes = [Path(name).parent.name for name in names]
    strange = sorted(set(classes) - set(CIFAR_CLASSES))
    if strange or not names:
        raise BadInput(f"{path}: folders {strange or 'absent'}; expected {', '.join(CIFAR_CLASSES)}")
    if {image.shape for image in pixels} != {(CIFAR_EDGE_PX, CIFAR_EDGE_PX, 3)}:
        raise BadInput(f"{path}: images of another size than {CIFAR_EDGE_PX} px; copy the file again")
    return LabeledImages(
        np.stack(pixels), np.array([CIFAR_CLASSES.index(name) for name in classes], np.int64)
    )


READERS: Final[dict[str, Callable[[Path], LabeledImages]]] = {"mnist": read_mnist, "cifar10": read_cifar10}


def embedded_images(name: str, *, data: Path, settings: EmbedSettings, cache: Path) -> LabeledFeatures:
    """Return features and labels of a set of images; features made before with the same settings are read.

    The file in `cache` is named after a hash of the settings and of the encoder's weights.

    Raises:
        BadInput: an unknown set, unreadable images, an encoder that cannot be had.
    """
    if name not in READERS:
        raise unknown_name("set of images", name, READERS)
    shaping = settings.model_dump(mode="json", exclude={"weights", "batch_size", "device"})
    made_with = content_hash(
        {"images": name, **shaping, **weights_identity(settings), **resizing_identity(settings)}
    )
    path = cache / f"{name}-{made_with[:16]}.safetensors"
    if not path.is_file():
        images = READERS[name](data)
        features = _encode(images.pixels, settings)
        with publish(path) as temporary:
            save_file({"features": features, "labels": images.labels}, temporary)
    kept = load_file(path)
    return LabeledFeatures(kept["features"], kept["labels"])


def _encode(pixels: TileBatch, settings: EmbedSettings) -> FeatureArray:
    encoder, size = build_encoder(settings), settings.batch_size
    batches = [encoder(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    return np.concatenate(batches).astype(settings.dtype)


def _read_idx(path: Path, *, magic: int) -> np.ndarray:
    """Read an idx file of bytes: magic, one big-endian size an axis, values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); name the data folder with --data") from None
    start = 4 * (1 + magic % 256)
    found, *shape = np.frombuffer(content[:start].ljust(start, b"\0"), ">i4").tolist()
    if found != magic or len(content) != start + math.prod(shape):
        raise BadInput(f"{path}: no idx file of {len(shape)} axes of bytes; copy it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
