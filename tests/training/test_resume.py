"""A killed run, started again, ends with the bits of one that was never killed."""

import functools

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.ins import train_ins
from wsi_kd.training.recipes.instance import train_instance
from wsi_kd.training.recipes.mhim import train_mhim
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.state import STATE_NAME, remove_state


class KilledError(Exception):
    pass


def kill_after(epoch):
    def on_epoch(row):
        if row["epoch"] == epoch:
            raise KilledError

    return on_epoch


def weno(plans, **changes):
    changed = plans.distillation._replace(**changes)
    return functools.partial(train_weno, classes=2, distillation=changed, mining=plans.mining)


RECIPES = {
    "abmil": lambda plans: functools.partial(train_abmil, classes=2),
    "joint": weno,
    "joint minmax_global": lambda plans: weno(plans, pseudo_label="minmax_global", warm_up_epochs=1),
    "joint average": lambda plans: weno(plans, teacher_average=0.9),
    "released": lambda plans: weno(plans, schedule="released", pseudo_label="minmax_global"),
    "alternate": lambda plans: weno(plans, schedule="alternate", pseudo_label="expmax"),
    "instance": lambda plans: functools.partial(train_instance, classes=2, pooling="topk"),
    "ins": lambda plans: functools.partial(train_ins, classes=2, prototyping=plans.prototyping),
    "mhim": lambda plans: functools.partial(train_mhim, classes=2, masking=plans.masking),
}


def assert_equal_bits(first, second):
    assert first.history == second.history
    assert first.selected_epoch == second.selected_epoch
    for ours, theirs in ((first.model, second.model), (first.last_model, second.last_model)):
        other = theirs.state_dict()
        assert all(torch.equal(value, other[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("epoch", [0, 2])
def test_resumed_equals_unkilled_bit_for_bit(plans, small_parts, tmp_path, name, epoch):
    recipe = functools.partial(
        RECIPES[name](plans), *small_parts, architecture=plans.architecture, optimization=plans.optimization
    )
    unkilled = recipe(work_dir=tmp_path / "unkilled", on_epoch=lambda row: None)
    with pytest.raises(KilledError):
        recipe(work_dir=tmp_path / "killed", on_epoch=kill_after(epoch))
    seen = []
    resumed = recipe(work_dir=tmp_path / "killed", on_epoch=lambda row: seen.append(row["epoch"]))
    assert seen == list(range(epoch + 1, plans.optimization.epochs))
    assert_equal_bits(resumed, unkilled)


def test_runs_repeat_by_seed_whatever_the_global_generator_holds(plans, small_parts, tmp_path):
    def train(seed, folder):
        return train_abmil(
            *small_parts,
            classes=2,
            architecture=plans.architecture,
            optimization=plans.optimization._replace(seed=seed),
            work_dir=tmp_path / folder,
            on_epoch=lambda row: None,
        )

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = train(0, "a")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert_equal_bits(first, train(0, "b"))
    assert train(1, "c").history != first.history


def test_a_state_of_other_settings_or_other_bags_is_not_taken_up(plans, small_parts, make_bags, work_dir):
    def epochs_run(train, optimization):
        seen = []
        train_abmil(
            train,
            small_parts[1],
            classes=2,
            architecture=plans.architecture,
            optimization=optimization,
            work_dir=work_dir,
            on_epoch=lambda row: seen.append(row["epoch"]),
        )
        return seen

    assert epochs_run(small_parts[0], plans.optimization) == [0, 1, 2, 3]
    assert epochs_run(small_parts[0], plans.optimization) == []
    assert epochs_run(small_parts[0], plans.optimization._replace(learning_rate=1e-3)) == [0, 1, 2, 3]
    features = small_parts[0].features.copy()
    features[-1, -1] += 1e-3
    assert epochs_run(small_parts[0]._replace(features=features), plans.optimization) == [0, 1, 2, 3]


@pytest.mark.parametrize("position", [3, 40, -1])
def test_a_damaged_state_is_told_with_its_remedy(plans, small_parts, work_dir, position):
    train = functools.partial(
        train_abmil,
        *small_parts,
        classes=2,
        architecture=plans.architecture,
        optimization=plans.optimization,
        work_dir=work_dir,
        on_epoch=lambda row: None,
    )
    train()
    content = bytearray((work_dir / STATE_NAME).read_bytes())
    content[position] ^= 255
    (work_dir / STATE_NAME).write_bytes(content)
    with pytest.raises(BadInput, match=r"state.safetensors: .*delete it to train from the start"):
        train()
    remove_state(work_dir)
    assert len(train().history) == plans.optimization.epochs
