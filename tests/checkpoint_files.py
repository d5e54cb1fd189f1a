"""Every kind of checkpoint in one folder, and what each says when it is loaded."""

from pathlib import Path
from typing import Any

import torch

from wsi_kd.core.provenance import stamp
from wsi_kd.core.tensors import tensors_hash
from wsi_kd.features.distilled import EncoderForm, read_encoder_header
from wsi_kd.features.distilled_network import build_network, load_encoder, save_encoder
from wsi_kd.mil.registry import create_model
from wsi_kd.training.checkpoint import load_model, save_model
from wsi_kd.training.state import STATE_NAME, TrainingState, restore_state, save_state

MODEL = {
    "teacher": "gated_abmil",
    "feature_dim": 6,
    "classes": 2,
    "hidden_dim": 5,
    "attention_dim": 4,
    "dropout": 0.5,
    "student_hidden_dim": 3,
    "with_student": True,
}
FORM = EncoderForm("tile_cnn", {"channels": [4, 6]}, 12, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
RUN_HASH = "r" * 64
FILES = {
    "model": ("model.safetensors", "model.json"),
    "last": ("last.safetensors", "last.json"),
    "encoder": ("encoder.safetensors", "encoder.json"),
    "state": (STATE_NAME,),
}


def fresh_state() -> TrainingState:
    torch.manual_seed(1)
    model = create_model(**MODEL)
    return TrainingState(model, torch.optim.AdamW(model.parameters()), torch.Generator().manual_seed(3))


def load(kind: str, folder: Path) -> Any:
    """Load one kind of file, and return all that it says as something that can be compared."""
    if kind in {"model", "last"}:
        loaded = load_model(folder, name=kind)
        return loaded.header, tensors_hash(loaded.model.state_dict())
    if kind == "encoder":
        encoder = load_encoder(folder, name="e", precision="float32", device="cpu")
        return (
            read_encoder_header(folder)._replace(weights_path=Path()),
            encoder.weights_hash,
            str(encoder.settings),
        )
    state, before = fresh_state(), torch.get_rng_state()
    try:
        if not restore_state(state, folder, run_hash=RUN_HASH):
            return "of another run"
        return state.epoch, state.history, state.selected_loss, tensors_hash(state.model.state_dict())
    finally:
        torch.set_rng_state(before)


def save_all(folder: Path) -> Path:
    """Write a model, another as its last epoch, an encoder, and the state of a training."""
    for seed, name in enumerate(("model", "last")):
        torch.manual_seed(seed)
        model = create_model(**MODEL)
        save_model(folder, name, model, header={**stamp("model", {}), "model": MODEL, "fold": seed})
    torch.manual_seed(2)
    network = build_network(FORM.network, FORM.model_arguments)
    save_encoder(folder, network.state_dict(), form=FORM, feature_dim=6, settings={"a": 1}, facts={"b": 2})
    state = fresh_state()
    state.epoch, state.selected_epoch, state.selected_loss = 7, 3, 0.25
    state.history = [{"epoch": 6, "train_teacher_loss": 0.5}]
    state.selected_weights = {name: value.clone() for name, value in state.model.state_dict().items()}
    save_state(state, folder, run_hash=RUN_HASH)
    return folder
