"""Where the features of a training are: as the setting says, or as there is room; the model is the same."""

import pytest
from training_cohort import Cohort

from wsi_kd.bags.rows import RowsOnDisk
from wsi_kd.bags.splits import Fold
from wsi_kd.core.errors import BadInput
from wsi_kd.steps import train_features
from wsi_kd.steps.split import read_fold
from wsi_kd.steps.train_features import have_room, load_parts
from wsi_kd.training.checkpoint import load_model

FOLD = Fold(train=("s00", "s01", "s02"), val=("s12", "s13"), test=())


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


def loaded(cohort, features_in, *, processes=1):
    return load_parts(
        FOLD, cohort.manifest, cohort.features_dir, features_in=features_in, processes=processes
    )


def test_there_is_room_for_half_of_what_is_available(tmp_path, monkeypatch, caplog):
    (tmp_path / "a").write_bytes(bytes(300))
    (tmp_path / "b").write_bytes(bytes(200))
    paths = [tmp_path / name for name in ("a", "b", "absent")]
    caplog.set_level("INFO", logger="wsi_kd")
    found = {}
    for available in (999, 1000, 1999, 2000):
        monkeypatch.setattr(train_features, "available_memory", lambda now=available: now)
        found[available] = [have_room(paths, processes=processes) for processes in (1, 2)]
    assert found == {
        999: [False, False],
        1000: [True, False],
        1999: [True, False],
        2000: [True, True],
    }
    monkeypatch.setattr(train_features, "available_memory", lambda: 40_000_000_000)
    monkeypatch.setattr(train_features, "GB", 1.0)
    caplog.clear()
    assert have_room(paths, processes=1)
    assert caplog.messages == []
    monkeypatch.setattr(train_features, "available_memory", lambda: 600)
    assert not have_room(paths, processes=4)
    assert caplog.messages == [
        "train: the features stay on disk: 500.0 GB for each of 4 processes and 600.0 GB of memory available "
        "(train.features_in)"
    ]


@pytest.mark.parametrize(
    ("features_in", "available", "on_disk"),
    [("auto", 2**40, False), ("auto", 1000, True), ("memory", 0, False), ("disk", 2**40, True)],
)
def test_the_setting_decides_and_auto_asks_for_room(cohort, monkeypatch, features_in, available, on_disk):
    monkeypatch.setattr(train_features, "available_memory", lambda: available)
    for part in loaded(cohort, features_in):
        assert isinstance(part.features, RowsOnDisk) == on_disk


def test_what_cannot_be_loaded_is_named(cohort):
    with pytest.raises(BadInput, match=r"splits\.csv: no fold 1; it holds folds 0 to 0"):
        read_fold(cohort.splits_path, 1)
    (cohort.features_dir / "s01.h5").unlink()
    for features_in in ("auto", "disk"):
        with pytest.raises(BadInput, match="no feature files of: s01"):
            loaded(cohort, features_in)
    cohort.write("s12", positive=False, seed=12, encoder="other")
    cohort.write("s13", positive=True, seed=13, encoder="other")
    cohort.write("s01", positive=True, seed=1)
    with pytest.raises(BadInput, match="train and val slides differ in encoder"):
        loaded(cohort, "disk")


def test_the_files_of_a_model_are_those_of_one_trained_in_memory(cohort, tmp_path):
    memory, disk = (
        cohort.train(out_dir=tmp_path / where, features_in=where, epochs=2) for where in ("memory", "disk")
    )
    for name in ("model.safetensors", "last.safetensors", "history.csv"):
        assert (memory / name).read_bytes() == (disk / name).read_bytes()
    one, other = (load_model(folder).header for folder in (memory, disk))
    assert one["thresholds"] == other["thresholds"]
    assert one["out_of_distribution"] == other["out_of_distribution"]
