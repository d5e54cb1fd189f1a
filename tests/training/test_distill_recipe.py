"""Recipe distill: what each loss is, the frozen large model, what is learned, resumed, refused."""

import math

import pytest
import torch
import torch.nn.functional as F

from wsi_kd.bags.packing import pack
from wsi_kd.mil.registry import FIXED_ATTENTION, TEACHERS, create_model
from wsi_kd.training.loop import start_run
from wsi_kd.training.plan import Compression
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.distill import LESSONS, Lessons, Said, train_distill
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.state import STATE_NAME
from wsi_kd.training.validation import auc

PLAN = Compression(
    temperature=2.0,
    label_weight=0.1,
    bag_weight=0.9,
    attention_weight=0.5,
    instance_weight=1.0,
    hint_weight=0.1,
    narrow_start=False,
    student_pooling="topk",
    top_k=5,
)
NOTHING = dict.fromkeys(("bag_weight", "attention_weight", "instance_weight", "hint_weight"), 0.0)


@pytest.fixture(scope="module")
def large(plans, small_parts, tmp_path_factory):
    """A trained weno model of a gated teacher, 32 wide."""
    trained = train_weno(
        *small_parts,
        classes=2,
        architecture=plans.architecture,
        optimization=plans.optimization._replace(epochs=12, learning_rate=5e-3),
        distillation=plans.distillation,
        mining=None,
        work_dir=tmp_path_factory.mktemp("large"),
        on_epoch=lambda row: None,
    )
    return trained.last_model


@pytest.fixture
def small(plans):
    return plans.architecture._replace(teacher="abmil", hidden_dim=8, attention_dim=4)


def distill(parts, plans, work_dir, *, large, architecture, plan=PLAN, classes=2, **optimization):
    on_epoch = optimization.pop("on_epoch", lambda row: None)
    return train_distill(
        *parts,
        classes=classes,
        architecture=architecture,
        optimization=plans.optimization._replace(**optimization),
        compression=plan,
        large=large,
        work_dir=work_dir,
        on_epoch=on_epoch,
    )


def lessons_of(parts, plans, *, large, architecture, plan=PLAN, seen=(0, 1, 2)):
    """The losses of a fresh small model on three bags, and what both models say."""
    with start_run(
        *parts,
        classes=2,
        architecture=architecture,
        optimization=plans.optimization,
        with_student=large.student is not None,
    ) as run:
        lessons = Lessons(run, large, plan)
        packed = pack(run.train, list(seen), device="cpu", dtype=torch.float32)
        run.model.eval()
        model = run.model
        hidden = model.project(packed.instances)
        student = None if model.student is None else model.student(hidden)
        ours = Said(hidden, hidden, model.teacher(hidden, packed.offsets), student)
        theirs = lessons.ask_large(run, packed)
        sizes = packed.offsets.diff().tolist()
        return lessons, ours, theirs, lessons.losses(ours, theirs, sizes), packed


def test_each_loss_is_its_formula(small_parts, plans, large, small):
    lessons, ours, theirs, found, packed = lessons_of(small_parts, plans, large=large, architecture=small)
    assert {name: weight for name, (weight, _) in found.items()} == {
        "bag loss": 0.9,
        "attention loss": 0.5,
        "instance loss": 1.0,
        "hint loss": 0.1,
    }
    p = (theirs.bags.bag_logits / 2).softmax(1)
    bag = 4 * (p * (p.log() - (ours.bags.bag_logits / 2).log_softmax(1))).sum(1).mean()
    assert found["bag loss"][1].item() == pytest.approx(bag.item(), rel=1e-5)
    divergences = []
    for start, end in packed.offsets.unfold(0, 2, 1).tolist():
        a = theirs.bags.attention_logits[start:end].softmax(0)
        b = ours.bags.attention_logits[start:end].softmax(0)
        divergences.append((a * (a / b).log()).sum().item())
    assert min(divergences) > 0
    assert found["attention loss"][1].item() == pytest.approx(sum(divergences) / 3, rel=1e-4)
    bce = F.binary_cross_entropy(ours.instance_logits.sigmoid(), theirs.instance_logits.sigmoid())
    assert found["instance loss"][1].item() == pytest.approx(bce.item(), rel=1e-5)
    mapped = F.linear(ours.hidden, lessons.hint.regressor.weight[:, :, 0, 0], lessons.hint.regressor.bias)
    assert mapped.shape == theirs.hidden.shape == (60, 32)
    hint = (mapped - theirs.hidden).square().mean()
    assert found["hint loss"][1].item() == pytest.approx(hint.item(), rel=1e-5)


