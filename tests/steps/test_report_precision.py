"""The record of `check-precision` as the report reads it: its own numbers, or a word on what has changed."""

import shutil

import pytest
from precision_runs import CLASSES, make_run

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish_json, read_json
from wsi_kd.features.store import write_features
from wsi_kd.report.precision import precision_sections
from wsi_kd.steps.report_precision import read_precision

MODELS = ("weno/seed0/fold0", "abmil/seed0/fold0")
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def checked(synthetic_cohort, tmp_path_factory):
    """A run in bfloat16 whose second model is moved by it."""
    run = make_run(tmp_path_factory.mktemp("checked") / "run", synthetic_cohort, precision="bfloat16")
    folders = [run.save_model("weno"), run.save_model("abmil", gain=300.0)]
    run.check(*folders)
    return run


@pytest.fixture
def copied(checked, tmp_path):
    """The same, to be changed."""
    return checked._replace(root=shutil.copytree(checked.root, tmp_path / "run"))


def record_of(run):
    return read_json(run.root / "evaluation" / "precision.json", remake="")


def lines_of(run):
    thresholds = {"teacher": THRESHOLD, "student": THRESHOLD}
    models = [{"seed": 0, "fold": 0, "thresholds": thresholds}]
    recipes = {name.partition("/")[0]: {"models": models} for name in MODELS}
    return read_precision(run.root, {"classes": list(CLASSES), "recipes": recipes})


def calls_of(record, model, way):
    """Which slides a teacher of two classes calls positive at 0.5: by the larger of its logits."""
    found = []
    for slide in record["slides"]:
        negative, positive = (
            one[way] for one in slide["logits"] if (one["model"], one["score"]) == (model, "teacher")
        )
        found.append(positive >= negative)
    return found


def test_the_lines_hold_the_numbers_of_the_record(checked):
    record, lines = record_of(checked), lines_of(checked)
    assert [(line.model, line.score) for line in lines] == [
        (MODELS[0], "teacher"),
        (MODELS[0], "student"),
        (MODELS[1], "teacher"),
    ]
    assert max(line.largest_change for line in lines) == record["largest_change"] > 0.01
    for line in lines:
        assert 0 < line.mean_change <= line.largest_change
        assert record["least_cosine"] == line.least_cosine < line.mean_cosine < 1
        assert (line.slides, line.tiles, line.device, line.embedded_in) == (4, 32, "cpu", "bfloat16")
        assert (line.fault, line.outdated) == (record["fault"], "")
    for line in (lines[0], lines[2]):
        ways = [calls_of(record, line.model, way) for way in ("exact", "found")]
        assert line.changed_calls == sum(one != other for one, other in zip(*ways, strict=True))
    assert str(checked.root.parent) not in repr(lines)


def test_where_nobody_checked_there_is_nothing(copied):
    (copied.root / "evaluation" / "precision.json").unlink()
    assert lines_of(copied) == ()


def test_other_weights_and_features_are_told_and_no_number_is_shown(copied):
    copied.save_model("weno", gain=2.0)
    made = copied.features("case01_0")
    other = made._replace(header={**made.header, "inputs_hash": "another"})
    write_features(copied.root / "features" / "case01_0.h5", other)
    lines = lines_of(copied)
    told = f"{MODELS[0]}: checked with other weights, case01_0: other features now"
    assert {line.outdated for line in lines} == {told}
    (section,) = precision_sections(lines)
    assert [block.kind for block in section.blocks] == ["note"]
    assert told in section.blocks[0].text


def test_feature_files_that_were_removed_to_make_room_are_not_missed(copied):
    shutil.rmtree(copied.root / "features")
    assert {line.outdated for line in lines_of(copied)} == {""}


def test_a_model_that_is_gone_is_not_the_one_that_was_checked(copied):
    shutil.rmtree(copied.model_dir("abmil"))
    assert lines_of(copied)[0].outdated == f"{MODELS[1]}: checked with other weights"


def test_a_record_that_was_edited_or_is_of_another_version_is_refused(copied):
    path = copied.root / "evaluation" / "precision.json"
    record = read_json(path, remake="")
    path.write_text(path.read_text().replace("bfloat16", "float16", 1))
    with pytest.raises(BadInput, match="wsi-kd check-precision"):
        lines_of(copied)
    publish_json(path, {**record, "schema_version": 99})
    with pytest.raises(BadInput, match="wsi-kd check-precision"):
        lines_of(copied)
