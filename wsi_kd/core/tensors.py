"""Tensors by name, as a state file holds them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return a sha256 of names, types, shapes and values of tensors on the CPU; their order plays no role."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        # an empty tensor counts as contiguous whatever its stride, and only one of 1 can be seen as bytes
        flat = tensors[name].contiguous().as_strided((tensors[name].numel(),), (1,))
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def publish_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors on the CPU as safetensors through `publish`.

    The library's own `save_file` writes under a random name of its own and renames that: what a killed
    process leaves of it nobody could tell from a user's file. So the bytes are made in memory.

    Raises:
        RunFailed: as `publish`.
    """
    content = safetensors_bytes(dict(tensors), None if metadata is None else dict(metadata))
    with publish(path) as temporary:
        temporary.write_bytes(content)


def read_signed(path: Path, *, sha256: str, remake: str) -> dict[str, Tensor]:
    """Read a safetensors file whose sha256 its header names: the very bytes that are parsed are hashed.

    The format has no checksum of its own: of files with damaged bytes it takes two in five for whole.

    Raises:
        BadInput: absent, of another hash, or no safetensors; with the command that makes it anew.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; make it anew with: {remake}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); make it anew with: {remake}") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadInput(f"{path}: not the weights of its header (sha256 differs); make it anew with: {remake}")
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise BadInput(f"{path}: not a safetensors file ({error}); make it anew with: {remake}") from None


def sealed(facts: Mapping[str, Any], *, allow_nan: bool = False) -> dict[str, str]:
    """Return facts as the metadata of a safetensors file: JSON under `state`, and its sha256.

    Raises:
        ValueError: a number in them is not finite, and none such is allowed.
    """
    text = json.dumps(facts, allow_nan=allow_nan)
    return {"state": text, "state_sha256": hashlib.sha256(text.encode()).hexdigest()}


def unsealed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts that `sealed` wrote.

    Raises:
        KeyError: there are none.
        ValueError: they are not those that were written.
    """
    text = metadata["state"]
    if hashlib.sha256(text.encode()).hexdigest() != metadata["state_sha256"]:
        raise ValueError("sha256 of its facts differs")
    facts: dict[str, Any] = json.loads(text)
    return facts


def tensors_below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose name starts with a prefix, without it.

    >>> list(tensors_below("model.", {"model.weight": torch.zeros(1), "epoch": torch.zeros(1)}))
    ['weight']
    """
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Build networks in float32, whatever type a program that imports this has made torch's default."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
