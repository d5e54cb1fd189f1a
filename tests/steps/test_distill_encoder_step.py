"""A tile encoder distilled by the command, on drawn feature files; then used as any other encoder."""

import json

import numpy as np
import pytest
import torch

from wsi_kd.cli.app import run as run_command
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_table, read_json, read_table
from wsi_kd.core.provenance import stamp
from wsi_kd.features.store import FeatureFile, write_features
from wsi_kd.mil.registry import create_model
from wsi_kd.settings.distill_encoder import DistillEncoderSettings, read_encoder_settings
from wsi_kd.settings.faults import parse
from wsi_kd.settings.slides import EmbedSettings
from wsi_kd.steps.distill_encoder import draw_slides, run_distill_encoder
from wsi_kd.steps.encoder import build_encoder, weights_identity
from wsi_kd.training.checkpoint import save_model

EDGE = 12
TILES = 24
IDS = [f"s{number}" for number in range(6)]


def write_slide(root, number, *, status="ok"):
    """A slide's pixels and the large encoder's three features of them: the mean colors."""
    generator = np.random.default_rng(number)
    color = generator.integers(0, 256, (TILES, 1, 1, 3))
    pixels = (color + generator.integers(-9, 10, (TILES, EDGE, EDGE, 3))).clip(0, 255).astype(np.uint8)
    count = TILES if status == "ok" else 0
    coords = generator.integers(0, 999, (count, 2))
    truth = np.full(count, -1, np.int8)
    common = {**stamp("features", {}), "status": status, "reason": "", "tile_px": EDGE, "tile_mpp": 0.5}
    slide_id = IDS[number]
    header = {**common, "encoder": "pixels", "weights_hash": "p", "feature_dim": 3 * EDGE**2}
    flat = pixels[:count].reshape(count, 3 * EDGE**2)
    write_features(root / "pixels" / f"{slide_id}.h5", FeatureFile(slide_id, flat, coords, truth, header))
    means = (pixels[:count].mean(axis=(1, 2)) * [1.0, 0.01, 100.0] / 255).astype(np.float32)
    large = {**common, "encoder": "big", "encoder_settings": {}, "weights_hash": "w", "feature_dim": 3}
    write_features(root / "large" / f"{slide_id}.h5", FeatureFile(slide_id, means, coords, truth, large))


@pytest.fixture
def root(tmp_path):
    for number in range(5):
        write_slide(tmp_path, number)
    write_slide(tmp_path, 5, status="empty")
    parts = ["train", "train", "train", "val", "test", "excluded"]
    rows = [(slide_id, slide_id, "a", part) for slide_id, part in zip(IDS, parts, strict=True)]
    publish_table(
        tmp_path / "splits.csv",
        ["slide_id", "case_id", "label", "fold_0"],
        rows,
        stamp={**stamp("splits", {}), "classes": ["a", "b"]},
    )
    return tmp_path


