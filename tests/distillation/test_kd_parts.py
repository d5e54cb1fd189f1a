from itertools import chain

import numpy as np
import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.data import DataOptions, Lesson, Prepared, prepare_data, teacher_loader
from wsi_kd.distillation.parts import draw_evenly, draw_parts, falsify
from wsi_kd.distillation.samples import ArrayInputs, SamplePart, Samples, fit_scaling
from wsi_kd.distillation.task import Data

OPTIONS = DataOptions(
    batch_size=8,
    val=0.2,
    test=0.25,
    seed=0,
    train_samples=None,
    labeled=None,
    label_noise=0.0,
    standardize=False,
    workers=0,
)
EVERYTHING = Lesson((), "left_out", None, all_labels=False)


def numbered(labels, **facts) -> Samples:
    """Samples whose only value is their number."""
    values = torch.arange(len(labels), dtype=torch.float32)[:, None]
    names = tuple(f"c{i}" for i in range(int(max(labels)) + 1))
    return Samples(ArrayInputs(values), np.array(labels, dtype=np.int64), names, **facts)


def numbers(loader) -> list[int]:
    return sorted(int(number) for batch in loader for number in batch[0][:, 0])


def of_classes(labels, indices) -> list[int]:
    return np.bincount(np.array(labels)[indices], minlength=max(labels) + 1).tolist()


def test_parts_share_nothing_and_keep_the_proportions_of_the_classes():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    parts = draw_parts(numbered(labels), val=0.2, test=30, seed=3, where="x")
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert of_classes(labels, parts.test) == [18, 9, 3]
    assert of_classes(labels, parts.val) == [12, 6, 2]
    again = draw_parts(numbered(labels), val=0.2, test=30, seed=3, where="x")
    other = draw_parts(numbered(labels), val=0.2, test=30, seed=4, where="x")
    assert np.array_equal(parts.test, again.test)
    assert not np.array_equal(parts.test, other.test)


def test_a_larger_draw_holds_the_smaller_ones():
    labels = np.array([0, 1] * 40)
    draws = [draw_evenly(labels, np.arange(80), count=count, seed=[7, 1]) for count in (10, 20, 60)]
    assert set(draws[0]) < set(draws[1]) < set(draws[2])
    assert [of_classes(labels.tolist(), draw) for draw in draws] == [[5, 5], [10, 10], [30, 30]]


def test_parts_of_the_source_are_taken_and_only_the_missing_one_is_drawn():
    own = {"train": np.arange(30), "test": np.arange(30, 40)}
    parts = draw_parts(numbered([0, 1] * 20, parts=own), val=6, test=0.25, seed=0, where="x")
    assert parts.test.tolist() == list(range(30, 40))
    assert len(parts.val) == 6
    assert sorted([*parts.train, *parts.val]) == list(range(30))


def test_no_case_is_in_two_parts():
    labels = [case % 2 for case in range(20) for _ in range(5)]
    cases = tuple(f"case{case}" for case in range(20) for _ in range(5))
    parts = draw_parts(numbered(labels, cases=cases), val=0.2, test=0.2, seed=1, where="x")
    seen = [{cases[i] for i in part} for part in parts]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert [len(part) for part in parts] == [60, 20, 20]
    assert of_classes(labels, parts.test) == [10, 10]


def test_samples_without_a_label_are_trained_on_and_those_of_a_case_in_val_or_test_left_out():
    labels = [0, 1, -1, -1] * 10
    cases = tuple(f"case{i // 4}" for i in range(40))
    parts = draw_parts(numbered(labels, cases=cases), val=4, test=4, seed=0, where="x")
    held = {cases[i] for i in [*parts.val, *parts.test]}
    assert not held & {cases[i] for i in parts.train}
    assert all(labels[i] >= 0 for i in [*parts.val, *parts.test])
    assert sum(labels[i] == -1 for i in parts.train) == 12


