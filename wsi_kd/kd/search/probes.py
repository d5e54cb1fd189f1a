"""What candidates are tried on before any training: teachers' outputs, and random ones for the student."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import read_batch
from wsi_kd.kd.evaluation import quiet
from wsi_kd.kd.losses.pairing import as_maps, at_least_float32, match_maps
from wsi_kd.kd.search.genome import LayerNames
from wsi_kd.kd.training_step import network_outputs

MIN_SAMPLES = 8


class Probe(NamedTuple):
    """Both sides of one source for one batch, of one shape, as maps (samples, channels, height, width)."""

    student: Tensor
    """Random numbers with the teacher's mean and standard deviation."""
    teacher: Tensor


def random_probe(teacher: Tensor, *, seed: int) -> Probe:
    """Draw the student's side for what a teacher gave, (samples, ...).

    Raises:
        BadInput: too few samples to tell losses apart, or a teacher that gives a constant.
    """
    values = as_maps(at_least_float32(teacher.detach().cpu()))
    if len(values) < MIN_SAMPLES or not values.std() > 0:
        raise BadInput(
            f"probe of a search: {len(values)} samples of standard deviation {float(values.std()):g}; "
            f"expected at least {MIN_SAMPLES} samples that differ"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(values.shape, generator=generator, dtype=torch.float32).to(values.dtype)
    return Probe(values.mean() + values.std() * drawn, values)


@torch.no_grad()
def collect_probes(
    student: nn.Module,
    teacher: nn.Module,
    batches: Iterable[Any],
    *,
    layers: Sequence[LayerNames | None],
    seed: int,
) -> Mapping[LayerNames | None, tuple[Probe, ...]]:
    """Run both networks on some batches; return a probe of each batch for each source.

    Args:
        student: tells how large its layers' maps are; the larger of both is averaged.
        teacher: on the same device.
        batches: as a loader yields them; three are enough.
        layers: the sources; None: the logits.
        seed: of the student's side.

    Raises:
        BadInput: layers that do not exist or cannot be paired, constant outputs, too few samples.
    """
    named = {str(number): pair for number, pair in enumerate(layers) if pair is not None}
    found: dict[LayerNames | None, list[Probe]] = {pair: [] for pair in layers}
    device = next(student.parameters()).device
    for number, raw in enumerate(batches):
        inputs = read_batch(raw, adapter=None, device=device).inputs
        sides = []
        for side, (network, who) in enumerate(((student, "the student"), (teacher, "the teacher"))):
            taps = {name: pair[side] for name, pair in named.items()}
            with quiet(network):
                sides.append(network_outputs(network, inputs, layers=taps, logits_of=None, who=who))
        ours, theirs = sides
        for name, pair in named.items():
            maps = match_maps(as_maps(ours.features[name]), as_maps(theirs.features[name])).teacher
            found[pair].append(random_probe(maps, seed=seed + number))
        if None in found:
            found[None].append(random_probe(theirs.logits, seed=seed + number))
    return {pair: tuple(probes) for pair, probes in found.items()}
