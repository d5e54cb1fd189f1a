import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.sources.cifar10_zip import CLASSES, read_cifar10_zip
from wsi_kd.distillation.sources.digits import read_digits
from wsi_kd.distillation.sources.features import read_feature_files
from wsi_kd.distillation.sources.image_folder import read_image_folder
from wsi_kd.distillation.sources.npz import read_npz
from wsi_kd.distillation.sources.python_function import call_python_source
from wsi_kd.distillation.sources.registry import SOURCES
from wsi_kd.distillation.task import Data
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.settings.distill_data import SourceSettings


def jpeg(color, px: int = 32) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (px, px), color).save(content, "PNG")
    return content.getvalue()


def test_every_source_has_settings_and_the_other_way_around():
    named = {
        model.model_fields["name"].annotation.__args__[0]
        for model in SourceSettings.__subclasses__()
        if hasattr(model.model_fields["name"].annotation, "__args__")
    }
    assert named == set(SOURCES)


def test_digits_are_0_to_1_in_both_shapes():
    flat, images = read_digits(images=False), read_digits(images=True)
    assert (flat.inputs.shape, images.inputs.shape, len(flat.labels)) == ((64,), (1, 8, 8), 1797)
    taken = images.inputs.take([0, 1000])
    assert torch.equal(taken.reshape(2, 64), flat.inputs.take([0, 1000]))
    assert (taken.min(), taken.max()) == (0.0, 1.0)
    assert flat.labels[:4].tolist() == [0, 1, 2, 3]


def test_npz_of_two_arrays_and_of_parts(tmp_path):
    x, y = np.arange(12, dtype=np.float64).reshape(6, 2), np.array([0, 1, 2, 0, 1, -1])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    read = read_npz(path=tmp_path / "a.npz")
    assert torch.equal(read.inputs.take([5, 0]), torch.tensor([[10.0, 11.0], [0.0, 1.0]]))
    assert (read.class_names, read.parts, read.labels.tolist()) == (("0", "1", "2"), None, y.tolist())
    bytes_ = (x * 20).astype(np.uint8)
    np.savez(tmp_path / "b.npz", x_train=bytes_[:4], y_train=y[:4], x_test=bytes_[3:5], y_test=y[3:5])
    read = read_npz(path=tmp_path / "b.npz")
    assert {name: part.tolist() for name, part in read.parts.items()} == {
        "train": [0, 1, 2, 3],
        "test": [4, 5],
    }
    assert torch.allclose(read.inputs.take([1]), torch.tensor([[40.0, 60.0]]) / 255)


X, Y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"a": X}, "holds a; expected x and y, or x_train"),
        ({"x": X, "y": Y[:3]}, r"y is int64 \(3,\); expected \(4,\) integers"),
        ({"x": X, "y": Y.astype(float)}, r"y is float64 \(4,\); expected \(4,\) integers"),
        (
            {"x": X.astype(np.int32), "y": Y},
            r"x is int32 \(4, 2\); expected \(samples, ...\) floating or uint8",
        ),
        ({"x": X * np.nan, "y": Y}, "x holds NaN or infinity"),
        ({"x": X, "y": Y - 2}, "y holds -2; expected classes 0, 1"),
        ({"x_test": X, "y_test": Y}, "x_test but no x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, "parts have samples of different"),
        ({"x": np.array([{}, {}], dtype=object), "y": Y[:2]}, "cannot be read .*allow_pickle"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path, arrays, line):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=line):
        read_npz(path=tmp_path / "a.npz")


