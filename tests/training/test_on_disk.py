"""What is trained from disk is, bit for bit, what is trained in memory; and nothing of the bags is held.

Every way to train behind the marker `reliability`, the main ones always.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import training_processes
from bags_on_disk import loaded_from_files
from training_processes import CASES, TRAIN, VAL, train_case

from wsi_kd.bags.rows import RowsOnDisk
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.training import loop
from wsi_kd.training.bag_checks import bags_hash, check_bags, feature_moments
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.ins import train_ins

MAIN = ("abmil", "instance", "mhim", "weno", "weno alternate")
IN_ONE = tuple(name for name in CASES if name != "weno on disk")
TIERS = [pytest.param(MAIN, id="main"), pytest.param(IN_ONE, id="all", marks=pytest.mark.reliability)]
BAGS = [24, pytest.param(100, marks=pytest.mark.reliability)]
MIB = 1 << 20


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return tuple(
        loaded_from_files(part, folder / name, on_disk=True)
        for name, part in (("train", TRAIN), ("val", VAL))
    )


def same_values(rows, others):
    """Equal to the last bit, NaN included."""
    return json.dumps(rows) == json.dumps(others)


@pytest.mark.parametrize("cases", TIERS)
def test_models_and_histories_are_the_same_bits(on_disk, cases, tmp_path, monkeypatch, record_property):
    different = []
    for name in cases:
        tensors, history = train_case(name, tmp_path / name)
        with monkeypatch.context() as patched:
            patched.setattr(training_processes, "TRAIN", on_disk[0])
            patched.setattr(training_processes, "VAL", on_disk[1])
            others, rows = train_case(name, tmp_path / f"{name} disk")
        assert tensors.keys() == others.keys()
        equal = all(torch.equal(value, others[key]) for key, value in tensors.items())
        if not (equal and same_values(history, rows)):
            different.append(name)
    record_property("figure", f"on disk: {len(cases)} ways to train, {len(different)} with other bits")
    assert different == []


def test_recipe_ins_too(small_parts, plans, tmp_path):
    histories, weights = [], []
    for disk in (False, True):
        parts = [
            loaded_from_files(part, tmp_path / str(number), on_disk=disk)
            for number, part in enumerate(small_parts)
        ]
        trained = train_ins(
            *parts,
            classes=2,
            architecture=plans.architecture,
            optimization=plans.optimization._replace(epochs=2),
            prototyping=plans.prototyping,
            work_dir=tmp_path / f"work {disk}",
            on_epoch=lambda row: None,
        )
        histories.append(trained.history)
        weights.append(trained.last_model.state_dict())
    assert same_values(*histories)
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_a_run_started_in_memory_goes_on_from_disk(on_disk, tmp_path):
    """The same hash of the bags; the same moments, of numbers and of pixels."""
    assert bags_hash(TRAIN, VAL) == bags_hash(*on_disk)
    assert bags_hash(TRAIN, VAL) != bags_hash(on_disk[0].select(TRAIN.slide_ids[::-1]), VAL)
    pixels = TRAIN._replace(features=(TRAIN.features.clip(-1, 1) * 100 + 128).astype(np.uint8))
    files = loaded_from_files(pixels, tmp_path, on_disk=True)
    for memory, disk in ((TRAIN, on_disk[0]), (pixels, files)):
        assert isinstance(disk.features, RowsOnDisk)
        assert all(map(torch.equal, feature_moments(memory), feature_moments(disk)))
    check_bags(on_disk[0], classes=2, part="training")
    with pytest.raises(BadInput, match="no bag of class 2"):
        check_bags(on_disk[0], classes=3, part="training")


def train_from(parts, folder, *, on_epoch=lambda row: None):
    return train_abmil(
        *parts,
        classes=2,
        architecture=training_processes.ARCHITECTURE,
        optimization=training_processes.OPTIMIZATION,
        work_dir=folder,
        on_epoch=on_epoch,
    )


def test_a_file_that_changes_between_epochs_ends_the_training(tmp_path):
    """It goes on after the last finished epoch once the file is as it was."""
    parts = [loaded_from_files(part, tmp_path / str(n), on_disk=True) for n, part in enumerate((TRAIN, VAL))]
    changed = tmp_path / "0" / "bag_7.h5"
    before = changed.read_bytes(), changed.stat()
    seen = []

    def change(row):
        seen.append(row["epoch"])
        changed.write_bytes(before[0][:-1] + b"x")
        os.utime(changed, ns=(0, before[1].st_mtime_ns + 1))

    with pytest.raises(RunFailed, match=r"bag_7\.h5: changed or replaced"):
        train_from(parts, tmp_path / "work", on_epoch=change)
    assert seen == [0]
    changed.write_bytes(before[0])
    parts[0] = loaded_from_files(TRAIN, tmp_path / "0", on_disk=True)
    train_from(parts, tmp_path / "work", on_epoch=lambda row: seen.append(row["epoch"]))
    assert seen == [0, 1, 2]


def test_each_batch_is_announced_while_the_one_before_is_trained_on(on_disk, monkeypatch, tmp_path):
    events = []
    pack = loop.pack

    def packed(bags, indices, **arguments):
        events.append(("packed", list(indices)))
        return pack(bags, indices, **arguments)

    def announced(_, indices):
        events.append(("announced", list(indices)))

    monkeypatch.setattr(loop, "pack", packed)
    monkeypatch.setattr("wsi_kd.bags.datasets.BagSet.announce", announced)
    epochs = len(train_from(on_disk, tmp_path / "work").history)
    told = [place for place, (kind, indices) in enumerate(events) if kind == "announced" and indices]
    assert all(events[place + 1] == ("packed", events[place][1]) for place in told)
    batches = sum(kind == "packed" for kind, _ in events)
    assert batches - len(told) == 2 * epochs  # the first of training and the first of validation
    assert len(told) >= 3 * epochs


PROGRAM = """
import json, sys
from pathlib import Path
import torch
from bags_on_disk import HEADER
from wsi_kd.bags.datasets import load_bags
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.training.plan import Architecture, Optimization
from wsi_kd.training.recipes.abmil import train_abmil

