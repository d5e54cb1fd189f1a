"""A claim runs alike wherever it runs, and comes back from its JSON form as it went."""

import json
import math
import time

import pytest
import torch
from drawn_claims import bad, drawing, drawn_claim, good, unchecked, undefined

from wsi_kd.claims.measured import from_json, measure, to_json


def test_figures_do_not_depend_on_what_was_drawn_before() -> None:
    first = measure(drawn_claim(drawing), seeds=1)
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    second = measure(drawn_claim(drawing), seeds=1)
    assert first.found == second.found
    assert first.passed  # one thread
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("run", "passed", "failed"),
    [(good, True, []), (bad, False, ["KD - CE"]), (undefined, False, ["KD - CE"]), (unchecked, False, [])],
)
def test_a_claim_passes_if_it_has_checks_and_all_hold(run, passed, failed) -> None:
    started = time.perf_counter()
    measured = measure(drawn_claim(run), seeds=2)
    assert measured.passed is passed
    assert [check.says for check in measured.failed] == failed
    assert measured.seeds == 2
    assert 0 <= measured.seconds < time.perf_counter() - started + 1.0  # it may be rounded


def test_the_json_form_comes_back_whole() -> None:
    measured = measure(drawn_claim(good), seeds=2)._replace(seconds=1.5)
    text = json.dumps(to_json(measured), allow_nan=False)
    back = from_json(json.loads(text))
    assert to_json(back) == to_json(measured)
    assert back.found.checks == measured.found.checks
    assert back.found.observed == measured.found.observed
    assert back.found.series[0] == measured.found.series[0]
    assert math.isnan(back.found.series[1].y[1])
    assert (back.method, back.seeds, back.seconds) == ("good", 2, 1.5)


def test_what_json_has_no_number_for_comes_back() -> None:
    value = to_json(measure(drawn_claim(undefined), seeds=2))
    assert value["observed"][0]["runs"] == ["nan", "nan"]
    assert value["checks"][0]["at_most"] == "inf"
    back = from_json(json.loads(json.dumps(value, allow_nan=False)))
    assert math.isnan(back.found.checks[0].found)
    assert back.found.checks[0].at_most == math.inf
    assert not back.passed
