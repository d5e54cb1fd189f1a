"""Several classes: two are the binary case, three are told apart, and any teacher serves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsi_kd.bags.datasets import BagSet
from wsi_kd.kd.pseudo_labels import AttentionRange
from wsi_kd.mil.registry import TEACHERS, create_model
from wsi_kd.training.loop import shuffled_batches, start_run
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.schedules import joint_epoch
from wsi_kd.training.state import restore_state, save_state
from wsi_kd.training.validation import auc

DIM, SHIFT = 16, 3.5


def class_bags(seed, *, classes=3, bags=60, instances=40, witnesses=6):
    """Bags of every class in turn: class 0 is noise, class c has witnesses shifted along axis c."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((bags, instances, DIM)).astype(np.float32)
    tile_labels = np.zeros((bags, instances), np.int8)
    labels = np.arange(bags) % classes
    for bag, label in enumerate(labels):
        if label:
            features[bag, :witnesses, label] += SHIFT
            tile_labels[bag, :witnesses] = label
    return BagSet(
        slide_ids=tuple(f"bag_{bag:03d}" for bag in range(bags)),
        features=features.reshape(-1, DIM),
        offsets=np.arange(bags + 1, dtype=np.int64) * instances,
        labels=labels,
        tile_labels=tile_labels.reshape(-1),
        coords=np.zeros((bags * instances, 2), np.int64),
        header={},
    )


def tensors_of(bags):
    return torch.from_numpy(bags.features), torch.from_numpy(bags.offsets)


def distill(parts, plans, work_dir, *, teacher="gated_abmil", classes, changes=None, **distillation):
    return train_weno(
        *parts,
        classes=classes,
        architecture=plans.architecture._replace(teacher=teacher),
        optimization=plans.optimization._replace(**(changes or {})),
        distillation=plans.distillation._replace(**distillation),
        mining=None,
        work_dir=work_dir,
        on_epoch=lambda row: None,
    )


def test_two_classes_step_as_the_binary_formulas_say(plans, small_parts):
    shared = {
        "classes": 2,
        "architecture": plans.architecture._replace(dropout=0.0),
        "optimization": plans.optimization._replace(gradient_clip=1e6),
        "with_student": True,
    }
    with start_run(*small_parts, **shared) as run:
        ledger = LossLedger(run.train.slide_ids)
        joint_epoch(run, ledger, distillation=plans.distillation, mining=None)
        found, losses = run.model.state_dict(), ledger.mean("student loss")
    each = []
    with start_run(*small_parts, **shared) as run:
        model = run.model
        for _, packed in shuffled_batches(run):
            hidden = model.project(packed.instances)
            evidence = model.teacher.bag_head(hidden).detach()
            positive = packed.labels.repeat_interleave(packed.offsets.diff())
            label = (evidence[:, 1] - evidence[:, 0]).sigmoid().clamp(1e-5, 1 - 1e-5) * positive
            logit = model.student.head(hidden)[:, 0]
            student = 0.1 * (1 - label) * F.softplus(logit) + 0.9 * label * F.softplus(-logit)
            teacher = F.cross_entropy(model.teacher(hidden, packed.offsets).bag_logits, packed.labels)
            run.state.optimizer.zero_grad()
            (teacher + student.mean()).backward()
            run.state.optimizer.step()
            each.append(student.mean().item())
    assert losses == pytest.approx(np.mean(each), rel=1e-5)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("teacher", "schedule", "pseudo_label"),
    [
        ("gated_abmil", "joint", "evidence"),
        ("gated_abmil", "alternate", "evidence"),
        ("clam_mb", "joint", "attention_evidence"),
        ("dsmil", "joint", "minmax_global"),
    ],
)
def test_the_student_tells_the_witnesses_of_both_classes_apart(
    teacher, schedule, pseudo_label, plans, work_dir
):
    trained = distill(
        [class_bags(1), class_bags(2)],
        plans,
        work_dir,
        teacher=teacher,
        classes=3,
        changes={"epochs": 12, "learning_rate": 5e-3},
        schedule=schedule,
        pseudo_label=pseudo_label,
    )
    test = class_bags(3)
    with torch.no_grad():
        logits = trained.model(*tensors_of(test)).instance_logits
    truth = torch.from_numpy(test.tile_labels)
    witnesses = truth > 0
    for label in (1, 2):
        assert auc(logits[:, label - 1], truth == label) > 0.93
        assert auc(logits[witnesses, label - 1], truth[witnesses] == label) > 0.95
    assert trained.history[trained.selected_epoch]["val_student_auc"] > 0.95


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_weno_moves_student_teacher_and_projector_of_every_teacher(teacher, classes, plans, work_dir):
    """Without weight decay a matrix that gets no gradient would keep its first values to the bit."""
    parts = [class_bags(seed, classes=classes, bags=12, instances=12, witnesses=4) for seed in (1, 2)]
    changes = {"epochs": 2, "weight_decay": 0.0, "learning_rate": 1e-2, "seed": 5}
    trained = distill(parts, plans, work_dir, teacher=teacher, classes=classes, changes=changes)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = create_model(
            **plans.architecture._replace(teacher=teacher)._asdict(),
            feature_dim=DIM,
            classes=classes,
            with_student=True,
        ).state_dict()
    for name, weight in trained.last_model.named_parameters():
        assert weight.isfinite().all(), name
        assert weight.ndim < 2 or not torch.equal(weight, first[name]), name
    features, offsets = tensors_of(parts[1])
    output = trained.last_model(features, offsets)
    assert output.bag_logits.shape == (12, classes)
    assert output.attention_logits.shape == (144,)
    assert output.evidence.shape == (144, classes)
    assert output.instance_logits.shape == (144, classes - 1)
    assert all(part.isfinite().all() for part in output if part is not None)
    unused = {"hidden_fraction", "val_instance_loss"}
    assert all(row[key] is not None for row in trained.history for key in row.keys() - unused)


def test_the_range_of_every_branch_survives_a_kill(plans, work_dir):
    shared = {
        "classes": 3,
        "architecture": plans.architecture._replace(teacher="clam_mb"),
        "optimization": plans.optimization,
        "with_student": True,
    }
    parts = [class_bags(seed, bags=6, instances=5, witnesses=2) for seed in (1, 2)]
    distillation = plans.distillation._replace(pseudo_label="minmax_global")
    with start_run(*parts, **shared) as run:
        joint_epoch(run, LossLedger(run.train.slide_ids), distillation=distillation, mining=None)
        save_state(run.state, work_dir, run_hash="x")
        found = run.state.attention_range
    with start_run(*parts, **shared) as run:
        assert restore_state(run.state, work_dir, run_hash="x")
        assert isinstance(run.state.attention_range, AttentionRange)
        assert torch.equal(torch.stack(run.state.attention_range), torch.stack(found))
    assert found.low.shape == (3,)
    assert (found.low < found.high).all()
