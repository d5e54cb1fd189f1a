"""No step of an epoch asks the device for a value: on a GPU each such question waits for all it was given."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wsi_kd.training.loop import start_run
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.schedules import alternate_epoch, joint_epoch, released_epoch, teacher_epoch

VALUES_READ = {"_local_scalar_dense", "is_nonzero", "equal", "item"}
SIZES_READ = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount"}


class HostWaits(TorchDispatchMode):
    """Counts the operations whose result, or its size, the host must read from the device."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in VALUES_READ | SIZES_READ:
            self.found[name] += 1
        if name in {"index", "index_put", "index_put_", "_index_put_impl_"}:
            picks = [
                index for index in args[1] if index is not None and index.dtype in {torch.bool, torch.uint8}
            ]
            self.found["boolean index"] += len(picks)
        if name == "repeat_interleave" and kwargs.get("output_size") is None:
            self.found["repeat_interleave without output_size"] += 1
        return func(*args, **kwargs)

    def total(self):
        return {name: count for name, count in self.found.items() if count}


@pytest.fixture
def started(small_parts, plans):
    def start(teacher="gated_abmil", dropout=0.25, precision="float32"):
        return start_run(
            *small_parts,
            classes=2,
            architecture=plans.architecture._replace(teacher=teacher, dropout=dropout),
            optimization=plans.optimization._replace(token_budget=100, precision=precision),
            with_student=True,
        )

    return start


@pytest.mark.parametrize(
    ("provoke", "name"),
    [
        (lambda values: values.sum().item(), "_local_scalar_dense"),
        (lambda values: bool(values.sum() > 0), "_local_scalar_dense"),
        (lambda values: values[values > 0], "boolean index"),
        (lambda values: values.nonzero(), "nonzero"),
        (
            lambda values: values.repeat_interleave(torch.tensor([1, 2])),
            "repeat_interleave without output_size",
        ),
        (lambda values: values[torch.tensor(1)], "_local_scalar_dense"),
    ],
)
def test_the_counter_sees_what_waits(provoke, name):
    with HostWaits() as waits:
        provoke(torch.tensor([1.0, -1.0]))
    assert waits.total()[name] == 1


@pytest.mark.parametrize("teacher", ["abmil", "gated_abmil", "clam_sb", "clam_mb", "dsmil"])
@pytest.mark.parametrize("mode", ["evidence", "minmax_global", "attention_evidence"])
@pytest.mark.parametrize("mines", [False, True])
def test_a_joint_epoch_waits_for_nothing(started, plans, small_parts, teacher, mode, mines):
    with started(teacher) as run:
        ledger = LossLedger(small_parts[0].slide_ids)
        with HostWaits() as waits:
            joint_epoch(
                run,
                ledger,
                distillation=plans.distillation._replace(pseudo_label=mode),
                mining=plans.mining if mines else None,
            )
        assert waits.total() == {}
        with HostWaits() as waits:
            ledger.check(0)
        assert waits.total() != {}  # the ledger's end is where the epoch waits


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("rule", ["random", "sub_bags", "threshold"])
def test_teacher_epochs_wait_for_nothing(started, plans, small_parts, precision, rule):
    mining = plans.mining._replace(rule=rule)
    with started(precision=precision) as run, HostWaits() as waits:
        teacher_epoch(run, LossLedger(small_parts[0].slide_ids), mining=mining)
    assert waits.total() == {}


@pytest.mark.parametrize("schedule", [alternate_epoch, released_epoch])
def test_student_epochs_wait_for_nothing_but_rows_that_are_on_the_host(started, plans, small_parts, schedule):
    distillation = plans.distillation._replace(pseudo_label="minmax_global")
    with started() as run, HostWaits() as waits:
        schedule(run, LossLedger(small_parts[0].slide_ids), distillation=distillation, mining=plans.mining)
    steps = -(-len(run.train.features) // distillation.instance_batch)
    # each student step reads the bag of its first row from a table on the host
    assert set(waits.total()) <= {"_local_scalar_dense"}
    assert waits.total().get("_local_scalar_dense", 0) <= 2 * steps
