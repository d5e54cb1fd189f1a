"""One of two processes that distill together: `python distillation_process.py RANK FOLDER`.

What is compared is built by the functions here, which the test calls in a process of its own too.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from distillation_parts import CLASSES, INPUTS, LogitMatch, Projected, Task, batch_of, make_distiller
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.distiller import Distiller

PROCESSES, HALF, STEPS = 2, 4, 5


def network(seed: int, hidden: int) -> nn.Module:
    """Nothing in it knows the batch or draws."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(INPUTS, hidden), nn.Tanh(), nn.Linear(hidden, CLASSES))


def with_layers(student: nn.Module) -> Distiller:
    """Learns a layer between the features of both sides too."""
    criteria = {"ce": (Task(), 0.5), "kd": (LogitMatch(), 1.0), "hint": (Projected(), 1.0)}
    return make_distiller(student, network(1, 7), criteria=criteria, layers={"hint": ("0", "1")})


def own_loop(distiller: Distiller, step: Any, *, part: slice) -> dict[str, Tensor]:
    """Train on a part of each batch; return all that was learned."""
    for number in range(STEPS):
        inputs, labels = batch_of(PROCESSES * HALF, seed=number)
        distiller.optimizer.zero_grad()
        step((inputs[part], labels[part])).loss.backward()
        distiller.optimizer.step()
    return distiller.state_dict()


def train_loader(*, rank: int | None) -> DataLoader[Any]:
    """Batches of all samples, or of those of a process: every second one, half as many a batch."""
    data = TensorDataset(*batch_of(24, seed=3))
    if rank is None:
        return DataLoader(data, batch_size=PROCESSES * HALF)
    sampler: DistributedSampler[Any] = DistributedSampler(data, PROCESSES, rank, shuffle=False)
    return DataLoader(data, batch_size=HALF, sampler=sampler)


def fitted(student: nn.Module, *, rank: int | None) -> dict[str, Tensor]:
    """Train by `fit`; return the student."""
    bare = student.module if rank is not None else student
    distiller = make_distiller(student, network(1, 7))
    validation = DataLoader(TensorDataset(*batch_of(24, seed=4)), batch_size=8)
    distiller.fit(train_loader(rank=rank), validation, epochs=3)
    return bare.state_dict()


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), PROCESSES)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    distiller = with_layers(network(0, 5))
    distiller.prepare(batch_of(PROCESSES * HALF))
    wrapped = nn.parallel.DistributedDataParallel(distiller)
    learned = own_loop(distiller, wrapped, part=slice(rank * HALF, (rank + 1) * HALF))
    save_file(learned, folder / f"own_loop_{rank}.safetensors")
    student = nn.parallel.DistributedDataParallel(network(0, 5))
    save_file(fitted(student, rank=rank), folder / f"fitted_{rank}.safetensors")
    told = ""
    try:
        with_layers(nn.parallel.DistributedDataParallel(network(0, 5))).prepare(batch_of())
    except BadInput as error:
        told = str(error)
    (folder / f"told_{rank}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
