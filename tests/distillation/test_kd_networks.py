import sys
from collections.abc import Mapping

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.augmentations import create_augment
from wsi_kd.distillation.criteria import create_loss
from wsi_kd.distillation.networks import NetworkPlan, create_network
from wsi_kd.distillation.optimizers import create_schedule, optimizer_factory
from wsi_kd.distillation.options import build
from wsi_kd.distillation.scoring import layer_shapes
from wsi_kd.kd.augmentation import GaussianNoise, InOrder, Mixup, OneOf
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.outputs import DistillationLoss
from wsi_kd.kd.registry import LOSSES
from wsi_kd.kd.schedules import Cosine, Steps


def shapes(network: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.shape for layer in layer_shapes(network, input_shape)}


def test_an_mlp_is_linear_layers_and_relu():
    network = create_network(NetworkPlan("mlp", {"hidden": [5, 4]}), input_shape=(2, 3), classes=3)
    x = torch.randn(7, 2, 3)
    hidden = x.flatten(1)
    for layer in network.hidden:
        hidden = (hidden @ layer[0].weight.T + layer[0].bias).clamp(min=0)
    expected = hidden @ network.head.weight.T + network.head.bias
    assert torch.allclose(network(x), expected, atol=1e-6)
    assert shapes(network, (2, 3)) == {
        "hidden.0.0": (5,),
        "hidden.0.1": (5,),
        "hidden.0": (5,),
        "dropout@0": (5,),
        "hidden.1.0": (4,),
        "hidden.1.1": (4,),
        "hidden.1": (4,),
        "dropout@1": (4,),
        "head": (3,),
    }


def test_an_mlp_without_hidden_layers_is_linear():
    network = create_network(NetworkPlan("mlp", {"hidden": []}), input_shape=(4,), classes=2)
    assert sum(p.numel() for p in network.parameters()) == 4 * 2 + 2


def test_a_small_cnn_halves_from_its_second_block_on_until_one_pixel():
    plan = NetworkPlan("cnn_small", {"channels": (4, 6, 8, 8, 8)})
    found = shapes(create_network(plan, input_shape=(1, 8, 8), classes=3), (1, 8, 8))
    assert [found[f"blocks.{i}"] for i in range(5)] == [(4, 8, 8), (6, 4, 4), (8, 2, 2), (8, 1, 1), (8, 1, 1)]
    assert found["head"] == (3,)
    with pytest.raises(BadInput, match=r"it reads images .*the data's samples are \(64,\); take mlp"):
        create_network(plan, input_shape=(64,), classes=3)


def test_timm_networks_have_the_datas_channels_and_classes():
    plan = NetworkPlan("timm:resnet10t", {"stem_width": 8})
    network = create_network(plan, input_shape=(1, 32, 32), classes=4)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 4)
    with pytest.raises(BadInput, match=r"unknown timm network 'resnet10' ?.*did you mean 'resnet1"):
        create_network(NetworkPlan("timm:resnet10", {}), input_shape=(3, 32, 32), classes=4)
    with pytest.raises(BadInput, match=r"cannot be built \(TypeError: .*no_such"):
        create_network(NetworkPlan("timm:resnet10t", {"no_such": 1}), input_shape=(3, 32, 32), classes=4)
    with pytest.raises(BadInput, match="it reads images"):
        create_network(plan, input_shape=(9,), classes=4)
    with pytest.raises(BadInput, match=r"cannot read samples \(3, 8, 8\)"):
        create_network(NetworkPlan("timm:vit_tiny_patch16_224", {}), input_shape=(3, 8, 8), classes=4)


def test_weights_of_files_must_fit_in_every_tensor(tmp_path):
    plan = NetworkPlan("mlp", {"hidden": [5]})
    network = create_network(plan, input_shape=(4,), classes=2)
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": network.state_dict()}, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        loaded = create_network(plan._replace(weights=tmp_path / name), input_shape=(4,), classes=2)
        assert torch.equal(loaded.head.weight, network.head.weight)
    with pytest.raises(BadInput, match=r"a.safetensors: not the weights of this mlp: 2 tensors .*head.bias"):
        create_network(plan._replace(weights=tmp_path / "a.safetensors"), input_shape=(4,), classes=3)
    with pytest.raises(BadInput, match=r"c.pt: no such weight file; correct `weights` of the network mlp"):
        create_network(plan._replace(weights=tmp_path / "c.pt"), input_shape=(4,), classes=2)
    torch.save(nn.Linear(2, 2), tmp_path / "code.pt")
    with pytest.raises(BadInput, match="refused, it would have to run code"):
        create_network(plan._replace(weights=tmp_path / "code.pt"), input_shape=(4,), classes=2)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_kd_parts.py").write_text(
        "from torch import nn\n"
        "from wsi_kd.kd.losses.kl import KdLoss\n"
        "def make(*, input_shape, classes, bias=True):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], classes, bias=bias))\n"
        "def wide(*, input_shape, classes):\n    return nn.Linear(input_shape[0], classes + 1)\n"
        "def number(*, input_shape, classes):\n    return 5\n"
        "class Mine(KdLoss):\n    pass\n"
    )
    yield "python:own_kd_parts"
    sys.modules.pop("own_kd_parts", None)


