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
