"""Processes that would wait for each other are told of before they begin."""

import pytest
from training_cohort import Cohort
from training_processes import draw_bags

from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps import train, train_sharing
from wsi_kd.steps.train_sharing import tell_of_waiting
from wsi_kd.training.ranks import Ranks

TENS = draw_bags((10,) * 8, seed=0)


@pytest.fixture
def told(monkeypatch):
    heard = []
    monkeypatch.setattr(train_sharing, "warn", heard.append)
    return heard


@pytest.mark.parametrize(("processes", "bags_per_step"), [(1, 1), (2, 2), (2, 4), (4, 4), (4, 8)])
def test_nothing_is_said_where_all_have_as_much(told, processes, bags_per_step):
    tell_of_waiting(TENS, TrainSettings(bags_per_step=bags_per_step), Ranks(0, processes))
    assert told == []


@pytest.mark.parametrize(
    ("processes", "bags_per_step", "most"), [(2, 1, "1.0"), (4, 1, "1.0"), (4, 2, "2.0"), (4, 5, "2.7")]
)
def test_what_several_can_gain_at_most_is_said(told, processes, bags_per_step, most):
    """Of 5 and 3 bags of ten the fullest of four hands has two and one: 30 tiles of 80, 4 / 1.5 times."""
    tell_of_waiting(TENS, TrainSettings(bags_per_step=bags_per_step), Ranks(0, processes))
    [line] = told
    assert f"to {processes} processes: at most {most} times as fast as one" in line
    assert "raise train.token_budget and train.bags_per_step" in line


def test_the_token_budget_keeps_slides_apart(told):
    tell_of_waiting(TENS, TrainSettings(bags_per_step=4, token_budget=19), Ranks(1, 2))
    assert told == [
        "train: steps of 1.0 slides cannot be dealt evenly to 2 processes: at most 1.0 times as fast as one; "
        "raise train.token_budget and train.bags_per_step (which changes the model), or lower train.processes"
    ]


def test_the_step_tells_before_it_trains(tmp_path, monkeypatch):
    class Told(Exception):
        pass

    def tell(bags, settings, ranks):
        raise Told(len(bags.labels), settings.bags_per_step, ranks.count)

    monkeypatch.setattr(train, "tell_of_waiting", tell)
    cohort = Cohort(tmp_path)
    with pytest.raises(Told) as caught:
        cohort.train(bags_per_step=3)
    assert caught.value.args == (12, 3, 1)
    assert not cohort.out_dir.exists()
