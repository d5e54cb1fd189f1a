"""Recipes instance, ins and mhim as a whole: what is learned, selected, refused; and what a step hides."""

import numpy as np
import pytest
import torch

from wsi_kd.bags.packing import pack
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.training.loop import start_run
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.masking import hide_highest, salience
from wsi_kd.training.recipes.ins import CONFIDENCE, PROTOTYPES, prototype_steps, train_ins
from wsi_kd.training.recipes.instance import POOLING_TEACHERS, train_instance
from wsi_kd.training.recipes.mhim import masked_steps, train_mhim
from wsi_kd.training.validation import auc


def recipe(name, plans):
    return {
        "instance": (train_instance, {"pooling": "topk"}),
        "ins": (train_ins, {"prototyping": plans.prototyping}),
        "mhim": (train_mhim, {"masking": plans.masking}),
    }[name]


def train(name, parts, plans, work_dir, *, classes=2, architecture=None, optimization=None, **changes):
    function, own = recipe(name, plans)
    return function(
        *parts,
        classes=classes,
        architecture=architecture or plans.architecture,
        optimization=plans.optimization._replace(**(optimization or {})),
        work_dir=work_dir,
        on_epoch=lambda row: None,
        **{**own, **changes},
    )


def outputs(model, bags):
    with torch.no_grad():
        return model(torch.from_numpy(bags.features), torch.from_numpy(bags.offsets))


def bag_auc(model, bags):
    logits = outputs(model, bags).bag_logits
    return auc(logits[:, 1] - logits[:, 0], torch.from_numpy(bags.labels == 1))


def evidence_auc(model, bags):
    evidence = outputs(model, bags).evidence
    return auc(evidence[:, 1] - evidence[:, 0], torch.from_numpy(bags.tile_labels == 1))


every_recipe = pytest.mark.parametrize("name", ["instance", "ins", "mhim"])
LONGER = {"epochs": 12, "learning_rate": 5e-3}


@every_recipe
def test_a_recipe_learns_its_bags_and_their_instances(name, plans, small_parts, work_dir):
    trained = train(name, small_parts, plans, work_dir, optimization=LONGER)
    assert trained.model.student is None
    assert bag_auc(trained.last_model, small_parts[0]) > 0.95
    assert evidence_auc(trained.last_model, small_parts[0]) > 0.75
    losses = [row["train_teacher_loss"] for row in trained.history]
    assert losses[-1] < losses[0]


@every_recipe
def test_the_selected_epoch_has_the_lowest_loss_after_the_warm_up(name, plans, small_parts, work_dir):
    trained = train(name, small_parts, plans, work_dir, optimization=LONGER)
    losses = [row["val_teacher_loss"] for row in trained.history]
    warm_up = 0 if name == "instance" else 1
    assert trained.selected_epoch == warm_up + int(np.argmin(losses[warm_up:]))
    assert [row["selection_loss"] for row in trained.history] == losses


