"""Where and in which precision a model runs."""

import os
from functools import cache

import torch

from wsi_kd.core.cards import HeldCard, hold_card, lock_folder
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.messages import warn


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device; auto is a GPU where there is one.

    Where the process may see several GPUs (`CUDA_VISIBLE_DEVICES`), `auto` and `cuda` take one that no other
    job holds, and this process holds it until it ends: jobs that run at once spread over the cards. Where
    all are held, it shares one and says so. `cuda:N` is that one, and is held too if it is free.

    Raises:
        BadInput: an unknown name, or a GPU that this machine does not have.
    """
    kind, _, index = name.partition(":")
    if name != "auto" and (
        kind not in {"cpu", "cuda"} or (index and not index.isdigit()) or (kind == "cpu" and index)
    ):
        raise BadInput(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:N")
    found = torch.cuda.device_count() if kind != "cpu" and torch.cuda.is_available() else 0
    if kind == "cuda" and int(index or 0) >= found:
        raise BadInput(f"device '{name}': this machine has {found} usable GPUs; use auto or cpu")
    if not found:
        return torch.device("cpu")
    if found == 1:
        return torch.device(f"cuda:{index}" if index else "cuda")
    card = own_card(wanted=int(index) if index else None)
    torch.cuda.set_device(card.place)  # pinned memory and streams belong to the present device
    return torch.device("cuda", card.place)


@cache
def own_card(*, wanted: int | None = None) -> HeldCard:
    """Return the card that this process took when it first asked; `wanted` asks for a certain one."""
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]
    try:
        folder = lock_folder()
    except RunFailed as error:
        place = os.getpid() % len(names) if wanted is None else wanted
        warn(f"GPU {place} is taken without a lock, so that other jobs may take it too: {error}")
        return HeldCard(place, None)
    card = hold_card(names, folder, wanted=wanted)
    if card.lock is None and wanted is None:
        warn(
            f"all {len(names)} GPUs are held by other jobs of wsi-kd; this one shares GPU {card.place} with "
            "another"
        )
    return card


def matmul_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of matrix products: `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
