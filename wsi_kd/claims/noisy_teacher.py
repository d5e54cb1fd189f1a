"""SLaM on digits: a teacher whose errors have a structure, and a student that has no label of its own."""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.claims.alike import Alike
from wsi_kd.claims.digits import CLASSES, Samples, digits
from wsi_kd.claims.training import accuracy, draw_batches, mlp
from wsi_kd.kd.losses.slam import SlamLoss
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.student_label_mixing import mixed_cross_entropy

K: Final = 3
"""The truth, and the two classes after it that the teacher may say instead."""
UNLABELED, LABELED, TEST = 1100, 197, 500
BATCH, STEPS, LEARNING_RATE = 64, 1020, 2e-3
UNSURE: Final = 0.44
"""Share of the samples, the faintest, of which the teacher is right in a half only."""
NOISY: Final = (0.5, 0.9)
GOOD: Final = (0.99, 0.99)
BLUR: Final = 0.05
"""Deviation of how sure the teacher is around how often it is right."""
ROWS: Final = (
    "vanilla, soft answers",
    "vanilla, hard answers",
    "SLaM, alpha known",
    "SLaM, alpha learned, normalized",
    "SLaM, alpha learned, unnormalized",
    "SLaM, alpha learned, unnormalized, soft answers",
    "good teacher: vanilla, hard answers",
    "good teacher: SLaM, alpha learned, unnormalized",
)
Answered = Callable[[Tensor, Tensor], Tensor]
"""From logits of a batch and its rows to a loss."""


class Answers(NamedTuple):
    """What the noisy teacher says of some samples."""

    logits: Float[Tensor, "samples classes"]
    right: Float[Tensor, "samples"]
    """Probability that its likeliest class is the truth: alpha."""
    possible: Bool[Tensor, "samples classes"]
    """The truth and the classes that it may be taken for."""


def measure_noisy_teacher(seed: int) -> dict[str, float]:
    """Train all students of `ROWS` at once; return their accuracy on the test part, and the teacher's."""
    unlabeled, labeled, test = digits(seed, [UNLABELED, LABELED, TEST])
    noisy, seen = (_answer(part, NOISY, seed=seed) for part in (unlabeled, labeled))
    good, good_seen = (_answer(part, GOOD, seed=seed) for part in (unlabeled, labeled))
    losses = [
        *_vanilla(noisy),
        _known(noisy),
        _learned(noisy, seen, labeled.labels, normalize=True),
        _learned(noisy, seen, labeled.labels),
        _learned(noisy, seen, labeled.labels, hard_answer=False),
        _vanilla(good)[1],
        _learned(good, good_seen, labeled.labels),
    ]
    students = Alike(mlp([64, 128, CLASSES], seed=seed), copies=len(losses))
    optimizer = torch.optim.Adam(students.parameters(), lr=LEARNING_RATE)
    for rows in draw_batches(UNLABELED, steps=STEPS, batch=BATCH, seed=seed):
        optimizer.zero_grad()
        logits = students(unlabeled.inputs[rows])
        parts = [loss(given, rows) for loss, given in zip(losses, logits, strict=True)]
        torch.autograd.backward(torch.stack(parts).sum())
        optimizer.step()
    found = {"the teacher": (noisy.logits.argmax(dim=1) == unlabeled.labels).double().mean().item()}
    for number, name in enumerate(ROWS):
        found[name] = accuracy(students.one(number), test.inputs, test.labels)
    return found


def _answer(samples: Samples, trust: tuple[float, float], *, seed: int) -> Answers:
    """Say the truth with a probability by the sample's brightness, else one of the next two classes."""
    count = len(samples.labels)
    generator = torch.Generator().manual_seed(1000 * seed + count)
    brightness = samples.inputs.sum(dim=1)
    right = torch.where(brightness < brightness.quantile(UNSURE), *trust)
    errs = torch.rand(count, generator=generator) > right
    said = samples.labels + errs * torch.randint(1, K, (count,), generator=generator)
    sure = (right + BLUR * torch.randn(count, generator=generator)).clamp(0.4, 0.99)
    possible = F.one_hot((samples.labels[:, None] + torch.arange(K)) % CLASSES, CLASSES).sum(dim=1).bool()
    # the other two are told apart by chance alone: their order must not give the truth away
    weight = possible * (1.0 + 0.2 * torch.rand(count, CLASSES, generator=generator))
    others = weight * (1 - F.one_hot(said % CLASSES, CLASSES))
    probability = (1.0 - sure[:, None]) * others / others.sum(dim=1, keepdim=True)
    probability += sure[:, None] * F.one_hot(said % CLASSES, CLASSES)
    return Answers((probability + 1e-4).log(), right, possible)


def _vanilla(answers: Answers) -> tuple[Answered, Answered]:
    probability, said = answers.logits.softmax(dim=1), answers.logits.argmax(dim=1)
    return (
        lambda logits, rows: F.cross_entropy(logits, probability[rows]),
        lambda logits, rows: F.cross_entropy(logits, said[rows]),
    )


def _known(answers: Answers) -> Answered:
    said = _one_hot(answers.logits.argmax(dim=1))

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        alpha, mask = answers.right[rows], answers.possible[rows]
        return mixed_cross_entropy(logits, said[rows], alpha=alpha, mask=mask, normalize=True)

    return loss


def _learned(
    answers: Answers,
    seen: Answers,
    labels: Int64[Tensor, "samples"],
    *,
    normalize: bool = False,
    hard_answer: bool = True,
) -> Answered:
    slam = SlamLoss(k=K, lower_bound=0.55, normalize=normalize, hard_answer=hard_answer)
    slam.pretrain([(Outputs(seen.logits), labels)])
    return lambda logits, rows: slam(Outputs(logits), Outputs(answers.logits[rows]), None)


def _one_hot(classes: Int64[Tensor, "samples"]) -> Float[Tensor, "samples classes"]:
    return F.one_hot(classes, CLASSES).float()