def settings_of(root, *, data=None, **sections):
    value = {
        "data": {
            "name": "tiles",
            "pixels_dir": str(root / "pixels"),
            "features_dir": str(root / "large"),
            "splits": str(root / "splits.csv"),
            "batch_size": 8,
            **(data or {}),
        },
        "student": {"model_arguments": {"channels": [4, 6]}},
        "train": {"epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.01}},
        **sections,
    }
    return parse(DistillEncoderSettings, value, where="x")


def run(root, *, out="out", **changes):
    lines = []
    folder = run_distill_encoder(settings_of(root, **changes), out=root / out, say=lines.append)
    return folder, lines


def save_large_model(root, *, with_student=True, **changes):
    torch.manual_seed(0)
    arguments = {"teacher": "abmil", "feature_dim": 3, "classes": 2, "hidden_dim": 4, "attention_dim": 2}
    arguments |= {"dropout": 0.0, "student_hidden_dim": 0, "with_student": with_student}
    facts = {"recipe": "weno", "seed": 0, "fold": 0, "weights_hash": "w", "model": arguments}
    header = {**stamp("model", {}), **facts, **changes}
    save_model(root / "model", "model", create_model(**arguments), header=header)
    return str(root / "model")


def test_the_folder_is_an_encoder_for_any_run(root):
    folder, lines = run(root)
    assert [line.partition(":")[0] for line in lines] == [f"student, epoch {e} of 3" for e in (1, 2, 3)]
    embed = EmbedSettings(encoder=f"distilled:{folder}", device="cpu")
    encoder = build_encoder(embed)
    tiles = np.random.default_rng(0).integers(0, 256, (3, EDGE, EDGE, 3), dtype=np.uint8)
    assert encoder(tiles).shape == (3, 6)
    sha256 = file_hash(folder / "encoder.safetensors")
    assert encoder.weights_hash == sha256
    assert weights_identity(embed) == {"weights_sha256": sha256}
    header = read_json(folder / "encoder.json", remake="")
    assert header["learned_from"]["encoder"] == "big"
    assert header["learned_from"]["weights_hash"] == "w"
    assert header["slides"] == {"train": 3, "val": 1}
    assert header["tiles"] == {"train": 72, "val": 24}
    assert header["settings"]["data"]["pixels_dir"] == "pixels"
    assert str(root) not in json.dumps(header)
    history = read_table(folder / "history.csv", remake="")
    assert [row["epoch"] for row in history] == ["0", "1", "2"]
    losses = [float(row["val_loss"]) for row in history]
    assert header["validation_loss"] == pytest.approx(min(losses))
    assert header["best_epoch"] == losses.index(min(losses))


def test_slides_that_are_tested_on_are_not_read(root):
    (root / "pixels" / "s4.h5").write_bytes(b"")
    (root / "large" / "s4.h5").write_bytes(b"")
    assert (run(root)[0] / "encoder.json").is_file()


def test_the_same_settings_give_the_same_encoder_and_are_not_trained_twice(root):
    first = run(root, out="a")[0]
    other = run(root, out="b")[0]
    weights = (first / "encoder.safetensors").read_bytes()
    assert weights == (other / "encoder.safetensors").read_bytes()
    assert run(root, out="a")[1] == []
    assert (first / "encoder.safetensors").read_bytes() == weights


def test_a_teacher_computes_what_is_not_stored(root):
    folder, _ = run(
        root, data={"features_dir": None}, teacher={"encoder": "stain_texture"}, train={"epochs": 1}
    )
    told = read_json(folder / "encoder.json", remake="")["learned_from"]
    assert (told["encoder"], told["feature_dim"]) == ("stain_texture", 100)


def test_without_splits_slides_are_drawn_whole(root):
    (root / "pixels" / "s5.h5").unlink()
    settings = settings_of(root, data={"splits": None, "val": 0.4, "seed": 3})
    parts = draw_slides(settings.data)
    assert (len(parts.train), len(parts.val), parts.test) == (3, 2, ())
    assert set(parts.train) | set(parts.val) == set(IDS[:5])
    again = draw_slides(settings_of(root, data={"splits": None, "val": 0.4, "seed": 3}).data)
    assert again == parts


@pytest.mark.parametrize(("with_student", "classes"), [(True, 1), (False, 2)])
def test_logits_are_those_of_a_trained_model(root, with_student, classes):
    model = save_large_model(root, with_student=with_student)
    criteria = [{"type": "bkd", "activation": "sigmoid"}, {"type": "hint", "weight": 0.1}]
    folder, lines = run(root, model=model, criteria=criteria)
    assert "bkd" in lines[0]
    assert "hint" in lines[0]
    told = read_json(folder / "encoder.json", remake="")["learned_from"]["model"]
    assert told["weights_sha256"] == file_hash(root / "model" / "model.safetensors")
    assert (told["recipe"], classes) == ("weno", 1 if with_student else 2)
    assert build_encoder(EmbedSettings(encoder=f"distilled:{folder}", device="cpu")).feature_dim == 6


def rewrite(root, number, *, folder="large", **header):
    from wsi_kd.features.store import read_features

    path = root / folder / f"{IDS[number]}.h5"
    file = read_features(path)
    coords = file.coords + header.pop("shift", 0)
    kept = {key: value for key, value in file.header.items() if key not in {"body_sha256", "content_sha256"}}
    write_features(path, file._replace(coords=coords, header={**kept, **header}))


@pytest.mark.parametrize(
    ("breaks", "line"),
    [
        (lambda root: rewrite(root, 1, shift=5), "large/s1.h5: other tiles than those of the pixels"),
        (lambda root: rewrite(root, 1, weights_hash="v"), "s1.h5: weights_hash v instead of w"),
        (lambda root: rewrite(root, 0, folder="pixels", encoder="big"), "expected the tiles' pixels"),
        (lambda root: (root / "large" / "s1.h5").unlink(), "s1.h5: no such file"),
    ],
)
def test_files_that_do_not_fit_together_are_one_line(root, breaks, line):
    breaks(root)
    with pytest.raises(BadInput, match=line) as caught:
        run(root)
    assert "\n" not in str(caught.value)
    assert not (root / "out" / "encoder.json").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data": {"fold": 1}}, "splits.csv: no fold 1; it holds folds 0 to 0"),
        ({"data": {"pixels_dir": "absent"}, "student": {}}, "absent: no feature files"),
        ({"student": {"encoder": "stain_texture"}}, "student.encoder 'stain_texture' is no network"),
        ({"student": {"encoder": "tile_cmm"}}, "unknown encoder 'tile_cmm'"),
        ({"criteria": [{"type": "ce"}]}, "criterion 'ce': it needs labels, and tiles have none"),
        ({"criteria": [{"type": "kd"}]}, "criterion 'kd': it reads logits; set `model`"),
        ({"criteria": [{"type": "hnt"}]}, "unknown criterion 'hnt'"),
    ],
)
def test_what_cannot_be_distilled_is_one_line(root, changes, line):
    if changes.get("data", {}).get("pixels_dir"):
        changes = {**changes, "data": {**changes["data"], "splits": None}}
    with pytest.raises(BadInput, match=line):
        run(root, **changes)


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ({"weights_hash": "v"}, "trained on features of weights v, these are of w"),
        ({"fold": 1}, "a model of fold 1, data.fold is 0: it has learned from slides"),
    ],
)
def test_a_model_of_another_run_is_refused(root, model, line):
    folder = save_large_model(root, **model)
    with pytest.raises(BadInput, match=line):
        run(root, model=folder, criteria=[{"type": "bkd", "activation": "sigmoid"}])


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {"teacher": {"encoder": "stain_texture"}},
            "or computed .teacher.; set one of the two",
        ),
        ({"data": {"features_dir": None}}, "set one of the two"),
        ({"criteria": [{"type": "hint", "layers": ["a", "b"]}]}, "criterion hint: layers are fixed here"),
        ({"data": {"pixel_dir": "p"}}, "unknown key 'data.pixel_dir' .did you mean 'pixels_dir'"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(root, sections, line):
    with pytest.raises(BadInput, match=line) as caught:
        settings_of(root, **sections)
    assert "\n" not in str(caught.value)


def test_the_command_takes_the_file(root, tmp_path, capsys):
    config = tmp_path / "tile_encoder.yaml"
    config.write_text(json.dumps(settings_of(root).model_dump(mode="json")))
    arguments = [
        "distill",
        "--config",
        str(config),
        "--out",
        str(tmp_path / "made"),
        "--set",
        "train.epochs=1",
    ]
    assert run_command(arguments) == 0
    assert f"use it with embed.encoder: distilled:{tmp_path / 'made'}" in capsys.readouterr().out
    assert (tmp_path / "made" / "encoder.json").is_file()
    assert read_encoder_settings(config, changes=["train.epochs=1"]).train.epochs == 1


@pytest.mark.shared_data
def test_mobilenet_teaches_real_tiles(root, shared_data):
    weights = shared_data / "weights" / "mobilenet_v2_imagenet_q8dequant_fp16.pt"
    teacher = {
        "encoder": "torchvision:mobilenet_v2",
        "weights": str(weights),
        "input_px": 32,
        "pixel_mean": [0.5, 0.5, 0.5],
        "pixel_std": [0.5, 0.5, 0.5],
        "device": "cpu",
    }
    folder, lines = run(root, data={"features_dir": None}, teacher=teacher, train={"epochs": 8, "seed": 1})
    told = read_json(folder / "encoder.json", remake="")["learned_from"]
    assert (told["feature_dim"], told["weights_hash"]) == (1280, file_hash(weights))
    losses = [float(line.rpartition(" ")[2]) for line in lines]
    assert min(losses) < 0.9 * losses[0]
