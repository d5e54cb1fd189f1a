"""How processes find each other, and on which cards they compute."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist

from wsi_kd.core.device import choose_device
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.torchrun import launched_by_torchrun
from wsi_kd.training.ranks import Ranks, present_ranks


class Place(NamedTuple):
    """A process among those that train together."""

    rank: int
    processes: int
    meeting: str
    """Where they meet: a URL that torch.distributed knows."""


def place_by_torchrun() -> Place | None:
    """Return the place that torchrun gave this process in its environment; None where there is none."""
    launched = launched_by_torchrun()
    return None if launched is None else Place(*launched, "env://")


@contextmanager
def joined(place: Place | None, *, device: str) -> Iterator[Ranks]:
    """Join the other processes, by gloo on a CPU and by NCCL between GPUs; `place` None: there are none.

    Raises:
        BadInput: two processes that would compute on one GPU.
        RunFailed: the others did not come.
    """
    if place is None:
        yield Ranks()
        return
    on_gpu = choose_device(device).type == "cuda"
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            init_method=place.meeting,
            rank=place.rank,
            world_size=place.processes,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunFailed(f"the {place.processes} processes of this training did not meet ({reason})") from None
    try:
        ranks = present_ranks()
        if on_gpu:
            _check_own_cards(ranks, device)
        yield ranks
    finally:
        dist.destroy_process_group()


def _check_own_cards(ranks: Ranks, device: str) -> None:
    cards = ranks.gathered((socket.gethostname(), torch.cuda.current_device()))
    if len(set(cards)) < len(cards):
        raise BadInput(
            f"{ranks.count} processes would train on {len(set(cards))} GPUs (train.device {device}); each "
            "needs one that no other job holds: lower train.processes, or set train.device to cpu"
        )