@pytest.mark.parametrize(
    ("labels", "sizes", "line"),
    [
        ([0, 1] * 4, {"val": 4, "test": 6}, "a part of 4 samples with labels is asked for, 2 are left"),
        ([0, 0, 0, 0], {"val": 1, "test": 1}, "1 class; at least 2"),
        ([0, 1] * 4, {"val": 0.01, "test": 1}, "data.val: 0.01 of 8 samples with labels is none"),
        ([0] * 8 + [1], {"val": 3, "test": 5}, "the part train has no sample of class c"),
    ],
)
def test_parts_that_cannot_be_drawn(labels, sizes, line):
    with pytest.raises(BadInput, match=line):
        draw_parts(numbered(labels), **sizes, seed=0, where="x")


def test_all_cases_in_one_part_are_refused():
    with pytest.raises(BadInput, match="the 2 cases that are left would all go into one part"):
        draw_parts(numbered([0, 1] * 4, cases=("a", "b") * 4), val=1, test=7, seed=0, where="x")


def test_false_labels_are_as_many_as_asked_and_never_the_true_ones():
    labels = np.arange(200) % 4
    false = falsify(labels, share=0.3, classes=4, seed=[1])
    assert (false != labels).sum() == 60
    assert set(np.unique(false[false != labels] - labels[false != labels])) == {-3, -2, -1, 1, 2, 3}


def test_loaders_hold_the_parts_and_hidden_labels_come_as_inputs_alone():
    labels = [0, 1] * 50
    prepared = prepare_data(numbered(labels), OPTIONS._replace(labeled=20), where="x")
    data = prepared.data
    sizes = [len(part.dataset) for part in (data.train, data.unlabeled, data.val, data.test)]
    assert sizes == [20, 35, 20, 25]
    parts = [numbers(part) for part in (data.train, data.unlabeled, data.val, data.test)]
    assert sorted(chain.from_iterable(parts)) == list(range(100))
    assert {len(batch) for batch in data.unlabeled} == {1}
    for inputs, given in data.train:
        assert (given == inputs[:, 0].long() % 2).all()
    assert (data.classes, data.input_shape) == (2, (1,))


