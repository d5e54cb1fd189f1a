"""A model knows which slides it has seen: another split of the same fold number is refused, not scored."""

import pytest
from trained_runs import TrainedRun

from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.steps.prune import Wanted, run_prune
from wsi_kd.steps.split import check_seen, seen_hash
from wsi_kd.training.checkpoint import load_model

TRAIN = {"epochs": 1, "patience": 1, "hidden_dim": 8, "attention_dim": 4}
FOLD = Fold(("a", "b"), ("c",), ("d",))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = TrainedRun(tmp_path_factory.mktemp("run"), TRAIN)
    made.train("abmil")
    return made


@pytest.fixture
def other_split(run):
    """Fold 0 with two tested slides and two that were trained on exchanged."""
    before = run.folds[0]
    train, test = list(before.train), list(before.test)
    train[:2], test[:2] = test[:2], train[:2]
    run.folds[0] = Fold(tuple(sorted(train)), before.val, tuple(sorted(test)))
    run.write_splits()
    yield
    run.folds[0] = before
    run.write_splits()


def test_a_model_scores_the_fold_that_it_was_trained_on(run):
    header = load_model(run.model_dir("abmil")).header
    assert header["seen_sha256"] == seen_hash(run.folds[0])
    assert len(run.predict_with(run.model_dir("abmil"))) == len(run.folds[0].val) + len(run.folds[0].test)


@pytest.mark.usefixtures("other_split")
def test_predict_refuses_a_model_of_another_split(run):
    told = r"trained or selected on other slides than fold 0 .*: test slides would leak; train anew"
    with pytest.raises(BadInput, match=told):
        run.predict_with(run.model_dir("abmil"))


@pytest.mark.usefixtures("other_split")
def test_prune_refuses_a_model_of_another_split(run, tmp_path):
    with pytest.raises(BadInput, match="test slides would leak"):
        run_prune(
            run.manifest,
            model_dir=run.model_dir("abmil"),
            features_dir=run.root / "features",
            splits_path=run.root / "splits.csv",
            out_dir=tmp_path / "narrow",
            layer="projector",
            wanted=Wanted(keep=4),
            settings=run.settings(),
        )


@pytest.mark.parametrize(
    "fold", [FOLD._replace(train=("a", "d")), FOLD._replace(val=("d",)), Fold(("a",), ("b", "c"), ("d",))]
)
def test_what_was_seen_is_who_was_trained_and_selected_on(fold, tmp_path):
    header = {"seen_sha256": seen_hash(FOLD), "fold": 0}
    check_seen(header, FOLD._replace(test=("e",)), where=tmp_path)
    check_seen({"fold": 0}, fold, where=tmp_path)  # of a version that did not tell
    with pytest.raises(BadInput, match="other slides than fold 0"):
        check_seen(header, fold, where=tmp_path)
