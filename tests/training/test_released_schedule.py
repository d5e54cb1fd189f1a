"""Golden numbers of the authors' released code: one step, and two epochs of its alternating schedule.

Its network (BatchNorm projector, deep heads, two student logits) is built here as a test model; the losses,
pseudo labels, mining and both halves of the schedule are ours.
"""

import numpy as np
import pytest
import torch
from torch import nn

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import PackedBags
from wsi_kd.kd.pseudo_labels import AttentionRange
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import attention_pool
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.loop import Run
from wsi_kd.training.losses import LossLedger, released_student_losses, released_teacher_losses
from wsi_kd.training.mining_step import mine
from wsi_kd.training.plan import Mining
from wsi_kd.training.schedules import InstanceBatch, released_steps
from wsi_kd.training.soft_labels import RangeMeter, label_instances
from wsi_kd.training.state import TrainingState

pytestmark = pytest.mark.shared_data

INSTANCE_BATCH = 32
DTYPES = {torch.float64: {"rtol": 1e-9, "atol": 1e-11}, torch.float32: {"rtol": 1e-5, "atol": 1e-5}}
PAPERS_RULE = Mining(
    start_epoch=0,
    threshold=0.5,
    drop_probability=1.0,
    max_drop_fraction=1.0,
    symmetric=False,
    guard=False,
    guard_drop=0.1,
)


