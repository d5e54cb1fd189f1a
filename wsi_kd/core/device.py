"""Where and in which precision a model runs."""

import torch

from wsi_kd.core.errors import BadInput


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device; auto is the GPU where there is one.

    Raises:
        BadInput: an unknown name, or a GPU that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda"} or (index and not index.isdigit()) or (kind == "cpu" and index):
        raise BadInput(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(index or 0) >= found:
        raise BadInput(f"device '{name}': this machine has {found} usable GPUs; use auto or cpu")
    return torch.device(name)


def matmul_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of matrix products: `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
