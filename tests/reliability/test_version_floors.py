"""G17: libraries with known holes are named by `doctor` and given no file; pins keep above the floors."""

import re
from pathlib import Path

import openslide
import pytest
import torch

from wsi_kd.cli import libraries
from wsi_kd.cli.app import run
from wsi_kd.cli.diagnosis import State, check_openslide, check_torch
from wsi_kd.core.errors import BadInput
from wsi_kd.core.floors import FLOORS, refuse_below, version_numbers
from wsi_kd.features.weights import load_pickle
from wsi_kd.slides.reader import open_slide

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "OpenSlide": "openslide-bin",
    "torch": "torch",
    "Pillow": "pillow",
    "HDF5": "h5py",
    "safetensors": "safetensors",
}
"""What brings each library; libtiff comes with Pillow and imagecodecs."""
H5PY_OF_HDF5_2 = (3, 16)
OLDER = {"OpenSlide": "4.0.0", "torch": "2.9.1", "libtiff": "4.7.0", "Pillow": "12.2.0", "HDF5": "1.14.6"}


def wanted(name: str) -> tuple[int, ...]:
    return H5PY_OF_HDF5_2 if name == "HDF5" else FLOORS[name].version


def pinned() -> dict[str, tuple[int, ...]]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        name: version_numbers(found) for name, _, found in (line.partition("==") for line in lines) if found
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_what_make_install_pins_is_no_older(name: str) -> None:
    assert pinned()[PACKAGES[name]] >= wanted(name)


@pytest.mark.parametrize("name", PACKAGES)
def test_what_the_package_asks_for_is_no_older(name: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (found,) = re.findall(rf'^  "{PACKAGES[name]}>=([0-9.]+)",$', text, re.MULTILINE)
    assert version_numbers(found) >= wanted(name)


@pytest.mark.parametrize(("name", "older"), OLDER.items())
def test_below_the_floor_is_refused_with_the_reason_and_the_remedy(name: str, older: str) -> None:
    refuse_below(name, FLOORS[name].text)
    with pytest.raises(BadInput) as raised:
        refuse_below(name, older)
    told = str(raised.value)
    assert told.startswith(f"{name} {older}: needs {FLOORS[name].text} or newer, ")
    assert "install" in told
    assert "\n" not in told


def test_an_old_openslide_is_given_no_slide(synthetic_slide, monkeypatch) -> None:
    path = synthetic_slide("normal").path
    monkeypatch.setattr(openslide, "__library_version__", "4.0.0")
    with pytest.raises(BadInput, match=r"OpenSlide 4\.0\.0: needs 4\.0\.1 .*CVE-2026-48977"):
        open_slide(path, background="white")
    assert check_openslide().state is State.BROKEN
    assert "CVE-2026-48977" in check_openslide().remedy


def test_an_old_torch_is_given_no_pickle(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    assert load_pickle(path)["a"].shape == (1,)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    with pytest.raises(BadInput, match=r"torch 2\.9\.1\+cu128: needs 2\.10 or newer"):
        load_pickle(path)
    assert check_torch()[0].state is State.BROKEN


def test_doctor_tells_the_loaded_versions_and_fails_below_a_floor(monkeypatch, record_property) -> None:
    checks = {check.name: check for check in libraries.check_libraries()}
    assert list(checks) == ["libtiff of Pillow", "libtiff of imagecodecs", "HDF5", "Pillow", "safetensors"]
    assert {check.state for check in checks.values()} == {State.OK}
    assert all(version_numbers(check.found) for check in checks.values())
    monkeypatch.setattr(libraries, "_ASKED", (("libtiff of Pillow", lambda: "4.6.0"), ("HDF5", lambda: "")))
    below = libraries.check_libraries()
    assert [check.state for check in below] == [State.BROKEN, State.BROKEN]
    assert "CVE-2025-9900" in below[0].remedy
    told = ", ".join(f"{name} {floor.text}" for name, floor in FLOORS.items())
    record_property("figure", f"G17: floors enforced: {told}")


def test_a_library_that_does_not_say_its_version_is_broken(monkeypatch) -> None:
    def silent() -> str:
        raise KeyError("libtiff")

    monkeypatch.setattr(libraries, "_ASKED", (("libtiff of imagecodecs", silent),))
    (check,) = libraries.check_libraries()
    assert (check.state, check.found) == (State.BROKEN, "does not say its version: 'libtiff'")


def test_doctor_ends_with_2_below_a_floor(monkeypatch, capsys) -> None:
    monkeypatch.setattr("wsi_kd.cli.doctor.installation", lambda: [check_openslide()])
    assert run(["doctor"]) == 0
    monkeypatch.setattr(openslide, "__library_version__", "3.4.1")
    assert run(["doctor"]) == 2
    assert "1 of 1 checks failed: OpenSlide" in capsys.readouterr().err
