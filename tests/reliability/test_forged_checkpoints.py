"""G4: no pickle in any file of weights is run, and weights that are signed and wrong are told."""

import hashlib
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from checkpoint_files import RUN_HASH, fresh_state, load, save_all
from safetensors.torch import save, save_file
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json, read_json
from wsi_kd.features import foreign_arrays
from wsi_kd.features.foreign_parts import feature_rows
from wsi_kd.features.weights import SUFFIXES, load_pickle, read_weights
from wsi_kd.tissue.segmentation_network import load_network
from wsi_kd.training.checkpoint import load_model
from wsi_kd.training.state import STATE_NAME, restore_state


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_all(tmp_path_factory.mktemp("saved"))


class Canary:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def pickled(canary: Canary) -> dict[str, bytes]:
    """Every way to hide a pickle in a file of weights."""
    plain = pickle.dumps({"weight": canary})
    torch_zip, torch_old, numpy_file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": torch.zeros(2), "canary": canary}, torch_zip)
    torch.save({"weight": canary}, torch_old, _use_new_zipfile_serialization=False)
    np.save(numpy_file, np.array([canary], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("x/data.pkl", plain)
    return {
        "pickle": plain,
        "protocol 0": pickle.dumps(canary, protocol=0),
        "torch": torch_zip.getvalue(),
        "old torch": torch_old.getvalue(),
        "numpy": numpy_file.getvalue(),
        "zip": archive.getvalue(),
        "behind a header": save({"weight": torch.zeros(1)}) + plain,
    }


def loaders(folder: Path) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Every file that may hold weights or arrays, and what reads it."""
    state = fresh_state()
    found: dict[str, tuple[Path, Callable[[], object]]] = {
        "model": (folder / "model.safetensors", lambda: load_model(folder)),
        "encoder": (folder / "encoder.safetensors", lambda: load("encoder", folder)),
        "state": (folder / STATE_NAME, lambda: restore_state(state, folder, run_hash=RUN_HASH)),
        "network": (folder / "net.pt", lambda: load_network(folder / "net.pt", device="cpu")),
        "onnx": (folder / "net.onnx", lambda: load_network(folder / "net.onnx", device="cpu")),
    }
    for suffix in SUFFIXES:
        path = folder / f"weights{suffix}"
        found[f"weights{suffix}"] = (path, lambda path=path: read_weights(path))
    tensor, array, archive = (folder / f"array{suffix}" for suffix in (".pt", ".npy", ".npz"))
    found["tensor"] = (tensor, lambda: foreign_arrays._tensor(tensor))
    found["array"] = (array, lambda: foreign_arrays._array(array, "a", rows=feature_rows))
    found["archive"] = (archive, lambda: foreign_arrays._embeddings(archive))
    found["torch"] = (folder / "plain.pkl", lambda: load_pickle(folder / "plain.pkl"))
    return found


def signed_anew(path: Path) -> None:
    """Let a header name the hash of what now lies beside it, as someone would who wants to be believed."""
    header = path.with_suffix(".json")
    if header.is_file():
        facts = read_json(header, remake="")
        publish_json(header, {**facts, "weights_sha256": file_hash(path)})


def test_no_pickle_in_any_file_of_weights_is_run(saved, tmp_path, record_property):
    canary = tmp_path / "canary"
    ways = pickled(Canary(canary))
    loaded, told = [], []
    for name, (path, read) in loaders(saved).items():
        before = {file: file.read_bytes() for file in (path, path.with_suffix(".json")) if file.is_file()}
        for way, content in ways.items():
            path.write_bytes(content)
            signed_anew(path)
            try:
                read()
                loaded.append((name, way))
            except BadInput as error:
                told.append(str(error))
            assert not canary.exists(), (name, way)
        for file, content in before.items():
            file.write_bytes(content)
    record_property("figure", f"G4: {len(told)} pickles in the place of weights, all refused, 0 run")
    assert loaded == []
    assert not any("\n" in line for line in told)
    pickle.loads(ways["pickle"])
    assert canary.exists()  # it would have sung


class Forged(NamedTuple):
    """A file of weights that is signed, and wrong."""

    content: Callable[[dict[str, torch.Tensor]], bytes]
    words: str


def raw(header: str, data: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    return struct.pack("<Q", len(header)) + header.encode() + data


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def changed(**tensors: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], bytes]:
    return lambda state: save(
        {**state, **{name.replace("__", "."): value for name, value in tensors.items()}}
    )


VAST = [4194305, 4194305, 211106198978564]
FIRST, SECOND = json.dumps(entry([1], [0, 4])), json.dumps(entry([1], [4, 8]))
DUPLICATE = f'{{"a":{FIRST},"a":{SECOND}}}'
NO_FILE = "not a safetensors file"
FORGED = {
    "nothing": Forged(lambda _: b"", NO_FILE),
    "a header of 2^63 bytes": Forged(lambda _: struct.pack("<Q", 2**63) + b"{}", NO_FILE),
    "a header of 100,000,001 bytes": Forged(lambda _: struct.pack("<Q", 100_000_001) + b"{}", NO_FILE),
    "tensors that overlap": Forged(
        lambda _: raw(json.dumps({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}), bytes(12)), NO_FILE
    ),
    "a hole": Forged(lambda _: raw(json.dumps({"a": entry([1], [4, 8])}), bytes(8)), NO_FILE),
    "bytes behind the end": Forged(lambda state: save(state) + b"PK\3\4", NO_FILE),
    "a size that overflows": Forged(lambda _: raw(json.dumps({"a": entry(VAST, [0, 0])})), NO_FILE),
    "a name twice": Forged(lambda _: raw(DUPLICATE, bytes(8)), f"{NO_FILE}|do not fit"),
    "an unknown type": Forged(lambda _: raw(json.dumps({"a": entry([1], [0, 4], "F99")}), bytes(4)), NO_FILE),
    "lists 10,000 deep": Forged(lambda _: raw("[" * 10_000), NO_FILE),
    "a missing tensor": Forged(
        lambda state: save({key: value for key, value in state.items() if key != "projector.bias"}),
        "missing projector.bias",
    ),
    "a tensor too many": Forged(changed(extra=torch.zeros(1)), "unexpected extra"),
    "another shape": Forged(changed(projector__bias=torch.zeros(4)), r"is \(4,\) instead of \(5,\)"),
    "NaN": Forged(changed(projector__bias=torch.full((5,), torch.nan)), "projector.bias is not finite"),
    "infinity": Forged(changed(projector__bias=torch.full((5,), torch.inf)), "projector.bias is not finite"),
    "another type": Forged(
        changed(projector__bias=torch.zeros(5, dtype=torch.int64)),
        "is torch.int64 instead of torch.float32",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_weights_are_told_even_where_they_are_signed(saved, tmp_path, name):
    forged = FORGED[name]
    facts = read_json(saved / "model.json", remake="")
    state = {key: value.clone() for key, value in load_model(saved).model.state_dict().items()}
    content = forged.content(state)
    (tmp_path / "model.safetensors").write_bytes(content)
    publish_json(tmp_path / "model.json", {**facts, "weights_sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(BadInput, match=forged.words):
        load_model(tmp_path)


def test_a_network_of_another_kind_is_no_encoder(saved, tmp_path):
    """A student's weights where an encoder's belong, signed."""
    for name in ("encoder.json", "encoder.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    save_file(dict(nn.Linear(3, 2).state_dict()), tmp_path / "encoder.safetensors")
    signed_anew(tmp_path / "encoder.safetensors")
    with pytest.raises(BadInput, match="not the weights of a tile_cnn"):
        load("encoder", tmp_path)
