"""What the student learns from: shares of both losses, and what the loss on bag labels finds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from wsi_kd.bags.datasets import BagSet
from wsi_kd.kd.bag_label_loss import bag_label_losses
from wsi_kd.settings.all import parse_settings
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import plan_architecture, plan_distillation, plan_optimization
from wsi_kd.training.loop import Trained
from wsi_kd.training.losses import student_losses
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.student_objective import StudentObjective

LOGITS = torch.tensor([[0.3], [-1.2], [2.0]])
SOFT = torch.tensor([[0.8], [0.1], [0.0]])
LABELS = torch.tensor([1, 1, 0])
BACKGROUND = torch.tensor([0.4])
DIM = 16


def test_shares_mix_both_losses() -> None:
    soft = student_losses(LOGITS, SOFT, negative_weight=0.1)
    hard = bag_label_losses(LOGITS, LABELS, background=BACKGROUND)
    of_share = {
        share: StudentObjective(0.1, share, BACKGROUND).losses(LOGITS, SOFT, LABELS)
        for share in (0.0, 0.25, 1.0)
    }

    torch.testing.assert_close(of_share[0.0], soft)
    torch.testing.assert_close(of_share[0.25], 0.75 * soft + 0.25 * hard)
    torch.testing.assert_close(of_share[1.0], hard)


def test_without_a_teacher_no_soft_labels_are_needed() -> None:
    alone = StudentObjective(0.1, 1.0, BACKGROUND)

    assert not alone.reads_teacher
    assert alone.losses(LOGITS, None, LABELS).shape == (3,)
    with pytest.raises(ValueError, match="there are none"):
        StudentObjective(0.1, 0.5, BACKGROUND).losses(LOGITS, None, LABELS)


def test_without_bag_labels_only_soft_ones_are_needed() -> None:
    alone = StudentObjective(0.1, 0.0, BACKGROUND)

    assert not alone.reads_bag_labels
    assert alone.losses(LOGITS, SOFT, None).shape == (3,)
    with pytest.raises(ValueError, match="bag labels, and there are none"):
        StudentObjective(0.1, 0.5, BACKGROUND).losses(LOGITS, SOFT, None)


@pytest.mark.parametrize("schedule", ["joint", "alternate"])
def test_bag_labels_find_both_kinds_of_witnesses(schedule: str, tmp_path: Path) -> None:
    """Two kinds of witnesses, shifted by 5 and 3 along two axes: the student alone has to rank both."""
    settings = parse_settings(
        {
            "train": {
                "epochs": 15,
                "learning_rate": 0.01,
                "bags_per_step": 8,
                "hidden_dim": 16,
                "attention_dim": 8,
                "dropout": 0.0,
                "projector": "affine",
                "feature_noise": 0.3,
                "device": "cpu",
                "weno": {
                    "schedule": schedule,
                    "bag_label_share": 1.0,
                    "witness_rate": 0.1,
                    "student_prototypes": 3,
                },
            }
        },
        where="test",
    ).train
    trained = _train(settings, tmp_path)
    test = _draw(seed=3)
    with torch.no_grad():
        output = trained.last_model(torch.from_numpy(test.features), torch.from_numpy(test.offsets))
    assert output.instance_logits is not None

    truth = test.tile_labels == 1
    assert roc_auc_score(truth, output.instance_logits[:, 0].numpy()) > 0.94
    assert roc_auc_score(truth, output.attention_logits.numpy()) < 0.94


def _train(settings: TrainSettings, work_dir: Path) -> Trained:
    return train_weno(
        _draw(seed=1),
        _draw(seed=2),
        classes=2,
        architecture=plan_architecture(settings),
        optimization=plan_optimization(settings, seed=0),
        distillation=plan_distillation(settings),
        mining=None,
        work_dir=work_dir,
        on_epoch=lambda row: None,
    )


def _draw(*, seed: int, bags: int = 120, instances: int = 60, witnesses: int = 6) -> BagSet:
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((bags, instances, DIM)).astype(np.float32)
    truth = np.zeros((bags, instances), np.int8)
    labels = (np.arange(bags) % 2).astype(np.int64)
    features[labels == 1, : witnesses // 2 + 1, 0] += 5.0
    features[labels == 1, witnesses // 2 + 1 : witnesses, 1] += 3.0
    truth[labels == 1, :witnesses] = 1
    return BagSet(
        slide_ids=tuple(f"bag_{bag}" for bag in range(bags)),
        features=features.reshape(-1, DIM),
        offsets=np.arange(bags + 1, dtype=np.int64) * instances,
        labels=labels,
        tile_labels=truth.reshape(-1),
        coords=np.zeros((bags * instances, 2), np.int64),
        header={},
    )