def test_a_function_of_the_users_makes_a_network(module):
    plan = NetworkPlan(f"{module}.make", {"bias": False})
    assert [*create_network(plan, input_shape=(3,), classes=2).state_dict()] == ["1.weight"]
    with pytest.raises(
        BadInput, match=r"of 2 samples it made float32 tensor \(2, 3\); expected logits \(2, 2\)"
    ):
        create_network(NetworkPlan(f"{module}.wide", {}), input_shape=(3,), classes=2)
    with pytest.raises(BadInput, match=r"it returned int; expected a torch.nn.Module"):
        create_network(NetworkPlan(f"{module}.number", {}), input_shape=(3,), classes=2)


def test_unknown_networks_are_named_with_the_nearest():
    with pytest.raises(BadInput, match=r"unknown network 'cnn_smal'.*did you mean 'cnn_small'"):
        create_network(NetworkPlan("cnn_smal", {}), input_shape=(3,), classes=2)


def test_losses_take_the_options_of_their_constructors(module):
    loss = create_loss("kd", {"temperature": 2})
    assert isinstance(loss, KdLoss)
    assert (loss.temperature, type(loss.temperature)) == (2.0, float)
    assert create_loss(f"{module}.Mine", {"temperature": 3}).temperature == 3.0


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        ("kdd", {}, r"unknown criterion 'kdd'.*did you mean 'kd'"),
        (
            "kd",
            {"temprature": 2},
            r"unknown option of criterion 'kd' 'temprature'.*did you mean 'temperature'",
        ),
        ("kd", {"wieght": 2}, r"unknown option of criterion 'kd' 'wieght'.*did you mean 'weight'"),
        (
            "kd",
            {"temperature": "hot"},
            "criterion 'kd': temperature: input should be a valid number.*found 'hot'",
        ),
        ("kd", {"temperature": -1}, "temperature is -1"),
        ("kd", {"temperature": True}, "criterion 'kd': temperature: expected a number, found True"),
        ("python:wsi_kd.kd.schedules.Constant", {}, "it is no DistillationLoss"),
    ],
)
def test_losses_that_cannot_be_made(kind, options, line):
    with pytest.raises(BadInput, match=line):
        create_loss(kind, options)


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_every_loss_can_be_made_from_a_file(kind):
    if kind == "searched":
        pytest.skip("needs a genome, which its own tests give it")
    assert isinstance(create_loss(kind, {}), DistillationLoss)


def test_options_that_no_file_can_hold_are_not_offered():
    def make(*, layer: nn.Module | None = None, size: int) -> int:
        return size

    assert build(make, {"size": 3}, what="x") == 3
    with pytest.raises(BadInput, match="unknown option of x 'layer'; known: size"):
        build(make, {"layer": 1, "size": 3}, what="x")
    with pytest.raises(BadInput, match="x: option 'size' is missing"):
        build(make, {}, what="x")


def step_of(factory) -> float:
    """How far one step moves a weight of 1 whose gradient is 2."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = factory([weight])
    weight.grad = torch.full((1,), 2.0)
    optimizer.step()
    return 1.0 - weight.item()


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("sgd", {"momentum": 0.9, "nesterov": True}, 0.1 * (1 + 0.9) * 2),
        ("adam", {"betas": (0.9, 0.999)}, 0.1),
        ("adamw", {"betas": (0.9, 0.999), "weight_decay": 0.5}, 0.1 + 0.1 * 0.5),
        ("lamb", {"betas": (0.9, 0.999), "weight_decay": 0.0}, 0.1),
    ],
)
def test_optimizers_step_as_their_formulas_say(name, options, expected):
    factory = optimizer_factory(name, options, learning_rate=0.1)
    assert step_of(factory) == pytest.approx(expected, rel=1e-4)


def test_unknown_optimizers_schedules_and_augmentations():
    with pytest.raises(BadInput, match=r"unknown optimizer 'adm'.*did you mean 'adam'"):
        optimizer_factory("adm", {}, learning_rate=0.1)
    with pytest.raises(BadInput, match=r"unknown schedule 'cosin'.*did you mean 'cosine'"):
        create_schedule("cosin", {})
    with pytest.raises(BadInput, match=r"unknown augmentation 'mixp'.*did you mean 'mixup'"):
        create_augment([{"name": "mixp"}], classes=2)


def test_schedules_and_augmentations_by_name():
    assert create_schedule("cosine", {"start": 1.0, "end": 0.5}) == Cosine(1.0, 0.5)
    assert create_schedule("steps", {"at": (0.5,), "factor": 0.1}) == Steps((0.5,), 0.1)
    assert create_augment([], classes=2) is None
    noise: Mapping[str, object] = {"name": "noise", "deviation": 0.5}
    mixup: Mapping[str, object] = {"name": "mixup", "alpha": 0.2}
    assert create_augment([noise], classes=2) == GaussianNoise(0.5)
    assert create_augment([noise, {"name": "one_of", "choices": [mixup, noise]}], classes=2) == InOrder(
        (GaussianNoise(0.5), OneOf((Mixup(alpha=0.2, classes=2), GaussianNoise(0.5))))
    )
