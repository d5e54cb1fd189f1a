"""G4: a damaged checkpoint is refused, or is what was saved."""

from pathlib import Path

import pytest
from checkpoint_files import FILES, load, save_all
from mutants import Area, mutants

from wsi_kd.core.errors import BadInput
from wsi_kd.training.checkpoint import load_model
from wsi_kd.training.state import STATE_NAME


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_all(tmp_path_factory.mktemp("saved"))


def areas(content: bytes) -> list[Area]:
    """The header of safetensors, and all; of JSON all."""
    if content.startswith(b"{"):
        return [(0, len(content))]
    return [(0, 8 + int.from_bytes(content[:8], "little")), (0, len(content))]


@pytest.mark.parametrize("count", [140, pytest.param(5000, marks=pytest.mark.reliability)])
def test_no_mutant_is_loaded_as_another_model(saved, count, record_property):
    files = [(kind, name) for kind, names in FILES.items() for name in names]
    refused, harmless, different, told = 0, 0, [], set()
    for number, (kind, name) in enumerate(files):
        path, expected = saved / name, load(kind, saved)
        content = path.read_bytes()
        each = -(-count // len(files))
        for mutant in mutants(content, areas(content), count=each, seed=number):
            path.write_bytes(mutant)
            try:
                found = load(kind, saved)
                harmless += found == expected
                refused += found == "of another run"
                different += [name] * (found not in (expected, "of another run"))
            except BadInput as error:
                refused += 1
                told.add(str(error))
        path.write_bytes(content)
    record_property(
        "figure",
        f"G4: {refused + harmless + len(different):,} checkpoint mutants, {len(different)} loaded as "
        f"something else; {refused:,} refused, {harmless} harmless",
    )
    assert different == []
    assert refused + harmless >= count
    assert refused > 0.95 * count
    assert not any("\n" in line for line in told)


def test_files_of_different_models_are_no_model(saved):
    """A file that was swapped is whole: its hash alone tells."""
    for one, other in (("model", "last"), ("last", "model"), ("model", "encoder")):
        path = saved / f"{one}.safetensors"
        content = path.read_bytes()
        path.write_bytes((saved / f"{other}.safetensors").read_bytes())
        with pytest.raises(BadInput, match="not the weights of its header"):
            load(one, saved)
        path.write_bytes(content)


def test_the_facts_of_a_training_are_signed_too(saved):
    """Tensors have their hash; the epoch beside them, a digit of JSON, is as much of the state."""
    path = saved / STATE_NAME
    content = path.read_bytes()
    assert content.count(b'epoch\\": 7') == 1
    path.write_bytes(content.replace(b'epoch\\": 7', b'epoch\\": 8'))
    with pytest.raises(BadInput, match="sha256 of its facts differs"):
        load("state", saved)
    path.write_bytes(content)
    assert load("state", saved)[0] == 7


def test_bytes_are_hashed_as_they_are_parsed(saved, monkeypatch):
    """A file that is exchanged after it was hashed would be loaded unseen, if it were opened twice."""
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or read(path))
    load_model(saved)
    assert opened.count("model.safetensors") == 1
