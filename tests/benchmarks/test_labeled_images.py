"""Small labeled images: formats read byte by byte, features made once and kept."""

import gzip
import io
import zipfile

import numpy as np
import pytest
from digit_files import write_mnist
from PIL import Image

from labeled_images import CIFAR_CLASSES, embedded_images, read_cifar10, read_mnist
from wsi_kd.core.errors import BadInput
from wsi_kd.features.stain_texture import stain_texture
from wsi_kd.settings.slides import EmbedSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([9, 0, 1, 9, 2, 3], np.uint8)


def write_cifar(data, files):
    (data / "cifar10").mkdir()
    with zipfile.ZipFile(data / "cifar10" / "cifar10_jpeg_dev.zip", "w") as archive:
        for name, pixels in files.items():
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            archive.writestr(name, buffer.getvalue())


def test_digits_are_read_with_their_labels(tmp_path):
    write_mnist(tmp_path, PIXELS, LABELS)
    images = read_mnist(tmp_path)
    assert images.labels.tolist() == [9, 0, 1, 9, 2, 3]
    np.testing.assert_array_equal(images.pixels, np.stack([PIXELS] * 3, axis=3))


def test_damaged_digits_are_refused(tmp_path):
    write_mnist(tmp_path, PIXELS, LABELS[:5])
    with pytest.raises(BadInput, match="6 images but 5 labels"):
        read_mnist(tmp_path)
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x03\0"))
    with pytest.raises(BadInput, match="no idx file of 3 axes"):
        read_mnist(tmp_path)
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(b"plain")
    with pytest.raises(BadInput, match=r"t10k-images-idx3-ubyte\.gz: cannot be read.*--data"):
        read_mnist(tmp_path)


def test_pictures_are_labeled_by_their_folder(tmp_path):
    gray = np.full((32, 32, 3), 200, np.uint8)
    files = {"train/truck/0.jpg": gray, "test/cat/0.jpg": gray // 2, "train/airplane/1.jpg": gray}
    write_cifar(tmp_path, files)
    images = read_cifar10(tmp_path)
    assert images.labels.tolist() == [3, 0, 9]  # in the order of their names
    assert images.pixels[:, 0, 0, 0].tolist() == [100, 200, 200]
    assert CIFAR_CLASSES[9] == "truck"


@pytest.mark.parametrize(
    ("name", "edge", "fault"),
    [("train/lorry/0.jpg", 32, "lorry"), ("train/truck/0.jpg", 16, "another size than 32 px")],
)
def test_other_pictures_are_refused(tmp_path, name, edge, fault):
    write_cifar(tmp_path, {name: np.zeros((edge, edge, 3), np.uint8)})
    with pytest.raises(BadInput, match=fault):
        read_cifar10(tmp_path)


def test_features_are_the_encoders_and_made_once(tmp_path):
    write_mnist(tmp_path, PIXELS, LABELS)
    settings = EmbedSettings(encoder="stain_texture", dtype="float32", batch_size=4)
    first = embedded_images("mnist", data=tmp_path, settings=settings, cache=tmp_path / "kept")
    np.testing.assert_allclose(first.features, stain_texture(read_mnist(tmp_path).pixels), rtol=1e-6)
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").unlink()
    batches = settings.model_copy(update={"batch_size": 2})
    again = embedded_images("mnist", data=tmp_path, settings=batches, cache=tmp_path / "kept")
    np.testing.assert_array_equal(again.features, first.features)
    np.testing.assert_array_equal(again.labels, first.labels)
    other = settings.model_copy(update={"dtype": "float16"})
    with pytest.raises(BadInput, match="cannot be read"):  # other settings: made anew, and the file is gone
        embedded_images("mnist", data=tmp_path, settings=other, cache=tmp_path / "kept")


def test_an_unknown_set_is_told_the_known_ones(tmp_path):
    with pytest.raises(BadInput, match="unknown set of images 'cifar'; known: cifar10, mnist"):
        embedded_images("cifar", data=tmp_path, settings=EmbedSettings(), cache=tmp_path)


@pytest.mark.shared_data
def test_the_sets_have_their_sizes(shared_data):
    digits, pictures = read_mnist(shared_data), read_cifar10(shared_data)
    assert digits.pixels.shape == (10_000, 28, 28, 3)
    assert np.bincount(digits.labels).tolist()[9] == 1009
    assert pictures.pixels.shape == (13_000, 32, 32, 3)
    assert np.bincount(pictures.labels).tolist() == [1300] * 10
