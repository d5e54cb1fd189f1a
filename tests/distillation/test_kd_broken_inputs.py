import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.data import DataOptions, prepare_data
from wsi_kd.distillation.networks import NetworkPlan, create_network
from wsi_kd.distillation.optimizers import optimizer_factory
from wsi_kd.distillation.python_names import faults_of, load_function
from wsi_kd.distillation.samples import SamplePart, whole
from wsi_kd.distillation.sources.image_folder import ImageFiles
from wsi_kd.distillation.sources.npz import read_npz
from wsi_kd.distillation.sources.python_function import call_python_source
from wsi_kd.distillation.task import Data
from wsi_kd.kd.batches import walk

X, Y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
OPTIONS = DataOptions(2, 1, 1, 0, None, None, 0.0, standardize=False, workers=0)
MODULE = "own_broken_kd_parts"
CODE = """
import numpy as np
x, y = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 0, 1])
def big_endian(): return x.astype(">f4"), y.astype(">i8")
def backwards(): return x[:, ::-1], y.astype(np.uint16)
def objects(): return np.array([None] * 4), y
def empty(): return x[:0], y[:0]
def huge(): return x.astype(float) * 1e300, y
def far(): return x, y * 10**9
def leave(): raise SystemExit(3)
def network(input_shape, classes): raise KeyError("width")
def inner(): raise OSError("disk\\nbroken")
def outer(): inner()
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> Iterator[str]:
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    (tmp_path / "own_leaving_kd_part.py").write_text("import sys\nsys.exit(5)\n")
    monkeypatch.chdir(tmp_path)
    yield f"python:{MODULE}"
    sys.modules.pop(MODULE, None)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"x": X, "y": np.array([0, 1, 0, 10**9])}, "a label is 1000000000, and there are 4 samples"),
        ({"x": X, "y": np.array([0, 1, 0, 2**64 - 1], np.uint64)}, "y holds 18446744073709551615"),
        ({"x_train": X, "y_train": Y, "x_valid": X, "y_valid": Y}, "holds x_valid, which is no part"),
        ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "holds x or y, and x_train too"),
        ({"x": X[:, :0], "y": Y}, r"x is float32 \(4, 0\)"),
        ({"x": X.astype(float) + 1e300, "y": Y}, "x holds NaN or infinity"),
    ],
)
def test_npz_that_would_be_read_wrongly(tmp_path, arrays, line):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=line):
        read_npz(path=tmp_path / "a.npz")


def test_npz_may_hold_other_arrays_beside(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, ids=np.arange(4))
    assert read_npz(path=tmp_path / "a.npz").labels.tolist() == [0, 1, 0, 1]


def test_images_of_more_than_8_bits_are_refused_and_not_made_white(tmp_path):
    Image.fromarray(np.full((4, 4), 9000, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 128, np.uint8)).save(tmp_path / "plain.png")
    files = [tmp_path / name for name in ("deep.png", "float.tif", "plain.png")]
    images = ImageFiles(files, image_px=2, channels=1)
    for number in (0, 1):
        with pytest.raises(BadInput, match=r"more than 8 bits \(mode [IF].*convert it to 8 bits"):
            images.take([number])
    assert torch.allclose(images.take([2]), torch.full((1, 1, 2, 2), 128 / 255))


def test_an_error_in_a_process_of_the_loader_is_the_line_it_is_without_one(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    inputs = ImageFiles([tmp_path / "a.png"], image_px=2, channels=1)
    part = SamplePart(inputs, np.array([0]), labels=torch.tensor([0]), scaling=None)
    told = []
    for workers in (0, 1):
        loader = DataLoader(part, batch_size=1, num_workers=workers, collate_fn=whole)
        with pytest.raises(BadInput) as error:
            list(walk(loader, what="x"))
        told.append(str(error.value))
    assert told[0] == told[1]
    assert told[0].startswith(f"{tmp_path / 'a.png'}: not a readable image")


def test_arrays_of_any_layout_are_taken(own_module):
    expected = torch.arange(8.0).reshape(4, 2)
    straight = call_python_source(f"{own_module}.big_endian", {})
    assert torch.equal(straight.inputs.take([0, 1, 2, 3]), expected)
    assert straight.labels.tolist() == [0, 1, 0, 1]
    backwards = call_python_source(f"{own_module}.backwards", {})
    assert torch.equal(backwards.inputs.take([0, 1, 2, 3]), expected.flip(1))
    assert backwards.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("objects", "an array of object; expected"),
        ("empty", r"float32 tensor \(0, 2\)"),
        ("huge", "inputs hold NaN, infinity"),
        ("far", "a label is 1000000000, and there are 4 samples"),
        ("leave", "it failed with SystemExit: 3"),
    ],
)
def test_functions_that_return_what_cannot_be_used(own_module, function, line):
    with pytest.raises(BadInput, match=line):
        call_python_source(f"{own_module}.{function}", {})


def test_a_module_that_leaves_and_a_network_that_raises_anything(own_module):
    with pytest.raises(BadInput, match=r"own_leaving_kd_part cannot be imported \(SystemExit: 5\)"):
        load_function("python:own_leaving_kd_part.f")
    with pytest.raises(BadInput, match=r"cannot be built \(KeyError: 'width'\)"):
        create_network(NetworkPlan(f"{own_module}.network", {}), input_shape=(2,), classes=2)


def test_an_unknown_function_is_told_with_the_nearest_few(own_module):
    with pytest.raises(BadInput, match=r"\(did you mean 'backwards'\?\)") as error:
        load_function(f"{own_module}.bakwards")
    assert str(error.value).count(",") == 4


def test_errors_of_the_users_code_are_a_line_with_its_place(own_module, tmp_path):
    outer = load_function(f"{own_module}.outer")
    line = 1 + CODE.splitlines().index('def inner(): raise OSError("disk\\nbroken")')
    with pytest.raises(BadInput) as error, faults_of(["mlp", f"{own_module}.outer"]):
        outer()
    place = f"{tmp_path / MODULE}.py, line {line}, in inner"
    assert str(error.value) == f"{place} raised OSError: disk broken; mend it"
    with pytest.raises(OSError, match="disk"), faults_of(["mlp", "python:another.f"]):
        outer()


def loader(count: int = 4, *, labels: bool = True) -> DataLoader:
    tensors = [torch.zeros(count, 2), *([torch.tensor([0, 1] * (count // 2))] if labels else [])]
    return DataLoader(TensorDataset(*tensors), batch_size=2)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"val": None}, "val is NoneType; expected a DataLoader"),
        ({"classes": "two"}, "classes is 'two'; expected a number, 2 or more"),
        ({"classes": 1}, "classes is 1; expected a number, 2 or more"),
        ({"input_shape": (3,)}, r"input_shape is \(3,\), samples are \(2,\)"),
        ({"test": loader(labels=False)}, "test yields batches without labels"),
    ],
)
def test_loaders_of_the_users_that_do_not_fit(change, line):
    given = Data(train=loader(), val=loader(), test=loader(), classes=2, input_shape=(2,))
    assert prepare_data(given, OPTIONS, where="mine").data is given
    with pytest.raises(BadInput, match=f"mine: {line}"):
        prepare_data(given._replace(**change), OPTIONS, where="mine")


def test_nesterov_without_momentum_is_refused_before_there_are_parameters():
    with pytest.raises(BadInput, match="nesterov needs a momentum above 0"):
        optimizer_factory("sgd", {"nesterov": True, "momentum": 0.0}, learning_rate=0.1)
    made = optimizer_factory("sgd", {"nesterov": True, "momentum": 0.9}, learning_rate=0.1)
    assert made([torch.nn.Parameter(torch.zeros(1))]).defaults["nesterov"]
