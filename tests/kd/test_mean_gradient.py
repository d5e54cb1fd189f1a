"""The teacher's mean gradient: what is augmented, how logits are found, what of the network stays."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from wsi_kd.kd.teacher_gradient import TeacherGradient, mean_gradient

EXACT = {"rtol": 1e-12, "atol": 1e-15}


def network(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(5, 3, dtype=torch.float64)


def part() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(9, 5, generator=generator, dtype=torch.float64), torch.arange(9) % 3


def gradient(given: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(F.cross_entropy(given(inputs), labels), list(given.parameters())))


def test_the_mean_is_of_augmented_batches() -> None:
    """The student's batches are augmented, so that grad f(theta) is the mean over such batches too."""
    inputs, labels = part()
    teacher = network()

    def doubled(inputs: torch.Tensor, labels: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        assert labels is not None
        return 2.0 * inputs, F.one_hot(labels.flip(0), 3).double()

    found = mean_gradient(teacher, [(inputs, labels)], augment=doubled)

    expected = gradient(teacher, 2.0 * inputs, labels.flip(0))
    torch.testing.assert_close(list(found.values()), expected, **EXACT)
    assert (expected[0] - gradient(teacher, inputs, labels)[0]).abs().max() > 0.05


def test_logits_are_found_as_told() -> None:
    class Pair(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.inner = network(seed)

        def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.inner(inputs)
            return {"features": 100.0 * logits, "scores": logits}

    batch = part()
    expected = gradient(network(), *batch)

    def scores(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return given["scores"]

    mean = mean_gradient(Pair(0), [batch], logits_of=scores)
    single = TeacherGradient(Pair(1), Pair(0), logits_of=scores).at(*batch)

    torch.testing.assert_close(list(mean.values()), expected, **EXACT)
    torch.testing.assert_close(list(single.values()), expected, **EXACT)


def test_the_network_keeps_its_mode_and_has_no_gradient_left() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    teacher.requires_grad_(requires_grad=False).train()
    before = copy.deepcopy(teacher.state_dict())

    first, second = (mean_gradient(teacher, [part()]) for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["0.weight"].abs().max() > 1e-4
    assert teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(own.grad is None and not own.requires_grad for own in teacher.parameters())
