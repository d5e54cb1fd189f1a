"""`wsi-kd infer`: which model is meant, and when failed slides are an error."""

import json

import pytest

from wsi_kd.cli.app import run
from wsi_kd.cli.infer_options import find_model, find_models, judge, lies_alone
from wsi_kd.core.errors import BadInput, SlidesFailed
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


def test_an_ensemble_is_every_model_below_or_each_that_is_named(tmp_path):
    make_models(tmp_path, "seed0/fold0", "seed0/fold1", "seed1/fold0")
    below = find_models([tmp_path], ensemble=True)
    assert below == tuple(tmp_path / name for name in ("seed0/fold0", "seed0/fold1", "seed1/fold0"))
    assert find_models([tmp_path / "seed0/fold1", tmp_path / "seed1"], ensemble=False) == (
        tmp_path / "seed0/fold1",
        tmp_path / "seed1/fold0",
    )
    with pytest.raises(BadInput, match="the only model there; name a folder of several folds"):
        find_models([tmp_path / "seed1"], ensemble=True)


def test_one_file_lies_alone_and_what_may_hold_more_does_not(tmp_path):
    (tmp_path / "s[1].svs").touch()
    (tmp_path / "z.ome.zarr").mkdir()
    assert lies_alone([tmp_path / "s.svs"])
    assert lies_alone([tmp_path / "s[1].svs"])
    assert lies_alone([tmp_path / "z.ome.zarr"])
    for several in ([tmp_path], [tmp_path / "*.svs"], [tmp_path / "slides.csv"], [tmp_path / "s.svs"] * 2):
        assert not lies_alone(several)


def test_a_single_failed_slide_is_told_with_its_remedy():
    with pytest.raises(SlidesFailed, match=r"^lost: missing_mpp: no resolution; pass --slide-mpp$") as caught:
        judge([FAILED], max_failed=0)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("statuses", "allowed"), [([OK], 0), ([OK, OK], 0), ([OK, FAILED], 1), ([FAILED, FAILED], 2), ([], 0)]
)
def test_allowed_failures_pass(statuses, allowed):
    judge(statuses, max_failed=allowed)


def test_more_failures_than_allowed_are_listed():
    failed = [FAILED._replace(slide_id=f"lost{number:02d}") for number in range(12)]
    with pytest.raises(
        SlidesFailed, match="12 of 13 slides failed, --max-failed allows 1: lost00 "
    ) as caught:
        judge([OK, *failed], max_failed=1)
    assert "lost09 (missing_mpp: no resolution; pass --slide-mpp); and 2 more" in str(caught.value)


def test_failed_slides_end_with_three_and_are_told_once(monkeypatch, tmp_path, capsys):
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
    assert run(["infer", str(tmp_path / "lost.svs"), *rest]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "wsi-kd: error: lost: missing_mpp: no resolution; pass --slide-mpp\n"
    assert run(["infer", str(tmp_path / "lost.svs"), str(tmp_path / "fine.svs"), *rest]) == 3
    shown = capsys.readouterr()
    reason = "missing_mpp: no resolution; pass --slide-mpp"
    assert shown.out == ""
    assert shown.err.splitlines()[:2] == [f"lost: {reason}", f"fine: {reason}"]
    assert run(["infer", str(tmp_path / "lost.svs"), *rest, "--json-logs"]) == 3
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["slide_id"], line["message"]) == ("error", "lost", f"lost: {reason}")
    assert run(["infer", str(tmp_path / "*.svs"), *rest, "--max-failed", "2"]) == 0
    capsys.readouterr()
    assert run(["infer", str(tmp_path / "lost.svs"), *rest, "--max-failed", "1"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"lost: {reason}"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lost.svs", "--watch", "."],
        ["--features", "f.h5", "--resume"],
        ["gone*.svs"],
        ["--features", "f", "--recursive"],
        ["--features", "f", "--weights", "w.pt"],
        ["--features", "f", "--mask-network", "n.onnx"],
    ],
)
def test_arguments_that_contradict_each_other_end_with_two(arguments, tmp_path, monkeypatch):
    make_models(tmp_path, "model")
    monkeypatch.chdir(tmp_path)
    assert run(["infer", *arguments, "--model", "model", "--out", "out"]) == 2


def test_options_that_would_do_nothing_are_named(tmp_path, monkeypatch, capsys):
    make_models(tmp_path, "model")
    monkeypatch.chdir(tmp_path)
    assert run(["infer", ".", "--encoder", "uni", "--model", "model", "--out", "out"]) == 2
    assert "--encoder: only with --features, does nothing here; leave it out" in capsys.readouterr().err
    assert run(["infer", "--features", ".", "--recursive", "--model", "model", "--out", "out"]) == 2
    assert "--recursive: only with slides, does nothing here; leave it out" in capsys.readouterr().err
