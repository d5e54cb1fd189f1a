"""Batches of all forms become one; other forms are told with the remedy."""

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.batches import call, check_labels, check_logits, find_logits, read_batch, walk

CPU = torch.device("cpu")
X, Y = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    "raw",
    [
        (X, Y),
        [X, Y],
        {"inputs": X, "labels": Y},
        {"x": X, "y": Y},
        OrderedDict(y=Y, x=X),
        (X, Y.to(torch.uint8)),
    ],
)
def test_labeled_forms(raw: Any) -> None:
    batch = read_batch(raw, adapter=None, device=CPU)
    assert batch.inputs is X
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    assert torch.equal(batch.labels, Y)


@pytest.mark.parametrize("raw", [X, (X,), [X], (X, None), {"inputs": X}, {"x": X, "y": None}])
def test_unlabeled_forms(raw: Any) -> None:
    batch = read_batch(raw, adapter=None, device=CPU)
    assert batch.inputs is X
    assert batch.labels is None


def test_soft_labels_stay() -> None:
    soft = torch.full((3, 2), 0.5)
    assert read_batch((X, soft), adapter=None, device=CPU).labels is soft


def test_adapter() -> None:
    def adapter(raw: Any) -> Any:
        return raw["picture"], raw["class"]

    batch = read_batch({"picture": X, "class": Y, "id": [1, 2, 3]}, adapter=adapter, device=CPU)
    assert batch.inputs is X
    assert batch.labels is Y
    with pytest.raises(
        BadInput, match=r"adapter returned float32 tensor \(3, 2\); expected \(inputs, labels\)"
    ):
        read_batch((X, Y), adapter=lambda raw: raw[0], device=CPU)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ((X, Y, Y), r"a tuple of 3 \(float32 tensor \(3, 2\), int64"),
        ({"image": X, "target": Y}, "a dict with the keys image, target; expected"),
        ({"inputs": X, "y": Y}, "the keys inputs, y"),
        ({}, r"the keys \(none\)"),
        ((), r"a tuple of 0 \(\)"),
        ("abc", "yielded str"),
        (None, "yielded NoneType"),
    ],
)
def test_other_forms_are_told_with_the_remedy(raw: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told) as error:
        read_batch(raw, adapter=None, device=CPU)
    assert "pass adapter=, a function from a batch to (inputs, labels)" in str(error.value)


def test_labels_that_are_no_tensor() -> None:
    with pytest.raises(BadInput, match=r"labels are a list of 3 \(int, int, int\)"):
        read_batch((X, [0, 1, 1]), adapter=None, device=CPU)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.tensor([0, 1]), r"int64 tensor \(2,\); expected \(3,\) integers of 0 to 1"),
        (torch.tensor([[0], [1], [1]]), r"int64 tensor \(3, 1\)"),
        (torch.tensor([0.0, 1.0, 1.0]), r"float32 tensor \(3,\); expected .* or \(3, 2\) soft labels"),
        (torch.tensor([0, 1, 2]), "labels go from 0 to 2"),
        (torch.tensor([0, 1, -1]), "labels go from -1 to 1"),
    ],
)
def test_labels_that_do_not_fit(labels: Tensor, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        check_labels(labels, torch.zeros(3, 2))


def test_labels_that_fit() -> None:
    check_labels(Y, torch.zeros(3, 2))
    check_labels(torch.full((3, 2), 0.5), torch.zeros(3, 2))


def test_networks_are_called_as_their_inputs_say() -> None:
    class Difference(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return first - second

    nested = read_batch(((X, X + 1.0), Y), adapter=None, device=CPU).inputs
    assert call(Difference(), nested).tolist() == [[-1.0, -1.0]] * 3
    assert call(Difference(), {"second": X, "first": X + 2.0}).tolist() == [[2.0, 2.0]] * 3
    assert call(nn.Identity(), X) is X


class Answer(NamedTuple):
    logits: Tensor
    hidden: Tensor


@pytest.mark.parametrize("given", [X, {"logits": X, "hidden": Y}, Answer(X, Y)])
def test_logits_are_found(given: Any) -> None:
    assert check_logits(find_logits(given), given, who="the student") is X


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((X, Y), r"the student gave a tuple of 2 \(float32 tensor \(3, 2\)"),
        ({"scores": X}, "a dict with the keys scores"),
        (X[:, 0], r"float32 tensor \(3,\)"),
        (Y[:, None], r"int64 tensor \(3, 1\)"),
    ],
)
def test_what_is_no_logits_is_told(given: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told) as error:
        check_logits(find_logits(given), given, who="the student")
    assert "logits_of=" in str(error.value)


def test_loaders_are_walked_more_than_once() -> None:
    assert list(walk([1, 2], what="loader")) == [1, 2]
    with pytest.raises(BadInput, match="val_loader: generator can be walked only once"):
        next(walk((batch for batch in [1]), what="val_loader"))
    empty = DataLoader(TensorDataset(X), batch_size=4, drop_last=True)
    with pytest.raises(BadInput, match=r"train_loader: it yielded no batch; .*drop_last"):
        list(walk(empty, what="train_loader"))
