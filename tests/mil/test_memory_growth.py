"""No teacher ever holds a number for every pair of tiles: a step allocates in proportion to the bag."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wsi_kd.mil.registry import TEACHERS, create_model

SMALL, LARGE = 1500, 6000
"""Four times as large: its square is sixteen times as large."""
FEATURE_DIM, HIDDEN = 16, 32


class Allocations(TorchDispatchMode):
    """Counts the numbers that operations give, forward and backward."""

    def __init__(self):
        super().__init__()
        self.largest = self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for value in tree_leaves(given):
            if isinstance(value, torch.Tensor):
                held = value.untyped_storage().nbytes() // value.element_size()
                self.largest = max(self.largest, held)
                self.total += held
        return given


def step(teacher, instances):
    torch.manual_seed(0)
    model = create_model(
        teacher=teacher,
        feature_dim=FEATURE_DIM,
        hidden_dim=HIDDEN,
        attention_dim=16,
        dropout=0.25,
        student_hidden_dim=0,
        classes=2,
        with_student=True,
    ).train()
    features = torch.randn(instances, FEATURE_DIM)
    with Allocations() as found:
        output = model(features, torch.tensor([0, instances]))
        loss = output.bag_logits.square().sum() + output.instance_logits.square().mean()
        torch.autograd.backward(loss + output.evidence.square().mean())
    return found


@pytest.mark.parametrize("teacher", sorted(TEACHERS))
def test_a_step_takes_memory_in_proportion_to_the_bag(teacher):
    small, large = step(teacher, SMALL), step(teacher, LARGE)
    assert large.largest < LARGE**2 / 10
    assert large.largest <= 4.4 * small.largest
    assert large.total <= 4.4 * small.total


def test_full_self_attention_would_be_found():
    """What is counted is what would hurt: plain attention between all tiles."""
    with Allocations() as found:
        queries = torch.randn(SMALL, 8)
        (queries @ queries.T).softmax(dim=1)
    assert found.largest == SMALL**2