def test_a_bag_of_one_instance_has_no_attention_to_learn(small_parts, plans, large, small):
    _, ours, theirs, _, _ = lessons_of(small_parts, plans, large=large, architecture=small, seen=(0,))
    with start_run(
        *small_parts, classes=2, architecture=small, optimization=plans.optimization, with_student=True
    ) as run:
        lessons = Lessons(run, large, PLAN)
        alone = lessons.losses(ours, theirs, [1] * 20)["attention loss"][1]
        whole = lessons.losses(ours, theirs, [20])["attention loss"][1]
        mixed = lessons.losses(ours, theirs, [19, 1])["attention loss"][1]
        first = lessons.losses(
            ours._replace(bags=ours.bags._replace(attention_logits=ours.bags.attention_logits[:19])),
            theirs._replace(bags=theirs.bags._replace(attention_logits=theirs.bags.attention_logits[:19])),
            [19],
        )["attention loss"][1]
    assert alone.item() == 0.0
    assert alone.requires_grad
    assert whole.item() > 0.0
    assert mixed.item() == pytest.approx(first.item() / 2, rel=1e-5)


def test_a_small_model_that_says_the_same_has_nothing_to_learn(small_parts, plans, large):
    with start_run(
        *small_parts,
        classes=2,
        architecture=plans.architecture,
        optimization=plans.optimization,
        with_student=True,
    ) as run:
        run.model.load_state_dict(large.state_dict())
        lessons = Lessons(run, large, PLAN._replace(hint_weight=0.0))
        packed = pack(run.train, [0, 1], device="cpu", dtype=torch.float32)
        theirs = lessons.ask_large(run, packed)
        found = lessons.losses(theirs, theirs, [20, 20])
    assert found["bag loss"][1].item() == pytest.approx(0.0, abs=1e-6)
    assert found["attention loss"][1].item() == pytest.approx(0.0, abs=1e-6)
    p = theirs.instance_logits.sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).nan_to_num().mean()
    assert found["instance loss"][1].item() == pytest.approx(entropy.item(), abs=1e-5)


def test_the_large_model_is_frozen_and_its_word_has_no_gradient(small_parts, plans, large, small, work_dir):
    before = {name: value.clone() for name, value in large.state_dict().items()}
    large.train()
    trained = distill(small_parts, plans, work_dir, large=large, architecture=small, epochs=2)
    assert not large.training
    assert not any(parameter.requires_grad for parameter in large.parameters())
    assert all(torch.equal(before[name], value) for name, value in large.state_dict().items())
    _, _, theirs, _, _ = lessons_of(small_parts, plans, large=large, architecture=small)
    assert not theirs.bags.bag_logits.requires_grad
    assert not theirs.hidden.requires_grad
    assert sum(p.numel() for p in trained.model.parameters()) < 0.3 * sum(
        p.numel() for p in large.parameters()
    )
    assert all(parameter.requires_grad for parameter in trained.model.parameters())


def test_without_any_label_the_small_model_learns_what_the_large_one_says(
    small_parts, plans, large, small, work_dir
):
    plan = PLAN._replace(label_weight=0.0)
    trained = distill(
        small_parts,
        plans,
        work_dir,
        large=large,
        architecture=small,
        plan=plan,
        epochs=25,
        learning_rate=1e-2,
    )
    val = small_parts[1]
    with torch.no_grad():
        pack_of = pack(val, list(range(len(val.labels))), device="cpu", dtype=torch.float32)
        ours, theirs = (model(pack_of.instances, pack_of.offsets) for model in (trained.last_model, large))
    agreement = torch.corrcoef(torch.stack([ours.instance_logits[:, 0], theirs.instance_logits[:, 0]]))[0, 1]
    assert agreement > 0.8
    truth = torch.from_numpy(val.tile_labels == 1)
    assert auc(ours.instance_logits[:, 0], truth) > auc(theirs.instance_logits[:, 0], truth) - 0.05
    first, last = trained.history[0], trained.history[-1]
    for name in ("train_bag_loss", "train_attention_loss", "train_instance_loss", "train_hint_loss"):
        assert last[name] < first[name]


