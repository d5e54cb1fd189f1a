"""Every teacher by name, in both recipes: it learns, its soft labels are usable, its checkpoint is itself."""

from typing import get_args

import numpy as np
import pytest
import torch

from wsi_kd.bags.packing import PackedBags
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.kd.pseudo_labels import PseudoLabelMode, pseudo_labels
from wsi_kd.mil.outputs import label_scores
from wsi_kd.mil.registry import SCORES_ALONE, TEACHERS, WITHOUT_ATTENTION
from wsi_kd.settings import models
from wsi_kd.settings.models import TrainSettings
from wsi_kd.training.checkpoint import KIND, load_model, save_model
from wsi_kd.training.distillation_checks import RELEASED_CLASSES
from wsi_kd.training.losses import LossLedger, teacher_objective
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.validation import auc

every_teacher = pytest.mark.parametrize("teacher", list(TEACHERS))


def train(recipe, teacher, *, parts, plans, work_dir, epochs=2, schedule="joint", pseudo_label="evidence"):
    shared = {
        "classes": 2,
        "architecture": plans.architecture._replace(teacher=teacher),
        "optimization": plans.optimization._replace(epochs=epochs, learning_rate=5e-3),
        "work_dir": work_dir,
        "on_epoch": lambda row: None,
    }
    if recipe == "abmil":
        return train_abmil(*parts, **shared)
    distillation = plans.distillation._replace(schedule=schedule, pseudo_label=pseudo_label)
    return train_weno(*parts, distillation=distillation, mining=None, **shared)


def tensors_of(bags):
    return torch.from_numpy(bags.features), torch.from_numpy(bags.offsets), torch.from_numpy(bags.labels)


def bag_auc(model, bags):
    features, offsets, labels = tensors_of(bags)
    with torch.no_grad():
        logits = model(features, offsets).bag_logits
    return auc(logits[:, 1] - logits[:, 0], labels == 1)


def test_settings_name_every_teacher_and_what_it_cannot_do():
    assert list(get_args(TrainSettings.model_fields["teacher"].annotation)) == list(TEACHERS)
    assert models.WITHOUT_ATTENTION == WITHOUT_ATTENTION
    assert models.SCORES_ALONE == SCORES_ALONE
    assert models.RELEASED_CLASSES == RELEASED_CLASSES


@every_teacher
@pytest.mark.parametrize(("recipe", "schedule"), [("abmil", ""), ("weno", "joint"), ("weno", "alternate")])
def test_a_teacher_by_name_learns_its_bags(teacher, recipe, schedule, plans, small_parts, work_dir):
    trained = train(
        recipe,
        teacher,
        parts=small_parts,
        plans=plans,
        work_dir=work_dir,
        epochs=8,
        schedule=schedule or "joint",
    )
    assert bag_auc(trained.last_model, small_parts[0]) > 0.9
    losses = [row["train_teacher_loss"] for row in trained.history]
    assert losses[-1] < losses[0]


@every_teacher
def test_soft_labels_are_finite_and_zero_in_negative_bags(teacher, plans, small_parts, work_dir):
    trained = train("abmil", teacher, parts=small_parts, plans=plans, work_dir=work_dir)
    features, offsets, labels = tensors_of(small_parts[0])
    with torch.no_grad():
        model = trained.last_model
        output = model.teacher(model.project(features), offsets)
    for mode in get_args(PseudoLabelMode):
        soft = pseudo_labels(
            mode,
            attention_logits=label_scores(model.teacher, output),
            evidence=output.evidence,
            offsets=offsets,
            bag_labels=labels,
        )
        positive = torch.from_numpy(np.repeat(small_parts[0].labels == 1, np.diff(small_parts[0].offsets)))
        assert soft.isfinite().all()
        assert (soft[~positive] == 0).all()
        assert ((soft[positive] > 0) & (soft[positive] < 1)).all()


@every_teacher
@pytest.mark.parametrize("pseudo_label", ["minmax_global", "expmax"])
def test_a_student_learns_from_attention_without_nan_or_the_teacher_is_refused(
    teacher, pseudo_label, plans, small_parts, work_dir
):
    job = {"parts": small_parts, "plans": plans, "work_dir": work_dir, "pseudo_label": pseudo_label}
    if teacher in WITHOUT_ATTENTION:
        with pytest.raises(BadInput, match=f"{pseudo_label} is made of attention, teacher {teacher} has"):
            train("weno", teacher, **job)
        return
    trained = train("weno", teacher, **job)
    assert all(np.isfinite(row["train_student_loss"]) for row in trained.history)
    assert all(weight.isfinite().all() for weight in trained.last_model.parameters())


@every_teacher
def test_a_saved_teacher_comes_back_bit_for_bit(teacher, plans, small_parts, work_dir, tmp_path):
    model = train("weno", teacher, parts=small_parts, plans=plans, work_dir=work_dir).model
    arguments = plans.architecture._replace(teacher=teacher)._asdict()
    header = {
        **stamp(KIND, {}),
        "model": {**arguments, "feature_dim": 64, "classes": 2, "with_student": True},
    }
    save_model(tmp_path / "saved", "model", model, header=header)
    loaded = load_model(tmp_path / "saved").model
    features, offsets, _ = tensors_of(small_parts[1])
    with torch.no_grad():
        pairs = zip(model(features, offsets), loaded(features, offsets), strict=True)
        assert all(part is again or torch.equal(part, again) for part, again in pairs)


@pytest.mark.parametrize(
    ("teacher", "bag", "auxiliary"), [("clam_sb", 0.7, 0.3), ("clam_mb", 0.7, 0.3), ("dtfd", 1.0, 1.0)]
)
def test_the_objective_adds_the_auxiliary_loss_in_the_papers_shares(teacher, bag, auxiliary, small_parts):
    features, offsets, labels = tensors_of(small_parts[0])
    torch.manual_seed(0)
    model = TEACHERS[teacher](hidden_dim=features.shape[1], attention_dim=8, classes=2).eval()
    ledger = LossLedger(small_parts[0].slide_ids)
    packed, bags = PackedBags(features, offsets, labels), list(range(len(labels)))
    step = {"hidden": features, "packed": packed, "keep": None, "ledger": ledger, "bags": bags}
    bag_losses = torch.arange(len(labels), dtype=torch.float32)
    found = teacher_objective(bag_losses, model, **step)
    extra = model.auxiliary_losses(features, offsets, labels)
    assert ledger.mean("auxiliary loss") == pytest.approx(extra.mean().item())
    assert found.item() == pytest.approx(bag * bag_losses.mean().item() + auxiliary * extra.mean().item())
    plain = TEACHERS["gated_abmil"](hidden_dim=features.shape[1], attention_dim=8, classes=2)
    found = teacher_objective(bag_losses, plain, **step)
    assert found == bag_losses.mean()


@pytest.mark.parametrize(
    ("teacher", "head"),
    [("clam_sb", "instance_heads"), ("clam_mb", "instance_heads"), ("dtfd", "pseudo_bag_head")],
)
@pytest.mark.parametrize("recipe", ["abmil", "weno"])
def test_training_reaches_the_auxiliary_heads(teacher, head, recipe, plans, small_parts, work_dir):
    """With weight decay off, a head without gradient would keep its first weights to the bit."""
    plans = plans._replace(optimization=plans.optimization._replace(weight_decay=0.0))
    models = [
        train(recipe, teacher, parts=small_parts, plans=plans, work_dir=work_dir / str(epochs), epochs=epochs)
        for epochs in (1, 2)
    ]
    first, second = (getattr(trained.last_model.teacher, head).weight for trained in models)
    assert not torch.equal(first, second)