def test_npz_that_is_none(tmp_path):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 no")
    for name in ("a.npy", "b.npz", "c.npz"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_npz(path=tmp_path / name)


def paint(folder, color, *, px=(6, 4), count=2) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", px, color).save(folder / f"{number}.png")


def test_image_folders_of_classes_are_decoded_when_taken(tmp_path):
    paint(tmp_path / "blue", (0, 0, 255))
    paint(tmp_path / "red", (255, 0, 0), count=3)
    (tmp_path / "red" / "notes.txt").write_text("no image")
    (tmp_path / "blue" / "1.png").write_bytes(b"damaged")
    read = read_image_folder(path=tmp_path, image_px=5, channels=3)
    assert (read.class_names, read.labels.tolist(), read.parts) == (("blue", "red"), [0, 0, 1, 1, 1], None)
    taken = read.inputs.take([4, 0])
    assert taken.shape == (2, 3, 5, 5)
    assert taken[0, :, 2, 2].tolist() == [1.0, 0.0, 0.0]
    assert taken[1, :, 0, 0].tolist() == [0.0, 0.0, 1.0]
    gray = read_image_folder(path=tmp_path, image_px=5, channels=1).inputs.take([4])
    assert gray.shape == (1, 1, 5, 5)
    assert gray[0, 0, 0, 0].item() == pytest.approx(76 / 255)  # luma of red, Rec. 601
    with pytest.raises(BadInput, match=r"blue/1.png: not a readable image .*mend or remove it"):
        read.inputs.take([1])


def test_image_folders_of_parts(tmp_path):
    for part in ("train", "test"):
        paint(tmp_path / part / "a", (1, 1, 1))
        paint(tmp_path / part / "b", (9, 9, 9))
    read = read_image_folder(path=tmp_path, image_px=4, channels=3)
    assert {name: part.tolist() for name, part in read.parts.items()} == {
        "train": [0, 1, 2, 3],
        "test": [4, 5, 6, 7],
    }
    before = read.inputs.fingerprint()
    assert before == read_image_folder(path=tmp_path, image_px=4, channels=3).inputs.fingerprint()
    Image.new("RGB", (9, 9), (3, 3, 3)).save(tmp_path / "train" / "a" / "0.png")
    assert before != read_image_folder(path=tmp_path, image_px=4, channels=3).inputs.fingerprint()
    paint(tmp_path / "test" / "c", (9, 9, 9))
    with pytest.raises(BadInput, match=r"test/c: no such class in .*train; expected a, b"):
        read_image_folder(path=tmp_path, image_px=4, channels=3)


def test_image_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(BadInput, match="is no folder"):
        read_image_folder(path=tmp_path / "absent", image_px=4, channels=3)
    with pytest.raises(BadInput, match="no folders in it"):
        read_image_folder(path=tmp_path, image_px=4, channels=3)
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match="a: no images in it"):
        read_image_folder(path=tmp_path, image_px=4, channels=3)


