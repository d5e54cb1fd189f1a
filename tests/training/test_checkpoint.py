"""Checkpoints: what is loaded is what was saved, or one clear line."""

import json

import pytest
import torch
from checkpoint_files import MODEL
from safetensors.torch import load_file, save_file

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json, read_json
from wsi_kd.core.provenance import stamp
from wsi_kd.mil.registry import create_model
from wsi_kd.training.checkpoint import load_model, save_model


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = create_model(**MODEL)
    model.scaling.fit(mean=torch.arange(6.0), deviation=torch.full((6,), 2.0))
    save_model(tmp_path, "model", model, header={**stamp("model", {}), "model": MODEL, "fold": 3})
    return tmp_path, model


def rewrite(folder, change):
    """Change the tensors and sign them anew, so that only the fit to the model is wrong."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors")
    header = read_json(folder / "model.json", remake="")
    publish_json(folder / "model.json", {**header, "weights_sha256": file_hash(folder / "model.safetensors")})


def test_round_trip_gives_the_same_bits_in_eval_mode(saved):
    folder, model = saved
    loaded = load_model(folder)
    assert loaded.header["fold"] == 3
    assert not loaded.model.training
    features, offsets = torch.randn(9, 6), torch.tensor([0, 4, 9])
    for ours, theirs in zip(
        loaded.model(features, offsets)[:4], model.eval()(features, offsets)[:4], strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("position", [0, 9, -1])
def test_a_flipped_byte_is_refused(saved, position):
    path = saved[0] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"model.safetensors: not the weights of its header"):
        load_model(saved[0])


def test_an_edited_header_is_refused(saved):
    path = saved[0] / "model.json"
    header = json.loads(path.read_text())
    header["model"]["hidden_dim"] = 7
    path.write_text(json.dumps(header))
    with pytest.raises(BadInput, match=r"model.json: changed or damaged"):
        load_model(saved[0])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "projector.bias"}, r"missing projector\.bias"),
        (lambda t: t | {"extra": torch.zeros(1)}, r"unexpected extra"),
        (lambda t: t | {"projector.bias": torch.zeros(4)}, r"projector\.bias is \(4,\) instead of \(5,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved, change, fault):
    rewrite(saved[0], change)
    with pytest.raises(BadInput, match=fault):
        load_model(saved[0])


def test_absent_files_and_other_artifacts_are_told(saved, tmp_path):
    with pytest.raises(BadInput, match=r"best.json: no such file; make it with: wsi-kd train"):
        load_model(saved[0], name="best")
    (saved[0] / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model.safetensors: no such file"):
        load_model(saved[0])
    publish_json(tmp_path / "model.json", stamp("features", {}))
    with pytest.raises(BadInput, match=r"holds 'features', expected 'model'"):
        load_model(tmp_path)


def test_a_header_that_describes_no_model_is_told(saved):
    header = read_json(saved[0] / "model.json", remake="")
    publish_json(saved[0] / "model.json", {**header, "model": {"teacher": "abmil"}})
    with pytest.raises(BadInput, match=r"member 'model' does not describe a model"):
        load_model(saved[0])
