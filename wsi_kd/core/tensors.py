"""Tensors by name, as a state file holds them."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return a sha256 of names, types, shapes and values of tensors on the CPU; their order plays no role."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        # an empty tensor counts as contiguous whatever its stride, and only one of 1 can be seen as bytes
        flat = tensors[name].contiguous().as_strided((tensors[name].numel(),), (1,))
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