class ReleasedTeacher(nn.Module):
    """Two ReLU layers, plain attention, a linear bag head; key names of the reference."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.ModuleDict({"1": nn.Linear(16, 16), "4": nn.Linear(16, 16)})
        self.attention = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))
        self.top_layer = nn.Linear(16, 2)

    def forward(self, instances, offsets, keep=None):
        hidden = self.classifier["4"](self.classifier["1"](instances).relu()).relu()
        attention, evidence = self.attention(hidden).squeeze(-1), self.top_layer(hidden)
        return BagOutput(attention_pool(attention, evidence, offsets, keep=keep), attention, evidence)


class ReleasedStudent(InstanceClassifier):
    """Three layers and two logits, told apart by their difference: softmax of two is its sigmoid."""

    def __init__(self):
        super().__init__(hidden_dim=16, student_hidden_dim=0)
        del self.hidden, self.head
        self.classifier = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU())
        self.top_layer = nn.Linear(24, 2)

    def forward(self, instances):
        logits = self.top_layer(self.classifier(instances))
        return logits[:, 1] - logits[:, 0]


class ReleasedModel(TeacherStudent):
    """Linear and BatchNorm as the projector, no scaling, no dropout."""

    def __init__(self):
        super().__init__(
            feature_dim=16, hidden_dim=16, dropout=0.0, teacher=ReleasedTeacher(), student=ReleasedStudent()
        )
        self.projector = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))

    def project(self, features):
        return self.projector(features)


class Steps(LossLedger):
    """A ledger that also lists the mean loss and the hidden instances of every step."""

    def __init__(self, slide_ids):
        super().__init__(slide_ids)
        self.listed = {"teacher loss": [], "student loss": [], "hidden fraction": [], "gradient norm": []}

    def add(self, term, losses, bags):
        super().add(term, losses, bags)
        self.listed[term].append(losses.detach().mean().item())


def load(folder, name, dtype):
    with np.load(folder / f"{name}.npz", allow_pickle=False) as numbers:
        tensors = {key: torch.as_tensor(numbers[key]) for key in numbers.files}
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}


def ours(name):
    """Reference key -> ours: `projector.projecter.0.weight` -> `projector.0.weight`."""
    return name.replace("projecter.", "")


def start(read, plans, *, learning_rate):
    """Return a run of the reference network at its initial weights, with plain SGD and no clipping."""
    model = ReleasedModel().to(read["X"].dtype)
    weights = {ours(key.removeprefix("init.")): read[key] for key in read if key.startswith("init.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["scaling.mean", "scaling.deviation"], [])
    bags, instances = len(read["bag_label"]), len(read["X"])
    train = BagSet(
        slide_ids=tuple(f"bag_{bag}" for bag in range(bags)),
        features=read["X"].float().numpy(),
        offsets=read["offsets"].numpy(),
        labels=read["bag_label"].numpy(),
        tile_labels=read["inst_label"].numpy().astype(np.int8),
        coords=np.zeros((instances, 2), np.int64),
        header={},
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    state = TrainingState(model.train(), optimizer, torch.Generator())
    optimization = plans.optimization._replace(gradient_clip=float("inf"))
    return Run(train, train, optimization, torch.device("cpu"), state)


def bags_in_order(read):
    for bag, (first, last) in enumerate(zip(read["offsets"][:-1], read["offsets"][1:], strict=True)):
        offsets = torch.tensor([0, int(last - first)])
        yield [bag], PackedBags(read["X"][first:last], offsets, read["bag_label"][bag : bag + 1])


def instances_in_order(read):
    for rows in torch.arange(len(read["X"])).split(INSTANCE_BATCH):
        yield InstanceBatch(rows, read["X"][rows])


def assert_gradients(model, read, prefix, tolerance):
    wanted = {ours(key.removeprefix(prefix)): read[key] for key in read if key.startswith(prefix)}
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **tolerance, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_teacher_forward_loss_and_gradients(shared_reference, plans, dtype):
    read = load(shared_reference, "weno_attention_single_steps", dtype)
    model = start(read, plans, learning_rate=0.1).model
    for (bag,), packed in bags_in_order(read):
        model.zero_grad()
        output = model.teacher(model.project(packed.instances), packed.offsets)
        loss = released_teacher_losses(output.bag_logits, packed.labels)
        torch.testing.assert_close(
            output.attention_logits, read[f"teacher.bag{bag}.attention_raw"], **DTYPES[dtype]
        )
        torch.testing.assert_close(output.bag_logits[0], read["teacher.bag_logits"][bag], **DTYPES[dtype])
        torch.testing.assert_close(loss[0], read["teacher.loss"][bag], **DTYPES[dtype])
        if bag < 2:  # the reference holds the gradients of one positive and one negative bag
            loss.sum().backward()
            assert_gradients(model, read, f"teacher.bag{bag}.grad.", DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_pseudo_labels_student_loss_and_gradients(shared_reference, plans, dtype):
    read = load(shared_reference, "weno_attention_single_steps", dtype)
    run = start(read, plans, learning_rate=0.1)
    meter = RangeMeter()
    for _, packed in bags_in_order(read):
        meter.add(run.model.teacher(run.model.project(packed.instances), packed.offsets).attention_logits)
    expected = AttentionRange(read["pseudo.min"], read["pseudo.max"])
    torch.testing.assert_close(meter.seen, expected, **DTYPES[dtype])
    rows = read["student.batch_rows"]
    positive = read["bag_label"].repeat_interleave(read["offsets"].diff())[rows] == 1
    hidden = run.model.project(read["X"][rows])
    labels = label_instances(run, hidden, positive=positive, global_range=meter.seen)
    torch.testing.assert_close(labels, read["pseudo.batch_label"], **DTYPES[dtype])
    losses = released_student_losses(run.student(hidden), labels, negative_weight=0.1)
    torch.testing.assert_close(losses.mean(), read["student.loss"], **DTYPES[dtype])
    losses.mean().backward()
    assert_gradients(run.model, read, "student.grad.", DTYPES[dtype])


@pytest.mark.parametrize(("rule", "threshold"), [("thr50", 0.5), ("thr02", 0.02)])
def test_mining_on_the_training_projection(shared_reference, plans, rule, threshold):
    read = load(shared_reference, "weno_attention_single_steps", torch.float64)
    run = start(read, plans, learning_rate=0.1)
    for (bag,), packed in bags_in_order(read):
        hidden = run.model.project(packed.instances)
        keep = mine(run, hidden, packed, mining=PAPERS_RULE._replace(threshold=threshold))
        if packed.labels.item() == 0:
            assert keep.all()
            continue
        kept = f"hpm.bag{bag}.{rule}"
        assert keep.nonzero().flatten().tolist() == sorted(read[f"{kept}.kept"].tolist())
        output = run.model.teacher(hidden, packed.offsets, keep)
        loss = released_teacher_losses(output.bag_logits, packed.labels)
        torch.testing.assert_close(output.bag_logits, read[f"{kept}.bag_logits"], **DTYPES[torch.float64])
        torch.testing.assert_close(loss[0], read[f"{kept}.loss"], **DTYPES[torch.float64])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "learning_rate", "mines"),
    [
        ("off", 1e-3, (False, False)),
        ("on_thr50", 1e-3, (True, True)),
        ("off_then_on_lr05", 0.05, (False, True)),
    ],
)
def test_two_epochs(shared_reference, plans, name, learning_rate, mines, dtype):
    read = load(shared_reference, "weno_attention_two_epochs", dtype)
    run = start(read, plans, learning_rate=learning_rate)
    sizes = read["offsets"].diff().tolist()
    tolerance = DTYPES[dtype]
    for epoch, mined in enumerate(mines):
        ledger = Steps(run.train.slide_ids)
        seen = released_steps(
            run,
            ledger,
            bag_batches=bags_in_order(read),
            instance_batches=instances_in_order(read),
            negative_weight=0.1,
            mining=PAPERS_RULE if mined else None,
        )
        for part in ("teacher", "student"):
            found = torch.tensor(ledger.listed[f"{part} loss"], dtype=dtype)
            torch.testing.assert_close(found, read[f"{name}.{part}_loss"][epoch], **tolerance)
        torch.testing.assert_close(torch.stack(seen), read[f"{name}.attention_minmax"][epoch], **tolerance)
        hidden = ledger.listed["hidden fraction"] or [0.0] * len(sizes)
        used = [round(size * (1 - fraction)) for size, fraction in zip(sizes, hidden, strict=True)]
        assert used == read[f"{name}.epoch{epoch}.teacher_rows_used"].tolist()
    final = f"{name}.final."
    weights = run.model.state_dict()
    for key in (key for key in read if key.startswith(final)):
        found = weights[ours(key.removeprefix(final))]
        torch.testing.assert_close(found, read[key], **tolerance, msg=lambda text, key=key: key + text)
