"""The moving average of the teacher: how it moves, and that the soft labels are its word."""

import pytest
import torch

from wsi_kd.bags.packing import pack
from wsi_kd.training.loop import start_run, take_step
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.soft_labels import label_all_instances, quiet_teacher


@pytest.fixture
def run_with_average(plans, small_parts):
    with start_run(
        *small_parts,
        classes=2,
        architecture=plans.architecture,
        optimization=plans.optimization._replace(learning_rate=0.1),
        with_student=True,
        teacher_average=0.75,
    ) as run:
        yield run


def step(run):
    packed = pack(run.train, [0, 15], device=run.device, dtype=torch.float32)
    output = run.model(packed.instances, packed.offsets)
    loss = output.bag_logits[:, 0].sum() + output.instance_logits.mean()
    take_step(run, loss, LossLedger(run.train.slide_ids), bag=0)
    return packed


def copy_of(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_each_step_moves_the_average_by_the_rest_of_its_decay(run_with_average):
    run = run_with_average
    expected = copy_of(run.model)
    for _ in range(3):
        step(run)
        present = copy_of(run.model)
        expected = {name: 0.75 * value + 0.25 * present[name] for name, value in expected.items()}
    found = copy_of(run.state.average)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found["projector.weight"], present["projector.weight"])


def test_the_soft_labels_are_the_averages_word(run_with_average):
    run = run_with_average
    packed = step(run)
    quiet = quiet_teacher(run, run.model.project(packed.instances), packed, mode="attention_evidence")
    word = run.state.average(packed.instances, packed.offsets)
    torch.testing.assert_close(quiet.evidence, word.evidence)
    torch.testing.assert_close(quiet.attention_logits, word.attention_logits)
    assert (quiet.evidence - run.model.eval()(packed.instances, packed.offsets).evidence).abs().max() > 0.01
    labels = label_all_instances(run, mode="evidence", floor=0.0)[:20]
    own = (word.evidence[:20, 1] - word.evidence[:20, 0]).sigmoid()
    torch.testing.assert_close(labels[:, 0], own, rtol=1e-4, atol=1.1e-5)


def test_a_roll_back_takes_the_average_along(run_with_average):
    run = run_with_average
    run.state.select(1.0)
    selected = copy_of(run.model)
    step(run)
    run.state.roll_back()
    assert all(torch.equal(value, selected[name]) for name, value in copy_of(run.state.average).items())