def test_weights_of_nothing_leave_their_loss_out(small_parts, plans, large, small, work_dir):
    plan = PLAN._replace(**{**NOTHING, "bag_weight": 1.0})
    trained = distill(small_parts, plans, work_dir, large=large, architecture=small, plan=plan, epochs=1)
    assert trained.model.student is None
    told = {name: trained.history[0][f"train_{name.replace(' ', '_')}"] for name in LESSONS}
    assert told["bag loss"] > 0
    assert [told[name] for name in LESSONS[1:]] == [None, None, None]
    assert trained.history[0]["val_student_loss"] is None


def test_selected_is_the_epoch_of_the_lowest_loss_on_labels(small_parts, plans, large, small, work_dir):
    trained = distill(small_parts, plans, work_dir, large=large, architecture=small, epochs=6)
    losses = [row["val_teacher_loss"] + row["val_student_loss"] for row in trained.history]
    assert [row["selection_loss"] for row in trained.history] == losses
    assert trained.selected_epoch == losses.index(min(losses))


@pytest.mark.parametrize("teacher", sorted(set(TEACHERS) - set(FIXED_ATTENTION)))
def test_every_teacher_with_attention_can_be_taught(teacher, small_parts, plans, large, small, work_dir):
    trained = distill(
        small_parts, plans, work_dir, large=large, architecture=small._replace(teacher=teacher), epochs=1
    )
    assert all(math.isfinite(trained.history[0][f"train_{name.replace(' ', '_')}"]) for name in LESSONS)


@pytest.mark.parametrize("teacher", sorted(set(TEACHERS) - {"mean_pooling"}))
def test_every_teacher_with_attention_can_teach(teacher, small_parts, plans, small, work_dir):
    architecture = plans.architecture._replace(teacher=teacher)
    taught = train_abmil(
        *small_parts,
        classes=2,
        architecture=architecture,
        optimization=plans.optimization._replace(epochs=1),
        work_dir=work_dir / "large",
        on_epoch=lambda row: None,
    )
    trained = distill(small_parts, plans, work_dir, large=taught.model, architecture=small, epochs=1)
    assert trained.model.student is None
    row = trained.history[0]
    assert row["train_attention_loss"] > 0
    assert math.isfinite(row["train_attention_loss"])
    assert row["train_instance_loss"] is None


@pytest.mark.parametrize("epoch", [0, 2])
def test_killed_and_gone_on_with_is_the_same_to_the_bit(epoch, small_parts, plans, large, small, tmp_path):
    class KilledError(Exception):
        pass

    def kill(row):
        if row["epoch"] == epoch:
            raise KilledError

    def train(folder, **more):
        return distill(small_parts, plans, tmp_path / folder, large=large, architecture=small, **more)

    unkilled = train("unkilled")
    with pytest.raises(KilledError):
        train("killed", on_epoch=kill)
    assert (tmp_path / "killed" / STATE_NAME).is_file()
    resumed = train("killed")
    assert resumed.history == unkilled.history
    other = unkilled.last_model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in resumed.last_model.state_dict().items())


def test_a_state_learned_from_another_large_model_is_not_gone_on_with(
    small_parts, plans, large, small, work_dir
):
    distill(small_parts, plans, work_dir, large=large, architecture=small, epochs=2)
    other = create_model(**plans.architecture._asdict(), feature_dim=64, classes=2, with_student=True)
    seen = []
    distill(
        small_parts,
        plans,
        work_dir,
        large=other,
        architecture=small,
        epochs=2,
        on_epoch=lambda row: seen.append(row["epoch"]),
    )
    assert seen == [0, 1]


def test_started_from_the_large_model_it_has_little_to_learn(small_parts, plans, large, tmp_path):
    """At the large model's own shape there is nothing to lose, so the first epoch finds no difference."""
    architecture = plans.architecture._replace(dropout=0.0)
    rows = []
    for start in (False, True):
        trained = distill(
            small_parts,
            plans,
            tmp_path / str(start),
            large=large,
            architecture=architecture,
            plan=PLAN._replace(narrow_start=start, hint_weight=0.0),
            epochs=1,
            learning_rate=1e-9,
        )
        rows.append(trained.history[0])
    assert rows[0]["train_bag_loss"] > 0.01
    assert rows[1]["train_bag_loss"] < 1e-6
    assert rows[1]["train_attention_loss"] < 1e-6 < rows[0]["train_attention_loss"]