@every_recipe
def test_runs_repeat_by_seed(name, plans, small_parts, tmp_path):
    first, again, other = (
        train(name, small_parts, plans, tmp_path / folder, optimization={"seed": seed, "epochs": 2}).history
        for folder, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert first != other


@every_recipe
def test_a_loss_that_is_not_finite_is_named(name, plans, small_parts, work_dir):
    with pytest.raises(RunFailed, match=r"epoch 0: the .* of bag bag_\d+ is (not a number|infinite)"):
        train(name, small_parts, plans, work_dir, optimization={"learning_rate": 1e30})


@pytest.mark.parametrize("name", ["instance", "mhim"])
def test_three_classes_train(name, plans, small_parts, work_dir):
    parts = [part._replace(labels=np.arange(len(part.labels)) % 3) for part in small_parts]
    trained = train(name, parts, plans, work_dir, classes=3)
    assert outputs(trained.model, parts[1]).bag_logits.shape == (12, 3)
    assert all(np.isfinite(row["val_teacher_loss"]) for row in trained.history)


def test_three_classes_are_refused_by_ins(plans, small_parts, work_dir):
    with pytest.raises(BadInput, match=r"recipe ins .* needs two classes, found 3; take it out of train.rec"):
        train("ins", small_parts, plans, work_dir, classes=3)
    assert not work_dir.exists()


@pytest.mark.parametrize("pooling", POOLING_TEACHERS)
def test_the_instance_classifier_alone_makes_the_bag(pooling, plans, small_parts, work_dir):
    trained = train("instance", small_parts, plans, work_dir, pooling=pooling)
    output = outputs(trained.model, small_parts[1])
    evidence = output.evidence.view(12, 20, 2)
    margin = evidence[:, :, 1] - evidence[:, :, 0]
    kept = {"max": 1, "mean": 20, "topk": 5}[pooling]
    chosen = margin.topk(kept, dim=1).indices
    expected = torch.stack([bag[rows].mean(dim=0) for bag, rows in zip(evidence, chosen, strict=True)])
    torch.testing.assert_close(output.bag_logits, expected)


def test_the_averages_mask_hides_the_same_share_in_both_classes(plans, small_parts):
    with start_run(
        *small_parts,
        classes=2,
        architecture=plans.architecture._replace(dropout=0.0),
        optimization=plans.optimization,
        with_student=False,
        teacher_average=0.9,
    ) as run:
        bags = [0, 3, 9, 15]
        packed = pack(run.train, bags, device=run.device, dtype=torch.float32)
        whole = run.state.average(packed.instances, packed.offsets)
        keep = hide_highest(salience(whole.attention_logits, whole.evidence), packed.offsets, ratio=0.1)
        assert (~keep).view(4, 20).sum(dim=1).tolist() == [2, 2, 2, 2]
        expected = run.model(packed.instances, packed.offsets, keep)
        right = torch.nn.functional.cross_entropy(expected.bag_logits, packed.labels)
        soft = torch.nn.functional.cross_entropy(expected.bag_logits, whole.bag_logits.softmax(dim=1))
        ledger = LossLedger(run.train.slide_ids)
        masked_steps(run, ledger, [(bags, packed)], masking=plans.masking._replace(mask_ratio=0.1))
        assert ledger.mean("teacher loss") == pytest.approx(right.item(), rel=1e-5)
        assert ledger.mean("consistency loss") == pytest.approx(soft.item(), rel=1e-5)
        assert ledger.mean("hidden fraction") == pytest.approx(0.1)


def test_prototype_steps_move_labels_of_positive_bags_only(plans, small_parts):
    plan = plans.prototyping._replace(label_decay=0.25)
    architecture = plans.architecture._replace(teacher="top_k_pooling")
    with start_run(
        *small_parts,
        classes=2,
        architecture=architecture,
        optimization=plans.optimization,
        with_student=False,
    ) as run:
        truth = torch.from_numpy(np.repeat(run.train.labels, 20)).float()
        run.state.memory = {PROTOTYPES: torch.zeros(2, 32), CONFIDENCE: truth.clone()}
        bags = [2, 12]  # one positive, one negative
        packed = pack(run.train, bags, device=run.device, dtype=torch.float32)
        for labels in (False, True):
            ledger = LossLedger(run.train.slide_ids)
            prototype_steps(run, ledger, [(bags, packed)], prototyping=plan, labels=labels)
            torch.testing.assert_close(run.state.memory[PROTOTYPES].norm(dim=1), torch.ones(2))
            if not labels:
                assert torch.equal(run.state.memory[CONFIDENCE], truth)
        found = run.state.memory[CONFIDENCE]
        assert set(found[40:60].unique().tolist()) == {0.25, 1.0}
        assert found[240:260].abs().max() == 0.0
        untouched = torch.ones(len(truth), dtype=torch.bool)
        untouched[40:60] = untouched[240:260] = False
        assert torch.equal(found[untouched], truth[untouched])


@pytest.mark.slow
def test_masking_does_not_invert_the_bag_classifier(plans, make_bags, tmp_path):
    """Both classes lose the same share, so that on whole bags the masked model stays right."""
    parts = [make_bags(1000), make_bags(2000, bags=100)]
    optimization = {"epochs": 14, "token_budget": 16_384, "learning_rate": 1e-3}
    masking = plans.masking._replace(mask_ratio=0.05, warm_up_epochs=4)
    trained = train("mhim", parts, plans, tmp_path, optimization=optimization, masking=masking)
    assert min(row["val_teacher_auc"] for row in trained.history[4:]) > 0.95
    assert trained.history[-1]["hidden_fraction"] == pytest.approx(0.05)


@pytest.mark.slow
def test_the_pseudo_labels_of_ins_approach_the_witness_rate(plans, make_bags, tmp_path):
    parts = [make_bags(1000), make_bags(2000, bags=100)]
    optimization = {"epochs": 20, "token_budget": 16_384, "learning_rate": 1e-3}
    prototyping = plans.prototyping._replace(positive_fraction=0.1, warm_up_epochs=4)
    trained = train("ins", parts, plans, tmp_path, optimization=optimization, prototyping=prototyping)
    shares = [row["positive_share"] for row in trained.history]
    assert shares[:4] == [1.0] * 4
    assert shares[-1] < 0.5
    assert bag_auc(trained.model, parts[1]) > 0.95
    assert evidence_auc(trained.model, parts[1]) > 0.7
