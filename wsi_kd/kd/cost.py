"""What a network costs where it is used: parameters, memory, and time on a CPU."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import call, describe
from wsi_kd.kd.taps import unwrap


class Cost(NamedTuple):
    """What a network costs."""

    parameters: int
    """Numbers that are learned, frozen ones included; shared ones once."""
    weights_bytes: int
    """Parameters and buffers (batch norm's averages), as they are in memory."""
    latency_ms: float
    """Of one call with the inputs given, median."""
    samples_per_s: float
    """Samples of that call through its latency."""


def count_parameters(network: nn.Module) -> int:
    """Return the number of learned numbers, frozen ones included; shared ones count once.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in network.parameters())


def measure_cost(
    network: nn.Module,
    inputs: Any,
    *,
    samples: int | None = None,
    calls: int = 30,
    warm_up: int = 5,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Measure a network on the CPU, in eval mode and without gradient; the network itself is left alone.

    Args:
        network: copied to the CPU; without wrappers (DistributedDataParallel, torch.compile).
        inputs: what it is called with, as in `Batch.inputs`. One sample gives the latency that a user waits
            for, a batch the throughput.
        samples: how many samples that is; None: the length of the first axis.
        calls: timed calls; the median is taken.
        warm_up: calls before them, which are not timed (memory is found, kernels are chosen).
        threads: of torch during the measurement; more than the machine has free makes it slower.
        clock: seconds.

    Raises:
        BadInput: no calls, no threads, inputs whose samples cannot be counted.
    """
    if calls < 1 or threads < 1 or warm_up < 0:
        raise BadInput(
            f"measure_cost: {calls} calls, {warm_up} before them, {threads} threads; "
            "expected at least 1, 0 and 1"
        )
    own = copy.deepcopy(unwrap(network)).cpu().eval()
    placed = _on_cpu(inputs)
    counted = _samples(placed) if samples is None else samples
    with _threads(threads), torch.inference_mode():
        times = [_time(own, placed, clock=clock) for _ in range(warm_up + calls)]
    seconds = statistics.median(times[warm_up:])
    tensors = chain(own.parameters(), own.buffers())
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Cost(count_parameters(own), size, seconds * 1e3, counted / seconds if seconds else float("inf"))


def _time(network: nn.Module, inputs: Any, *, clock: Callable[[], float]) -> float:
    begin = clock()
    call(network, inputs)
    return clock() - begin


@contextmanager
def _threads(number: int) -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def _on_cpu(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.detach().cpu()
    if isinstance(inputs, Mapping):
        return {name: _on_cpu(value) for name, value in inputs.items()}
    return tuple(_on_cpu(value) for value in inputs) if isinstance(inputs, tuple | list) else inputs


def _samples(inputs: Any) -> int:
    values = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else [inputs]
    )
    first = next((value for value in values if isinstance(value, Tensor) and value.ndim), None)
    if first is None or not len(first):
        raise BadInput(
            f"measure_cost: inputs are {describe(inputs)}, whose samples cannot be counted; pass samples="
        )
    return len(first)
