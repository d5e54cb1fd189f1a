"""`wsi-kd infer`: which model is meant, and when failed slides are an error."""

import pytest

from wsi_kd.cli.app import run
from wsi_kd.cli.infer import find_model, judge
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.records import SlideStatus, StatusRow


def status(slide_id: str, found: SlideStatus) -> StatusRow:
    reason = "" if found is SlideStatus.OK else "no resolution; pass --slide-mpp"
    return StatusRow(slide_id, found, reason, "mask", 0, 0.0, 0.0, "", 0.0)


OK = status("fine", SlideStatus.OK)
FAILED = status("lost", SlideStatus.MISSING_MPP)


def make_models(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "model.json").write_text("{}")


def test_a_model_is_found_itself_or_as_the_only_one_below(tmp_path):
    make_models(tmp_path, "models/weno/seed0/fold0")
    model = tmp_path / "models/weno/seed0/fold0"
    assert find_model(model) == model
    assert find_model(tmp_path) == model


def test_several_models_are_listed(tmp_path):
    make_models(tmp_path, *(f"weno/seed0/fold{fold:02d}" for fold in range(14)))
    with pytest.raises(BadInput, match="holds 14 models; name one of: ") as caught:
        find_model(tmp_path)
    assert str(caught.value).count("fold") == 12
    assert str(caught.value).endswith(" and 2 more")


def test_no_model_names_what_was_expected(tmp_path):
    with pytest.raises(
        BadInput, match=r"no model\.json there; expected a folder such as results/demo/models"
    ):
        find_model(tmp_path)


def test_a_single_failed_slide_is_bad_input_with_its_remedy():
    with pytest.raises(BadInput, match=r"^lost: missing_mpp: no resolution; pass --slide-mpp$"):
        judge([FAILED], max_failed=5)


@pytest.mark.parametrize(
    ("statuses", "allowed"), [([OK], 0), ([OK, OK], 0), ([OK, FAILED], 1), ([FAILED, FAILED], 2)]
)
def test_allowed_failures_pass(statuses, allowed):
    judge(statuses, max_failed=allowed)


def test_more_failures_than_allowed_fail_the_run():
    with pytest.raises(RunFailed, match="2 of 3 slides failed, --max-failed allows 1"):
        judge([OK, FAILED, FAILED], max_failed=1)


def test_a_single_failed_slide_is_told_once(monkeypatch, tmp_path, capsys):
    make_models(tmp_path, "model")
    (tmp_path / "lost.svs").touch()
    (tmp_path / "fine.svs").touch()

    def all_fail(rows, *, on_slide, **_):
        statuses = [FAILED._replace(slide_id=row.slide_id) for row in rows]
        for row in statuses:
            on_slide(row)
        return statuses

    monkeypatch.setattr("wsi_kd.steps.infer.run_infer", all_fail)
    rest = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert run(["infer", str(tmp_path / "lost.svs"), *rest]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "wsi-kd: error: lost: missing_mpp: no resolution; pass --slide-mpp\n"
    assert run(["infer", str(tmp_path / "lost.svs"), str(tmp_path / "fine.svs"), *rest]) == 1
    assert capsys.readouterr().out.count("missing_mpp") == 2
