import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.distillation.optimizers import optimizer_factory
from wsi_kd.kd.distiller import Distiller
from wsi_kd.kd.losses.task import CrossEntropyLoss


def distiller(make) -> Distiller:
    torch.manual_seed(0)
    return Distiller(nn.Linear(3, 2), [], criteria={"ce": (CrossEntropyLoss(), 1.0)}, optimizer=make)


def tensor_rate(parameters):
    return torch.optim.SGD(parameters, lr=torch.tensor(0.1), momentum=0.9)


@pytest.mark.parametrize("make", [optimizer_factory("lamb", {}, learning_rate=0.1), tensor_rate])
def test_optimizers_whose_groups_hold_tensors_resume_to_the_last_bit(tmp_path, make):
    """timm's Lamb counts its steps in a tensor of the group, and its bias correction depends on them."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        loader = DataLoader(
            TensorDataset(torch.randn(16, 3), torch.arange(16) % 2), batch_size=4, shuffle=True
        )
        whole, first, second = (distiller(make) for _ in range(3))
        whole.fit(loader, loader, epochs=4)
        first.fit(loader, loader, epochs=2, state_path=tmp_path / "s.safetensors")
        second.fit(loader, loader, epochs=4, state_path=tmp_path / "s.safetensors")
    assert torch.equal(second.student.weight, whole.student.weight)
    assert not torch.equal(first.student.weight, whole.student.weight)
