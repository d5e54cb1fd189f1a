"""Recipe auto: the verdict by its figures, resume in either candidate, and what it chooses on drawn bags."""

import functools

import numpy as np
import pytest
import torch

from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.auto import CANDIDATES, judge, remove_candidates, train_auto
from wsi_kd.training.recipes.weno import train_weno


class KilledError(Exception):
    pass


def quiet(row):
    assert "epoch" in row


def auto(parts, plans, work_dir, *, on_epoch=quiet, tolerance=2.0, optimization=None, architecture=None):
    return train_auto(
        *parts,
        classes=2,
        architecture=architecture or plans.architecture,
        optimization=optimization or plans.optimization,
        distillation=plans.distillation,
        mining=None,
        tolerance=tolerance,
        work_dir=work_dir,
        on_epoch=on_epoch,
    )


def candidates(parts, plans, work_dir):
    shared = {
        "classes": 2,
        "architecture": plans.architecture,
        "optimization": plans.optimization,
        "on_epoch": quiet,
    }
    baseline = train_abmil(*parts, **shared, work_dir=work_dir / "a")
    distilled = train_weno(
        *parts, **shared, work_dir=work_dir / "w", distillation=plans.distillation, mining=None
    )
    return baseline, distilled


def assert_equal_bits(first, second):
    assert first.history == second.history
    assert first.selected_epoch == second.selected_epoch
    for ours, theirs in ((first.model, second.model), (first.last_model, second.last_model)):
        other = theirs.state_dict()
        assert all(torch.equal(value, other[name]) for name, value in ours.state_dict().items())


def test_the_verdict_follows_from_its_figures_and_names_the_winner(plans, small_parts, tmp_path):
    baseline, distilled = candidates(small_parts, plans, tmp_path)
    judged = functools.partial(judge, baseline, distilled, small_parts[1], distillation=plans.distillation)
    verdict = judged(tolerance=1e9)
    assert verdict.chosen == "weno"
    assert verdict.teacher_difference.mean == pytest.approx(verdict.weno_loss - verdict.abmil_loss)
    assert verdict.student_difference.mean == pytest.approx(verdict.student_loss - verdict.abmil_loss)
    assert verdict.abmil_loss == pytest.approx(
        baseline.history[baseline.selected_epoch]["val_teacher_loss"], rel=1e-5
    )
    assert verdict.weno_loss == pytest.approx(
        distilled.history[distilled.selected_epoch]["val_teacher_loss"], rel=1e-5
    )
    means = (verdict.teacher_difference.mean, verdict.student_difference.mean)
    assert judged(tolerance=0.0).chosen == ("abmil" if max(means) > 0 else "weno")


@pytest.mark.parametrize("spoiled", ["teacher", "student"])
def test_weno_goes_where_one_of_its_predictions_is_worse(spoiled, plans, small_parts, tmp_path):
    baseline, distilled = candidates(small_parts, plans, tmp_path)
    head = distilled.model.teacher.bag_head if spoiled == "teacher" else distilled.model.student.head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    baseline.model.load_state_dict(trained_well(small_parts, plans, tmp_path).state_dict())
    verdict = judge(baseline, distilled, small_parts[1], distillation=plans.distillation, tolerance=2.0)
    assert verdict.chosen == "abmil"
    difference = getattr(verdict, f"{spoiled}_difference")
    assert difference.mean > 2.0 * difference.standard_error


def trained_well(parts, plans, work_dir):
    optimization = plans.optimization._replace(epochs=12, learning_rate=5e-3)
    return train_abmil(
        *parts,
        classes=2,
        architecture=plans.architecture,
        optimization=optimization,
        work_dir=work_dir / "well",
        on_epoch=quiet,
    ).model


@pytest.mark.parametrize(("tolerance", "chosen"), [(1e9, "weno"), (0.0, None)])
def test_the_winner_is_that_candidate_trained_alone(tolerance, chosen, plans, small_parts, tmp_path):
    baseline, distilled = candidates(small_parts, plans, tmp_path)
    trained = auto(small_parts, plans, tmp_path / "auto", tolerance=tolerance)
    assert len({row["chosen"] for row in trained.history}) == 1
    told = trained.history[0]["chosen"]
    assert told == (chosen or told)
    alone = distilled if told == "weno" else baseline
    assert (trained.model.student is None) == (told == "abmil")
    added = set(trained.history[0]) - set(alone.history[0])
    assert {"chosen", "chosen_abmil_loss", "chosen_weno_loss", "student_standard_error"} < added
    stripped = [{key: row[key] for key in row if key not in added} for row in trained.history]
    assert_equal_bits(trained._replace(history=stripped), alone)


@pytest.mark.parametrize("killed_at", [1, 6])
def test_resumed_equals_unkilled_in_either_candidate(killed_at, plans, small_parts, tmp_path):
    unkilled = auto(small_parts, plans, tmp_path / "unkilled")
    seen = []

    def kill(row):
        seen.append(row["epoch"])
        if len(seen) == killed_at + 1:
            raise KilledError

    with pytest.raises(KilledError):
        auto(small_parts, plans, tmp_path / "killed", on_epoch=kill)
    again = []
    resumed = auto(small_parts, plans, tmp_path / "killed", on_epoch=lambda row: again.append(row["epoch"]))
    assert seen + again == [*range(4), *range(4)]
    assert_equal_bits(resumed, unkilled)
    assert {path.name for path in (tmp_path / "killed").iterdir()} == set(CANDIDATES)
    remove_candidates(tmp_path / "killed")
    assert list((tmp_path / "killed").iterdir()) == []


def diffuse_bags(make_bags, seed, *, bags, shift):
    """Every instance of a positive bag is shifted by `shift` standard deviations along one axis."""
    drawn = make_bags(seed, bags=bags, easy=0.0, hard=0.0)
    axes, _ = np.linalg.qr(np.random.default_rng(12345).standard_normal((64, 64)))
    positive = np.repeat(drawn.labels == 1, np.diff(drawn.offsets))
    features = drawn.features + shift * positive[:, None] * axes[0]
    return drawn._replace(features=features.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.reliability)])
def test_auto_takes_abmil_on_diffuse_and_weno_on_localized_signals(seed, plans, make_bags, tmp_path):
    optimization = plans.optimization._replace(
        epochs=30, patience=30, learning_rate=2e-3, bags_per_step=8, token_budget=16_384, seed=seed
    )
    architecture = plans.architecture._replace(hidden_dim=64, attention_dim=32)
    problems = {
        "weno": [make_bags(first + seed) for first in (1000, 2000)],
        "abmil": [diffuse_bags(make_bags, first + seed, bags=200, shift=0.3) for first in (1000, 2000)],
    }
    for expected, parts in problems.items():
        trained = auto(
            parts, plans, tmp_path / expected, optimization=optimization, architecture=architecture
        )
        row = trained.history[0]
        assert row["chosen"] == expected, row
        if expected == "abmil":
            assert row["student_difference"] > 0.1
