"""The same code on several devices and inside wrappers of several processes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from distillation_parts import (
    LogitMatch,
    Projected,
    Task,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
)
from torch import distributed, nn

from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.taps import unwrap


def distill(student: nn.Module, **settings: Any) -> Distiller:
    criteria = {"ce": (Task(), 0.5), "kd": (LogitMatch(), 2.0), "hint": (Projected(), 1.0)}
    return make_distiller(student, criteria=criteria, layers={"hint": ("1", "2")}, **settings)


@pytest.fixture
def one_process() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_student_in_distributed_data_parallel_is_tapped_and_exported_bare() -> None:
    expected = distill(make_network(0)).fit(make_loader(), make_loader(seed=1), epochs=2)
    student = make_network(0)
    wrapped = distill(nn.parallel.DistributedDataParallel(student))
    assert unwrap(wrapped.student) is student
    found = wrapped.fit(make_loader(), make_loader(seed=1), epochs=2)
    assert found.history == [pytest.approx(row) for row in expected.history]


@pytest.mark.usefixtures("one_process")
def test_a_whole_distiller_in_distributed_data_parallel() -> None:
    """Only what learns is in it: a frozen teacher inside would be refused or synchronized for nothing."""
    distiller = distill(make_network(0))
    distiller.prepare(batch_of())
    wrapped = nn.parallel.DistributedDataParallel(distiller)
    step = wrapped(batch_of())
    step.loss.backward()
    assert set(step.terms) == {"ce", "kd", "hint"}
    assert all(parameter.grad is not None for parameter in distiller.parameters())


@pytest.mark.gpu
def test_a_gpu_trains_as_the_cpu_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def history(device: str) -> list[dict[str, float | int]]:
        student = make_network(0)
        student[3].p = 0.0  # dropout draws differ
        distiller = distill(student, device=device)
        return distiller.fit(make_loader(), make_loader(seed=1), epochs=2).history

    assert history("cuda") == [pytest.approx(row, rel=1e-3, abs=1e-4) for row in history("cpu")]
