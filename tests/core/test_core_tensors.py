"""Named tensors: what their hash sees and what it must not, and their file."""

import torch
from safetensors import safe_open

from wsi_kd.core.tensors import publish_tensors, tensors_hash


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


def test_published_tensors_are_read_back_with_their_metadata_and_leave_no_other_file(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.int32)}
    publish_tensors(tmp_path / "some.safetensors", tensors, metadata={"format": "pt"})
    assert [path.name for path in tmp_path.iterdir()] == ["some.safetensors"]
    with safe_open(tmp_path / "some.safetensors", "pt") as handle:
        assert handle.metadata() == {"format": "pt"}
        found = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a mapping
    assert {name: value.dtype for name, value in found.items()} == {"a": torch.float32, "b": torch.int32}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