def test_training_batches_are_shuffled_by_the_global_generator_and_others_not_at_all():
    data = prepare_data(numbered([0, 1] * 50), OPTIONS, where="x").data

    def order(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return torch.cat([inputs for inputs, _ in data.train]).flatten().tolist()

    with torch.random.fork_rng():
        assert order(1) == order(1) != order(2)
        assert len(set(order(1))) == 55
    test = torch.cat([inputs for inputs, _ in data.test]).flatten().tolist()
    assert test == sorted(test)


def test_worker_processes_change_no_batch():
    def batches(workers: int) -> list[list[float]]:
        data = prepare_data(numbered([0, 1] * 20), OPTIONS._replace(workers=workers), where="x").data
        torch.manual_seed(3)
        return [inputs.flatten().tolist() for _ in range(2) for inputs, _ in data.train]

    with torch.random.fork_rng():
        alone, helped = batches(0), batches(1)
    assert alone == helped
    assert alone[:3] != alone[3:]


def test_a_last_training_batch_of_one_sample_is_left_out():
    data = prepare_data(numbered([0, 1] * 50), OPTIONS._replace(train_samples=49), where="x").data
    assert [len(labels) for _, labels in data.train] == [8] * 6
    assert [len(labels) for _, labels in data.val] == [8, 8, 4]


def test_noise_is_in_training_labels_alone():
    data = prepare_data(numbered([0, 1] * 50), OPTIONS._replace(label_noise=0.2), where="x").data
    wrong = [
        sum(int((given != inputs[:, 0].long() % 2).sum()) for inputs, given in part)
        for part in (data.train, data.val, data.test)
    ]
    assert wrong == [11, 0, 0]


def test_standardized_inputs_have_mean_0_and_deviation_1_over_the_training_part():
    made = numbered([0, 1] * 50)
    prepared = prepare_data(made, OPTIONS._replace(standardize=True, labeled=10), where="x")
    seen = [batch[0] for part in (prepared.data.train, prepared.data.unlabeled) for batch in part]
    values = torch.cat(seen)
    assert values.mean().abs() < 1e-5
    assert values.std(correction=0) == pytest.approx(1.0, abs=1e-5)
    assert prepared.scaling is not None


def test_scaling_of_images_is_by_channel_and_of_what_never_changes_1():
    values = torch.rand(20, 2, 4, 4)
    values[:, 1] = 0.25
    scaling = fit_scaling(ArrayInputs(values), np.arange(20), batch_size=6)
    assert torch.allclose(scaling.mean.flatten(), torch.stack([values[:, 0].mean(), torch.tensor(0.25)]))
    assert torch.allclose(scaling.deviation.flatten(), torch.tensor([values[:, 0].std(correction=0), 1.0]))


def test_one_sample_and_a_batch_are_the_same_and_bytes_become_0_to_1():
    part = SamplePart(
        ArrayInputs(torch.tensor([[0], [51], [255]], dtype=torch.uint8)),
        np.array([2, 1]),
        labels=torch.tensor([5, 6]),
        scaling=None,
    )
    inputs, labels = part.__getitems__([1, 0])
    assert torch.allclose(inputs, torch.tensor([[0.2], [1.0]]))
    assert labels.tolist() == [6, 5]
    assert torch.equal(part[1][0], inputs[0])


def test_a_specialist_learns_of_its_classes_or_that_it_cannot_tell_the_others():
    prepared = prepare_data(numbered([0, 1, 2] * 40), OPTIONS, where="x")
    alone = teacher_loader(prepared, EVERYTHING._replace(classes=(0, 2)))
    assert {int(label) for _, labels in alone for label in labels} == {0, 2}
    soft = teacher_loader(prepared, EVERYTHING._replace(classes=(0, 2), elsewhere="uniform"))
    for inputs, labels in soft:
        for number, row in zip(inputs[:, 0].long() % 3, labels, strict=True):
            expected = [1 / 3] * 3 if number == 1 else [float(number == i) for i in range(3)]
            assert row.tolist() == pytest.approx(expected)
    assert numbers(soft) == numbers(prepared.data.train)


def test_a_teacher_may_have_all_labels_or_few():
    prepared = prepare_data(numbered([0, 1] * 50), OPTIONS._replace(labeled=20), where="x")
    data = prepared.data
    everything = teacher_loader(prepared, EVERYTHING._replace(all_labels=True))
    assert numbers(everything) == sorted(numbers(data.train) + numbers(data.unlabeled))
    few = teacher_loader(prepared, EVERYTHING._replace(samples=8))
    assert len(numbers(few)) == 8
    assert set(numbers(few)) < set(numbers(data.train))
    with pytest.raises(BadInput, match="no class 7; the data have 0 to 1"):
        teacher_loader(prepared, EVERYTHING._replace(classes=(0, 7)))


def test_the_fingerprint_tells_data_labels_and_draws_apart():
    made = numbered([0, 1] * 50)
    changed = made._replace(inputs=ArrayInputs(torch.arange(100, dtype=torch.float32)[:, None] + 1))
    prints = {
        prepare_data(samples, options, where="x").fingerprint
        for samples, options in [
            (made, OPTIONS),
            (changed, OPTIONS),
            (made, OPTIONS._replace(seed=1)),
            (made, OPTIONS._replace(label_noise=0.1)),
            (made, OPTIONS._replace(labeled=10)),
            (made, OPTIONS._replace(standardize=True)),
        ]
    }
    assert len(prints) == 6
    assert prepare_data(made, OPTIONS, where="x").fingerprint in prints


def given() -> Data:
    made = prepare_data(numbered([0, 1] * 50), OPTIONS, where="x").data
    return made._replace(classes=2)


def test_loaders_of_the_users_are_taken_as_they_are():
    data = given()
    prepared: Prepared = prepare_data(data, OPTIONS, where="x")
    assert prepared.data is data
    assert teacher_loader(prepared, EVERYTHING) is data.train
    with pytest.raises(BadInput, match="it makes loaders, so labeled"):
        prepare_data(data, OPTIONS._replace(labeled=3), where="x")
    with pytest.raises(BadInput, match="with loaders of your own"):
        teacher_loader(prepared, EVERYTHING._replace(classes=(0,)))
