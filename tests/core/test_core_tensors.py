"""The hash of named tensors: what it sees, and what it must not."""

import torch

from wsi_kd.core.tensors import tensors_hash


def test_order_plays_no_role_and_everything_else_does() -> None:
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3], dtype=torch.int64)
    found = tensors_hash({"a": first, "b": second})

    assert tensors_hash({"b": second, "a": first}) == found
    changed = [
        {"a": first, "c": second},
        {"a": torch.tensor([1.0, 2.5]), "b": second},
        {"a": first.view(2, 1), "b": second},
        {"a": first, "b": second.to(torch.int32)},
    ]
    assert all(tensors_hash(tensors) != found for tensors in changed)


def test_tensors_of_no_or_one_value_may_have_any_stride() -> None:
    """numpy gives an empty selection the stride 0, which torch calls contiguous and cannot see as bytes."""
    for values in (torch.empty(0, dtype=torch.int64).as_strided((0,), (0,)), torch.ones(1).expand(1)):
        assert tensors_hash({"a": values}) == tensors_hash({"a": values.clone()})
    assert tensors_hash({"a": torch.arange(3).expand(2, 3)}) == tensors_hash(
        {"a": torch.arange(6).view(2, 3) % 3}
    )