def test_cifar10_zip(tmp_path):
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part, label in (("train", "frog"), ("train", "truck"), ("test", "airplane")):
            archive.writestr(f"{part}/{label}/0000.jpg", jpeg((255, 0, 51)))
    read = read_cifar10_zip(path=path)
    assert read.labels.tolist() == [0, 6, 9]
    assert {name: part.tolist() for name, part in read.parts.items()} == {"train": [1, 2], "test": [0]}
    assert read.class_names == CLASSES
    assert read.inputs.take([1])[0, :, 7, 7].tolist() == pytest.approx([1.0, 0.0, 0.2])
    for name, content, line in (
        ("train/lion/0.jpg", jpeg((0, 0, 0)), "train/lion/0.jpg in it; expected <part>/<class>"),
        ("train/frog/1.jpg", jpeg((0, 0, 0), px=8), r"\(8, 8, 3\); expected 32 px"),
        ("train/frog/1.jpg", b"none", "no readable image|not a readable image"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
        with pytest.raises(BadInput, match=line):
            read_cifar10_zip(path=path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_cifar10_zip(path=tmp_path / "absent.zip")


@pytest.mark.shared_data
@pytest.mark.slow
def test_the_cifar10_file_at_hand(shared_data):
    read = read_cifar10_zip(path=shared_data / "cifar10" / "cifar10_jpeg_dev.zip")
    assert {name: len(part) for name, part in read.parts.items()} == {"train": 10_000, "test": 3_000}
    assert np.bincount(read.labels).tolist() == [1_300] * 10


def write_slides(folder, *, encoder=("a", "a", "a", "a")) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        labels = np.array([0, 1, -1, 0, 1], dtype=np.int8) if number else np.full(5, -1, dtype=np.int8)
        write_features(
            folder / f"s{number}.h5",
            FeatureFile(
                slide_id=f"s{number}",
                features=np.full((5, 3), number, np.float16) + rng.random((5, 3)).astype(np.float16) / 4,
                coords=np.zeros((5, 2), dtype=np.int64),
                tile_labels=labels,
                header={"status": "ok", "encoder": encoder[number]},
            ),
        )


MANIFEST = "slide_id,label,case_id\ns0,normal,p0\ns1,tumor,p1\ns2,tumor,p1\ns3,normal,p3\n"


def test_features_with_the_labels_of_tiles_or_of_their_slide(tmp_path):
    write_slides(tmp_path)
    (tmp_path / "slides.csv").write_text(MANIFEST)
    options = {"features_dir": tmp_path, "manifest": tmp_path / "slides.csv", "tile_seed": 0}
    read = read_feature_files(**options, labels="tile", tiles_per_slide=9)
    assert read.labels.tolist() == [-1] * 5 + [0, 1, -1, 0, 1] * 3
    assert read.class_names == ("negative", "positive")
    assert read.cases == ("p0",) * 5 + ("p1",) * 10 + ("p3",) * 5
    assert read.inputs.take(range(20)).floor()[:, 0].tolist() == [float(i // 5) for i in range(20)]
    slide = read_feature_files(**options, labels="slide", tiles_per_slide=2)
    assert slide.labels.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert slide.class_names == ("normal", "tumor")
    assert slide.inputs.take([0, 7]).dtype == torch.float32


def test_features_that_cannot_be_used(tmp_path):
    (tmp_path / "slides.csv").write_text(MANIFEST)
    options = {"features_dir": tmp_path, "manifest": tmp_path / "slides.csv", "tile_seed": 0}
    with pytest.raises(BadInput, match=r"s0.h5: no such file"):
        read_feature_files(**options, labels="tile", tiles_per_slide=9)
    write_slides(tmp_path, encoder=("a", "a", "b", "a"))
    with pytest.raises(BadInput, match=r"s2.h5: its encoder is b, the slides before it have a"):
        read_feature_files(**options, labels="tile", tiles_per_slide=9)
    (tmp_path / "slides.csv").write_text("slide_id,labl\ns0,1\n")
    with pytest.raises(BadInput, match="no column label"):
        read_feature_files(**options, labels="tile", tiles_per_slide=9)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_kd_data.py").write_text(
        "import numpy as np, torch\n"
        "def arrays(n=4):\n    return np.zeros((n, 2), np.float32), np.arange(n) % 2\n"
        "def tensors():\n    return torch.ones(2, 3), torch.tensor([1, -1])\n"
        "def broken():\n    raise OSError('no disk')\n"
        "def other():\n    return 5\n"
        "def nan():\n    return torch.full((2, 2), float('nan')), torch.tensor([0, 1])\n"
        "def soft():\n    return torch.ones(2, 2), torch.ones(2)\n"
        "NOT = 3\n"
    )
    yield "python:own_kd_data"
    sys.modules.pop("own_kd_data", None)


def test_a_function_of_the_users(module):
    made = call_python_source(f"{module}.arrays", {"n": 6})
    assert (made.labels.tolist(), made.inputs.shape, made.class_names) == ([0, 1] * 3, (2,), ("0", "1"))
    assert call_python_source(f"{module}.tensors", {}).labels.tolist() == [1, -1]
    assert not isinstance(made, Data)


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("arays", {}, r"unknown function of own_kd_data 'arays'.*did you mean 'arrays'"),
        ("arrays", {"m": 3}, "it failed with TypeError: .*'m'"),
        ("broken", {}, "it failed with OSError: no disk"),
        ("other", {}, "it returned int; expected"),
        ("nan", {}, "inputs hold NaN"),
        ("soft", {}, "labels are not integers"),
        ("NOT", {}, "it is int; expected a function"),
    ],
)
def test_functions_that_cannot_be_used(module, name, arguments, line):
    with pytest.raises(BadInput, match=line):
        call_python_source(f"{module}.{name}", arguments)


def test_modules_that_cannot_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_kd_wrong.py").write_text("1 / 0\n")
    before = list(sys.path)
    with pytest.raises(BadInput, match=r"cannot be imported .ZeroDivisionError"):
        call_python_source("python:own_kd_wrong.f", {})
    with pytest.raises(BadInput, match=r"cannot be imported .ModuleNotFoundError"):
        call_python_source("python:own_kd_absent.f", {})
    assert sys.path == before
