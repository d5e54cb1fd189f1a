"""The speed benchmark: its products are those of the step, its ratios are right, it runs without a GPU."""

import json
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import train_resident
import train_step
from released_loop import ReleasedWidths, run_epoch
from wsi_kd.bags.packing import pack
from wsi_kd.settings.models import TrainSettings

PRODUCTS = {"mm": (0, 1), "addmm": (1, 2)}
SETTINGS = TrainSettings(device="cpu", precision="float32", hidden_dim=32, attention_dim=16)


class Flops(TorchDispatchMode):
    """Multiplications of matrix products, and how many of each shape."""

    def __init__(self):
        super().__init__()
        self.count, self.shapes = 0, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operands = PRODUCTS.get(func.overloadpacket.__name__)
        if operands is not None:
            (rows, inner), (_, columns) = (args[place].shape for place in operands)
            self.count += rows * inner * columns
            self.shapes[(rows, inner, columns)] += 1
        return func(*args, **(kwargs or {}))


def test_the_products_are_those_that_the_step_issues():
    with train_step.started(train_step.draw_bags((70,)), SETTINGS) as run, Flops() as of_step:
        train_step.joint_step(run, SETTINGS)()
    alone = train_step.matrix_products(SETTINGS, 70, dtype=torch.float32, all_of_them=True)
    with Flops() as of_products:
        alone()
    # the step has one more: the evidence of whole bags that its soft labels are made of
    quiet = Counter({(70, 32, 2): 1})
    assert of_step.shapes == of_products.shapes + quiet
    large = train_step.matrix_products(SETTINGS, 70, dtype=torch.float32, all_of_them=False)
    with Flops() as of_large:
        large()
    assert of_large.count == 70 * (2 * 1024 * 32 + 3 * 32 * 32)
    assert of_large.count < of_products.count < 1.1 * of_large.count


def test_turns_alternate_after_a_warm_up():
    called = []
    seconds = train_step.take_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b", "a", "b", "a", "b"]
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_ratios_are_taken_turn_by_turn():
    row = train_step.compare({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}, "a", "b")
    assert (row["ratio"], row["ratio_of_smallest"], row["seconds"]) == (2.0, 2.0, 4.0)


def test_the_released_loop_learns():
    bags = train_step.draw_bags((40, 40))
    bags.features[40:] += 2.0
    torch.manual_seed(0)
    model = ReleasedWidths(1024)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    run_epoch(model, bags, generator=torch.Generator().manual_seed(0))
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved >= before.keys() - {
        "attention.2.bias",
        "projector.0.bias",
    }  # softmax and BatchNorm take these away
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_a_machine_without_a_gpu_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["train_resident.py", "--json", str(tmp_path / "found.json")])
    train_resident.main()
    assert capsys.readouterr().out == "train_resident: skipped, this machine has no GPU\n"
    assert not (tmp_path / "found.json").exists()


def test_the_json_holds_the_parts_asked_for(monkeypatch, tmp_path):
    arguments = ["train_step.py", "--quick", "--parts", "linear", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    train_step.main()
    tables = json.loads((tmp_path / "found.json").read_text())["tables"]
    assert {name: len(found["rows"]) for name, found in tables.items()} == {"linear": 4}


def test_tables_hold_raw_numbers():
    table = train_step.as_measured([{"bags_per_step": 8, "compiled": True, "seconds": 0.123456789}])
    assert table["columns"] == {"bags per step": ",.0f", "compiled": "", "seconds": ".4g"}
    assert table["rows"] == [[8, "True", 0.123456789]]


def test_bags_on_a_gpu_take_no_memory_here():
    bags = train_resident.bags_on_gpu((3, 2))
    assert bags.features.shape == (5, 1024)
    assert bags.features.strides == (0, 0)
    assert bags.offsets.tolist() == [0, 3, 5]
    resident = torch.arange(5 * 1024, dtype=torch.float16).view(5, 1024)
    packed = pack(bags, [1], device="cpu", dtype=torch.float32, resident=resident)
    assert torch.equal(packed.instances, resident[3:].float())