def held(key):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024

def train(folder, names, work, on_disk):
    rows = [SlideRow(name, folder, "ab"[i % 2], name, "", None, None, "") for i, name in enumerate(names)]
    bags = load_bags(folder, rows, ["a", "b"], on_disk=on_disk)
    val = load_bags(folder, rows[:2], ["a", "b"], on_disk=on_disk)
    architecture = Architecture(
        teacher="abmil", hidden_dim=4, attention_dim=4, dropout=0.0, student_hidden_dim=0
    )
    optimization = Optimization(
        epochs=1, patience=1, learning_rate=1e-3, weight_decay=0.0, gradient_clip=1.0, token_budget=1,
        bags_per_step=1, seed=0, precision="float32", device="cpu",
    )
    train_abmil(
        bags, val, classes=2, architecture=architecture, optimization=optimization, work_dir=work,
        on_epoch=lambda row: None,
    )

def grown(folder, names, where):
    before = held("RssAnon")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    train(folder, names, folder / where, where == "disk")
    return held("VmHWM") - held("RssFile") - held("RssShmem") - before

torch.set_num_threads(1)
folder = Path(sys.argv[1])
names = sorted(path.stem for path in folder.glob("*.h5"))
train(folder, names[:4], folder / "first", True)
print(json.dumps([grown(folder, names, where) for where in ("disk", "memory")]))
"""


@pytest.mark.parametrize("bags", BAGS)
def test_anonymous_memory_stays_flat(tmp_path, bags, record_property):
    """Bags of 2 MiB: in memory more than all of them, on disk the few that a step holds, however many."""
    rng = np.random.default_rng(0)
    template = TRAIN.select(["bag_0"])._replace(
        features=rng.standard_normal((8192, 128), np.float32).astype(np.float16),
        offsets=np.array([0, 8192]),
        coords=np.zeros((8192, 2), np.int64),
        tile_labels=np.zeros(8192, np.int8),
    )
    for number in range(bags):
        loaded_from_files(template._replace(slide_ids=(f"s{number:03d}",)), tmp_path, on_disk=True)
    tests = Path(training_processes.__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    on_disk, in_memory = json.loads(done.stdout)
    record_property(
        "figure",
        f"{2 * bags} MiB of features: {in_memory / MIB:.0f} held in memory, {on_disk / MIB:.0f} on disk",
    )
    assert in_memory > 2 * bags * MIB
    assert on_disk < 40 * MIB
