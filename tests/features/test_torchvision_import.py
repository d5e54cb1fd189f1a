import sys
from types import ModuleType, SimpleNamespace

import pytest

from wsi_kd.features import torchvision_import


def fake_import(monkeypatch, import_module):
    """Let the module under test, and nothing else, import by `import_module`."""
    monkeypatch.setattr(torchvision_import, "importlib", SimpleNamespace(import_module=import_module))


def test_a_torchvision_that_loads_is_left_alone(monkeypatch):
    whole = ModuleType("torchvision")
    fake_import(monkeypatch, lambda name: whole)
    monkeypatch.setattr(torchvision_import, "_declare_operators", lambda: pytest.fail("declared for nothing"))
    assert torchvision_import.import_torchvision.__wrapped__() is whole


def test_a_torchvision_without_operators_is_imported_again(monkeypatch):
    calls, loaded = [], ModuleType("torchvision")

    def import_module(name):
        calls.append(name)
        if len(calls) == 1:
            message = "operator torchvision::nms does not exist"
            raise RuntimeError(message)
        return loaded

    fake_import(monkeypatch, import_module)
    monkeypatch.setattr(torchvision_import, "_forget", lambda package: calls.append(f"forget {package}"))
    monkeypatch.setattr(torchvision_import, "_declare_operators", lambda: calls.append("declare"))
    assert torchvision_import.import_torchvision.__wrapped__() is loaded
    assert calls == ["torchvision", "forget torchvision", "declare", "torchvision"]


def test_forgetting_a_package_spares_its_namesakes(monkeypatch):
    for name in ("half_loaded", "half_loaded.part", "half_loaded_too"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    torchvision_import._forget("half_loaded")
    assert [name for name in sys.modules if name.startswith("half_loaded")] == ["half_loaded_too"]


def test_a_broken_torchvision_is_not_hidden(monkeypatch):
    def import_module(name):
        message = "torch and torchvision do not fit"
        raise RuntimeError(message)

    fake_import(monkeypatch, import_module)
    with pytest.raises(RuntimeError, match="do not fit"):
        torchvision_import.import_torchvision.__wrapped__()
