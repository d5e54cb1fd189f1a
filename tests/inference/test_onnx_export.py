"""Files that onnxruntime runs: their answers, what they say of themselves, and what is refused."""

import builtins
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from exported_models import FEATURES, THREE, drawn_model

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.inference import onnx_export
from wsi_kd.inference.onnx_export import TOLERANCE, export_onnx
from wsi_kd.inference.onnx_graph import ONE_BAG, OUTPUTS
from wsi_kd.inference.predict import predict_bag


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """One model and its file; the export takes seconds."""
    loaded = drawn_model("gated_abmil")
    path = tmp_path_factory.mktemp("onnx") / "both.onnx"
    return loaded, path, export_onnx(path, loaded, part="both")


@pytest.mark.parametrize("tiles", [1, 2, 7, 1000])
def test_onnxruntime_gives_the_numbers_of_predict_bag(exported, tiles):
    loaded, path, _ = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    features = np.random.default_rng(tiles).normal(size=(tiles, FEATURES)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    given = dict(zip(names, session.run(None, {"features": features}), strict=True))
    said = predict_bag(loaded.model, features, student_pooling="max", top_k=3, device="cpu")
    expected = {
        "bag_probability": said.teacher_probability,
        "attention": said.attention,
        "attention_logits": said.attention_logits,
        "evidence": said.evidence,
        "instance_probability": said.student.tiles,
        "student_max_probability": said.student.by_max,
        "student_topk_probability": said.student.by_topk,
    }
    assert set(names) == {*expected, "instance_logits", "feature_distance"}
    for name, values in expected.items():
        assert np.abs(given[name] - values).max() <= 1e-4, name
    assert float(np.sort(given["feature_distance"])[(tiles - 1) // 2]) == pytest.approx(
        said.feature_distance, abs=1e-4
    )


def test_the_file_names_what_it_needs_and_no_path(exported):
    _, path, told = exported
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(metadata["classes"]) == ["normal", "tumor"]
    assert json.loads(metadata["thresholds"])["teacher"] == 0.4
    assert json.loads(metadata["out_of_distribution"])["limit"] == 1.5
    assert (metadata["encoder"], metadata["tile_mpp"], metadata["part"]) == ("made_up", "0.5", "both")
    assert metadata["research_only"].startswith("Research only")
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "tiles"
    content = path.read_bytes()
    for secret in (b"dr_house", b"wsi_kd/mil", b"site-packages"):
        assert secret not in content
    assert told.outputs == OUTPUTS["both"]
    assert told.difference <= TOLERANCE


def test_a_distilled_encoder_is_named_without_the_folders_above_it():
    told = onnx_export.file_metadata({"encoder": "distilled:/home/dr_house/small"}, "both")
    assert told["encoder"] == "distilled:small"
    assert "dr_house" not in str(told)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", [name for name in ONE_BAG if name != "gated_abmil"])
def test_every_teacher_is_exported(teacher, tmp_path):
    """Three classes, bags of 1, 7 and 1,000 tiles."""
    told = export_onnx(tmp_path / "m.onnx", drawn_model(teacher, classes=THREE), part="teacher")
    assert told.difference <= TOLERANCE


@pytest.mark.slow
def test_the_student_alone_is_exported_whatever_the_teacher(tmp_path):
    told = export_onnx(tmp_path / "s.onnx", drawn_model("transmil", student_prototypes=2), part="student")
    assert told.difference <= TOLERANCE
    assert "bag_probability" not in told.outputs


@pytest.mark.parametrize(
    ("made", "part", "message"),
    [
        (
            {"teacher": "transmil"},
            "both",
            r"teacher transmil cannot be exported; those that can: abmil, .*--part student",
        ),
        (
            {"teacher": "top_k_pooling", "with_student": False},
            "teacher",
            r"teacher top_k_pooling cannot be exported; those that can: [a-z_, ]*$",
        ),
        (
            {"teacher": "abmil", "with_student": False},
            "both",
            "recipe abmil has no student; .*--part teacher",
        ),
        (
            {"teacher": "abmil", "projector": "cnn_small", "feature_dim": 768},
            "both",
            r"reads pixels \(projector cnn_small\)",
        ),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(made, part, message, tmp_path):
    with pytest.raises(BadInput, match=message) as caught:
        export_onnx(tmp_path / "m.onnx", drawn_model(**made), part=part)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    _without(monkeypatch, package)
    with pytest.raises(
        BadInput, match=rf"the export needs the package {package}; .*pip install wsi-kd\[onnx\]"
    ):
        export_onnx(tmp_path / "m.onnx", drawn_model("abmil"), part="both")


def test_without_onnxruntime_nothing_is_compared(exported, tmp_path, monkeypatch):
    loaded, path, _ = exported
    monkeypatch.setattr(onnx_export, "_encoded", lambda *_: path.read_bytes())
    _without(monkeypatch, "onnxruntime")
    assert export_onnx(tmp_path / "m.onnx", loaded, part="both").difference is None
    assert (tmp_path / "m.onnx").read_bytes() == path.read_bytes()


def test_a_file_that_answers_otherwise_is_not_kept(exported, tmp_path, monkeypatch):
    """The weights change between the translation and the check."""
    _, path, _ = exported
    monkeypatch.setattr(onnx_export, "_encoded", lambda *_: path.read_bytes())
    other = drawn_model("gated_abmil", dropout=0.1)
    other.model.teacher.bag_head.bias.data[1] += 0.01
    with pytest.raises(RunFailed, match=r"m\.onnx: not written: its answers differ"):
        export_onnx(tmp_path / "m.onnx", other, part="both")
    assert not (tmp_path / "m.onnx").exists()


def _without(monkeypatch, package):
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name == package:
            raise ImportError(f"No module named '{name}'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)
