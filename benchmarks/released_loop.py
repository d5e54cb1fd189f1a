"""The loop that train_step.py compares with: one bag a step, two passes, the widths of WENO's released code.

Written from the description of the method (Qu et al., NeurIPS 2022, section 3) and of its released networks:
projector Linear and BatchNorm; teacher two layers of 1,024 with dropout, attention of 512; student two layers
of 4,096; SGD at 1e-3. The teacher steps on one bag after another; then the student steps on shuffled batches
of 512 instances, whose soft labels the teacher makes anew from the projection.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.bags.datasets import BagSet

HIDDEN_DIM: Final = 512
TEACHER_DIM: Final = 1024
STUDENT_DIM: Final = 4096
INSTANCE_BATCH: Final = 512
NEGATIVE_WEIGHT: Final = 0.1
MARGIN: Final = 1e-5


class ReleasedWidths(nn.Module):
    """Shared projector, attention teacher and instance student, and the three optimizers."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.projector = nn.Sequential(nn.Linear(feature_dim, HIDDEN_DIM), nn.BatchNorm1d(HIDDEN_DIM))
        self.body = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(HIDDEN_DIM, TEACHER_DIM),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(TEACHER_DIM, TEACHER_DIM),
            nn.ReLU(),
        )
        self.attention = nn.Sequential(nn.Linear(TEACHER_DIM, 512), nn.Tanh(), nn.Linear(512, 1))
        self.bag_head = nn.Linear(TEACHER_DIM, 2)
        self.student = nn.Sequential(
            nn.Linear(HIDDEN_DIM, STUDENT_DIM),
            nn.ReLU(),
            nn.Linear(STUDENT_DIM, STUDENT_DIM),
            nn.ReLU(),
            nn.Linear(STUDENT_DIM, 2),
        )
        self.optimizers = [
            torch.optim.SGD(part.parameters(), lr=1e-3)
            for part in (
                self.projector,
                nn.ModuleList([self.body, self.attention, self.bag_head]),
                self.student,
            )
        ]

    def step(self, loss: Tensor) -> None:
        """Step against the gradient of `loss`."""
        self.zero_grad()
        torch.autograd.backward(loss)
        for optimizer in self.optimizers:
            optimizer.step()


def run_epoch(model: ReleasedWidths, bags: BagSet, *, generator: torch.Generator) -> None:
    """Train the teacher on every bag, then the student on every instance."""
    seen = torch.cat(list(_teacher_pass(model, bags, generator=generator)))
    low, high = seen.aminmax()
    labels = torch.from_numpy(bags.labels).repeat_interleave(torch.from_numpy(bags.offsets).diff())
    order = torch.randperm(len(bags.features), generator=generator)
    for rows in order.split(INSTANCE_BATCH):
        projected = model.projector(torch.from_numpy(bags.features[rows.numpy()]).float())
        with torch.no_grad():
            scores = model.attention(model.body(projected)).squeeze(1)
            soft = ((scores - low) / (high - low)).clamp(MARGIN, 1 - MARGIN) * labels[rows]
        probability = model.student(projected).softmax(dim=1)
        negative = NEGATIVE_WEIGHT * (1 - soft) * (probability[:, 0] + MARGIN).log()
        positive = (1 - NEGATIVE_WEIGHT) * soft * (probability[:, 1] + MARGIN).log()
        model.step(-(negative + positive).mean())


def _teacher_pass(
    model: ReleasedWidths, bags: BagSet, *, generator: torch.Generator
) -> Iterator[Float[Tensor, "instances"]]:
    spans = [slice(start, end) for start, end in pairwise(bags.offsets)]
    for bag in torch.randperm(len(spans), generator=generator).tolist():
        vectors = model.body(model.projector(torch.from_numpy(bags.features[spans[bag]]).float()))
        scores = model.attention(vectors).squeeze(1)
        logits = model.bag_head(scores.softmax(dim=0) @ vectors)
        model.step(F.cross_entropy(logits[None], torch.tensor([int(bags.labels[bag])])))
        yield scores.detach()
