"""What several claims train with: small networks, batches by seed, plain cross entropy, accuracy.

All of them are deterministic: the same seed gives the same weights, whatever was drawn before.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.fitting import OptimizerFactory


def mlp(widths: Sequence[int], *, seed: int) -> nn.Sequential:
    """Build a perceptron with ReLU between its linear layers; `widths` from the inputs to the classes.

    >>> [tuple(parameter.shape) for parameter in mlp([64, 16, 10], seed=0).parameters()]
    [(16, 64), (16,), (10, 16), (10,)]
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def draw_batches(samples: int, *, steps: int, batch: int, seed: int) -> Iterator[Int64[Tensor, "batch"]]:
    """Yield the rows of `steps` batches: shuffled anew when fewer than a batch are left, which are skipped.

    Raises:
        BadInput: a batch is larger than the data.
    """
    if not 1 <= batch <= samples:
        raise BadInput(
            f"batches of {batch} from {samples} samples: expected 1 to {samples}; ask for smaller ones"
        )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(rows) < batch:
            rows = torch.randperm(samples, generator=generator)
        yield rows[:batch]
        rows = rows[batch:]


def train_network(
    network: nn.Module,
    inputs: Tensor,
    labels: Int64[Tensor, "samples"] | Float[Tensor, "samples classes"],
    *,
    steps: int,
    batch: int,
    optimizer: OptimizerFactory,
    seed: int,
) -> None:
    """Train a network in place with cross entropy; it is left in eval mode.

    Args:
        inputs: (samples, ...), as the network takes them.
        labels: classes, or soft labels that sum to 1.
        steps: how many batches are seen.
        batch: samples a batch.
        optimizer: from the network's parameters to their optimizer.
        seed: of the batches' order; the network brings its own initial weights.

    Raises:
        BadInput: a batch is larger than the data.
    """
    moved = optimizer(list(network.parameters()))
    network.train()
    for rows in draw_batches(len(inputs), steps=steps, batch=batch, seed=seed):
        moved.zero_grad()
        torch.autograd.backward(F.cross_entropy(network(inputs[rows]), labels[rows]))
        moved.step()
    network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, inputs: Tensor, labels: Int64[Tensor, "samples"]) -> float:
    """Return the share of samples whose largest logit is that of their class; the mode stays as it was."""
    mode = network.training
    network.eval()
    right = (network(inputs).argmax(dim=1) == labels).double().mean()
    network.train(mode)
    return float(right)
