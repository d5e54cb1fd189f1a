"""The command from a checkpoint to a file, and its one-line refusals."""

import pytest
from exported_models import drawn_model

from wsi_kd.cli.app import run
from wsi_kd.core.errors import BadInput
from wsi_kd.core.provenance import stamp
from wsi_kd.inference.onnx_export import Exported
from wsi_kd.steps import export as export_step
from wsi_kd.steps.export import run_export
from wsi_kd.training.checkpoint import save_model


@pytest.fixture
def saved(tmp_path):
    def save(teacher, **changes):
        loaded = drawn_model(teacher, **changes)
        save_model(tmp_path / "model", "model", loaded.model, header={**stamp("model", {}), **loaded.header})
        return tmp_path / "model"

    return save


def test_the_command_writes_and_says_how_far_the_file_is_off(saved, tmp_path, capsys):
    assert run(["export", str(saved("abmil")), "--out", str(tmp_path / "m.onnx"), "--part", "student"]) == 0
    told = capsys.readouterr().out
    assert "m.onnx: features (tiles, features) -> instance_logits, instance_probability" in told
    assert "largest difference from this program's answers: " in told
    assert (tmp_path / "m.onnx").stat().st_size > 1000


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (2.5e-6, "answers: 2.5e-06"),
        (None, r"not checked: onnxruntime is not installed; install it with: pip"),
    ],
)
def test_what_is_said_of_the_check(saved, tmp_path, capsys, monkeypatch, difference, expected):
    monkeypatch.setattr(
        export_step, "export_onnx", lambda *_, **__: Exported("both", ("bag_probability",), difference)
    )
    assert run(["export", str(saved("abmil")), "--out", str(tmp_path / "m.onnx")]) == 0
    assert expected in capsys.readouterr().out


def test_a_refusal_names_the_model(saved, tmp_path, capsys):
    folder = saved("transmil")
    assert run(["export", str(folder), "--out", str(tmp_path / "m.onnx")]) == 2
    error = capsys.readouterr().err
    assert f"{folder}: teacher transmil cannot be exported; those that can: abmil" in " ".join(error.split())
    assert "Traceback" not in error


def test_another_suffix_and_an_absent_model_are_refused(saved, tmp_path):
    with pytest.raises(BadInput, match=r"m\.pt: expected a file that ends in \.onnx"):
        run_export(saved("abmil"), out=tmp_path / "m.pt", part="both")
    assert run(["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "m.onnx")]) == 2
