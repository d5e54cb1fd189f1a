"""Experiment files: laid over their base, checked key by key before anything is trained."""

from pathlib import Path

import pytest

from experiment_file import merge, read_experiment
from experiment_jobs import job_key, list_jobs
from experiment_problems import fold_count, overlap, problem_names
from logistic_baselines import BASELINES
from wsi_kd.core.errors import BadInput

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "experiments"

TEXT = """
title: small
seeds: [0, 1]
compare_with: ABMIL
problem: {family: table, table: musk1, folds: 4}
train: {epochs: 3, weno: {label_floor: 0.5}}
methods:
  ABMIL: {recipe: abmil}
  WENO: {recipe: weno, train: {epochs: 7, weno: {pseudo_label: expmax}}}
"""


def written(folder, text=TEXT, name="small.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def jobs_of(experiment):
    return list_jobs(experiment, part="test", data=Path("data"), cache=Path("kept"))


def test_a_method_changes_what_all_share(tmp_path):
    experiment = read_experiment(written(tmp_path))
    assert experiment.train_settings("ABMIL").epochs == 3
    settings = experiment.train_settings("WENO")
    assert (settings.epochs, settings.weno.label_floor, settings.weno.pseudo_label) == (7, 0.5, "expmax")


def test_a_file_is_laid_over_its_base(tmp_path):
    written(tmp_path)
    over = "base: small.yaml\ntitle: other\nmethods:\n  WENO: {train: {epochs: 9}}\n  MIL: {recipe: abmil}\n"
    experiment = read_experiment(written(tmp_path, over, "other.yaml"))
    assert (experiment.title, experiment.seeds) == ("other", (0, 1))
    assert list(experiment.methods) == ["ABMIL", "WENO", "MIL"]
    assert experiment.train_settings("WENO").epochs == 9
    assert experiment.train_settings("WENO").weno.pseudo_label == "expmax"


def test_merging_leaves_both_sides_alone():
    under, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(under, over) == {"a": {"b": 1, "c": 2}}
    assert (under, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("epochs: 7", "epoch: 7", r"methods\.WENO: unknown key 'train\.epoch' \(did you mean 'epochs'\?\)"),
        ("expmax", "softmax", r"methods\.WENO: train\.weno\.pseudo_label: .*'softmax'"),
        ("label_floor: 0.5", "label_floor: 2", r"methods\.ABMIL: train\.weno\.label_floor"),
        ("recipe: weno", "recipe: wenno", r"methods\.WENO: train\.recipes.*'wenno'"),
        ("folds: 4", "fold: 4", r"problem\.table\.fold: "),
        ("table: musk1", "table: musk2", r"problem\.table\.table: "),
        ("compare_with: ABMIL", "compare_with: ABML", "did you mean 'ABMIL'"),
        ("title: small", "title: small\nonly: [ABMIL, WENNO]", "did you mean 'WENO'"),
        ("seeds: [0, 1]", "seeds: []", "seeds: "),
        ("title: small", "title: small\nnotes: x", "notes: "),
        ("title: small", "title: [", "not valid YAML"),
    ],
)
def test_faults_are_told_in_one_line_before_anything_is_trained(tmp_path, old, new, fault):
    path = written(tmp_path, TEXT.replace(old, new))
    with pytest.raises(BadInput, match=fault) as caught:
        read_experiment(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"none\.yaml: cannot be read"):
        read_experiment(tmp_path / "none.yaml")


def test_jobs_are_every_method_seed_and_fold(tmp_path):
    jobs = jobs_of(read_experiment(written(tmp_path)))
    assert len(jobs) == 2 * 2 * 4
    assert len({job_key(job) for job in jobs}) == 16
    assert [job.draw.seed for job in jobs] == [0] * 8 + [1] * 8


def test_an_edit_of_one_method_changes_its_keys_alone(tmp_path):
    before, after = (
        [job_key(job) for job in jobs_of(read_experiment(written(tmp_path, text)))]
        for text in (TEXT, TEXT.replace("epochs: 7", "epochs: 8"))
    )
    changed = [old != new for old, new in zip(before, after, strict=True)]
    assert changed == ([False] * 4 + [True] * 4) * 2


def test_shared_bags_are_corrected_for_by_their_overlap(tmp_path):
    """4 folds: a quarter tests, three quarters do not; fresh draws: no correction."""
    table = read_experiment(written(tmp_path)).problem
    assert overlap(table) == pytest.approx(1 / 3)
    gaussian = read_experiment(FOLDER / "gaussian.yaml").problem
    assert (overlap(gaussian), fold_count(gaussian)) == (0.0, 1)
    images = read_experiment(FOLDER / "mnist.yaml").problem
    assert overlap(images) == pytest.approx(0.25)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_files_are_valid_and_ask_for_several_seeds(path):
    experiment = read_experiment(path)
    assert experiment.seeds == tuple(range(2 if path.stem == "crc_teachers" else 5))
    assert problem_names(experiment.problem)
    assert set(experiment.baselines) <= set(BASELINES)
    assert experiment.methods[experiment.compare_with].recipe == "abmil"


def test_only_the_named_methods_are_measured(tmp_path):
    text = TEXT.replace("title: small", "title: small\nonly: [ABMIL]")
    assert list(read_experiment(written(tmp_path, text)).methods) == ["ABMIL"]


def test_the_experiments_are_shipped():
    stems = {path.stem for path in FOLDER.glob("*.yaml")}
    assert {"gaussian", "gaussian_parts", "mnist", "cifar10", "musk1", "elephant", "crc"} <= stems
    rates = problem_names(read_experiment(FOLDER / "cifar10.yaml").problem)
    assert rates == tuple(f"witness_rate_{percent}" for percent in (1, 5, 10, 20, 50, 70))
