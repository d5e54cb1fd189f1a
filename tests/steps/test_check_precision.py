"""`check-precision`: numbers against ones computed apart, what is refused, and what is asked for in vain."""

import re
import shutil
from pathlib import Path

import numpy as np
import openslide
import pytest
import torch
from precision_runs import FORM, make_run
from safetensors.torch import load_file

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.features.distilled_network import build_network
from wsi_kd.features.precision_gate import LEAST_COSINE
from wsi_kd.features.store import write_features
from wsi_kd.inference.logit_gate import LARGEST_CHANGE, judge
from wsi_kd.settings.all import parse_settings
from wsi_kd.steps.precision_models import EncodedSlide, load_checked, slide_change
from wsi_kd.steps.precision_slides import pick_slides
from wsi_kd.training.checkpoint import load_model

DOC = Path(__file__).resolve().parents[2] / "docs" / "outputs.md"
GAIN = 300.0
"""Of a model whose logits bfloat16 moves by several hundredths though no cosine falls below 0.9999."""


@pytest.fixture(scope="module")
def fine(synthetic_cohort, tmp_path_factory):
    """A run in bfloat16 that both gates let through."""
    run = make_run(tmp_path_factory.mktemp("fine") / "run", synthetic_cohort, precision="bfloat16")
    run.save_model("weno")
    run.save_model("abmil", gain=GAIN)
    return run


@pytest.fixture(scope="module")
def ruined(synthetic_cohort, tmp_path_factory):
    """A run in float32 on a network of large activations, of which bfloat16 leaves little."""
    run = make_run(tmp_path_factory.mktemp("ruined") / "run", synthetic_cohort, offset=1000.0)
    run.save_model("weno")
    return run


@pytest.fixture
def copied(fine, tmp_path):
    """The fine run, to be changed."""
    return fine._replace(root=shutil.copytree(fine.root, tmp_path / "run"))


def record_of(run):
    return read_json(run.root / "evaluation" / "precision.json", remake="")


def logits_by_hand(run, slide_id, recipe, dtype, *, tiles):
    """Read every tile through OpenSlide, encode it in torch, and score it by the model alone."""
    row = next(row for row in run.manifest.rows if row.slide_id == slide_id)
    coords = run.features(slide_id).coords
    coords = coords[[place * len(coords) // tiles for place in range(tiles)]]
    with openslide.open_slide(row.path) as slide:
        pixels = [np.asarray(slide.read_region(tuple(xy), 0, (64, 64)).convert("RGB")) for xy in coords]
    network = build_network(FORM.network, FORM.model_arguments).eval()
    folder = Path(run.sections["embed"]["encoder"].removeprefix("distilled:"))
    network.load_state_dict(load_file(folder / "encoder.safetensors"))
    colors = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255.0
    mean, std = (torch.tensor(value)[:, None, None] for value in (FORM.pixel_mean, FORM.pixel_std))
    model = load_model(run.model_dir(recipe)).model
    with torch.no_grad():
        features = network.to(dtype)(((colors - mean) / std).to(dtype)).float()
        output = model(features, torch.tensor([0, tiles]))
    student = [] if output.instance_logits is None else [output.instance_logits.topk(3, dim=0).values.mean()]
    return features.numpy(), [*output.bag_logits[0].tolist(), *map(float, student)]


@pytest.mark.parametrize(("recipe", "tolerance"), [("weno", 1e-4), ("abmil", 5e-3)])
def test_the_numbers_are_those_computed_apart(fine, recipe, tolerance):
    checked = fine.check(fine.model_dir(recipe), slides=1, tiles=20)
    (slide,) = checked.slides
    exact, of_exact = logits_by_hand(fine, slide.slide_id, recipe, torch.float32, tiles=20)
    found, of_found = logits_by_hand(fine, slide.slide_id, recipe, torch.bfloat16, tiles=20)
    assert [one.exact for one in slide.logits] == pytest.approx(of_exact, abs=tolerance)
    assert [one.found for one in slide.logits] == pytest.approx(of_found, abs=tolerance)
    cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert 1 - slide.least_cosine == pytest.approx(1 - cosines.min(), rel=0.2)
    assert 1 - slide.mean_cosine == pytest.approx(1 - cosines.mean(), rel=0.2)
    assert slide.stored_cosine == pytest.approx(1.0, abs=1e-9)
    assert [one.stored for one in slide.logits] == pytest.approx(
        [one.found for one in slide.logits], abs=1e-6
    )
    assert max(one.change for one in slide.logits) > tolerance


def test_a_run_that_passes_leaves_a_file_that_says_so(fine):
    checked = fine.check(fine.model_dir("weno"))
    record = record_of(fine)
    assert (record["passed"], record["fault"], checked.verdict.fault) == (True, "", "")
    assert (record["dtype"], record["compiled"], record["device"]) == ("bfloat16", False, "cpu")
    assert record["limits"] == {"least_cosine": LEAST_COSINE, "largest_change": LARGEST_CHANGE}
    assert [(one["slide_id"], one["part"], one["label"]) for one in record["slides"]] == [
        ("case00_0", "test", "normal"),
        ("case01_0", "test", "tumor"),
        ("case02_0", "val", "normal"),
        ("case03_0", "val", "tumor"),
    ]
    for one in record["slides"]:
        in_file = len(fine.features(one["slide_id"]).coords)
        assert (one["tiles"], one["tiles_in_file"]) == (8, in_file)
        assert in_file > 50
    changes = [one["change"] for slide in record["slides"] for one in slide["logits"]]
    assert 0 < max(changes) == record["largest_change"] == checked.verdict.largest_change < LARGEST_CHANGE
    assert 0 < record["largest_rounding_change"] < record["largest_change"]
    assert LEAST_COSINE < record["least_cosine"] < 1
    assert record["models"] == [
        {
            "model": "weno/seed0/fold0",
            "in_run": True,
            "weights_sha256": load_model(fine.model_dir("weno")).header["weights_sha256"],
        }
    ]
    first = (fine.root / "evaluation" / "precision.json").read_bytes()
    fine.check(fine.model_dir("weno"))
    assert (fine.root / "evaluation" / "precision.json").read_bytes() == first
    assert str(fine.root.parent).encode() not in first


def test_logits_may_move_though_every_cosine_is_high(fine):
    verdict = fine.check(fine.model_dir("weno"), fine.model_dir("abmil")).verdict
    assert verdict.least_cosine > 0.9999
    told = re.fullmatch(
        r"case0\d_0: abmil/seed0/fold0, the teacher's logit of '(normal|tumor)' is -?[\d.]+, in float32 "
        r"-?[\d.]+: a change of ([\d.]+), 0\.01 is allowed",
        verdict.fault,
    )
    assert told is not None
    assert float(told[2]) == pytest.approx(verdict.largest_change, abs=1e-4)
    assert record_of(fine)["passed"] is False
    assert {one["model"] for slide in record_of(fine)["slides"] for one in slide["logits"]} == {
        "weno/seed0/fold0",
        "abmil/seed0/fold0",
    }


def test_what_bfloat16_would_do_to_a_run_in_float32(ruined):
    assert "ask what bfloat16 would change with: --precision bfloat16" in ruined.check().nothing
    assert not (ruined.root / "evaluation").exists()
    verdict = ruined.check(precision="bfloat16").verdict
    assert verdict.least_cosine < LEAST_COSINE
    assert "those in float32, 0.999 is needed" in verdict.fault
    assert verdict.largest_change > LARGEST_CHANGE
    assert verdict.least_stored_cosine == pytest.approx(1.0, abs=1e-9)  # of the file with float32
    assert verdict.largest_stored_change == pytest.approx(verdict.largest_rounding_change, abs=1e-7)
    assert {one["embedded_in"] for one in record_of(ruined)["slides"]} == {"auto"}


def test_a_file_that_holds_something_else_is_told(copied):
    made = copied.features("case01_0")
    other = made._replace(features=made.features[::-1].copy())
    write_features(copied.root / "features" / "case01_0.h5", other)
    verdict = copied.check().verdict
    assert verdict.is_of_file
    assert verdict.fault.startswith("case01_0: its feature file does not hold what the encoder gives now")
    assert verdict.largest_change < LARGEST_CHANGE


def test_a_file_of_a_third_precision_is_compared_with_neither_encoding(fine):
    """As on a GPU, where a run in bfloat16 is asked about compiling in float32."""
    rows = [(row, "test") for row in fine.manifest.rows if row.slide_id == "case01_0"]
    (slide,) = pick_slides(
        rows, features_dir=fine.root / "features", classes=fine.manifest.classes, slides=1, tiles=3
    )
    models = load_checked(
        [fine.model_dir("weno")],
        fine.root / "models",
        classes=fine.manifest.classes,
        device=torch.device("cpu"),
    )
    exact = np.ones((3, 6), np.float32)
    change = slide_change(EncodedSlide(slide, exact, 2 * exact, None), models)
    assert (change.stored_cosine, change.tiles) == (None, 3)
    assert change.least_cosine == pytest.approx(1.0)
    assert judge([change]).least_stored_cosine is None


@pytest.mark.parametrize(
    ("embed", "told"),
    [
        ({"encoder": "stain_texture"}, "encoder 'stain_texture' is no network"),
        ({"encoder": "pixels", "input_px": 16}, "encoder 'pixels' is no network"),
        ({"precision": "float32"}, "embed.precision float32 is float32 on cpu and embed.compile is off"),
        ({"precision": "auto"}, "embed.precision auto is float32 on cpu and embed.compile is off"),
    ],
)
def test_where_nothing_is_to_be_checked_nothing_is_read(fine, embed, told, tmp_path):
    nowhere = fine._replace(root=tmp_path / "nowhere")
    checked = nowhere.check(embed=embed)
    assert told in checked.nothing
    assert (checked.verdict, checked.slides, nowhere.root.exists()) == (None, (), False)


def test_pixels_in_fewer_bits_are_pixels_still(fine):
    embed = {"encoder": "pixels", "input_px": 16}
    assert "change nothing" in fine.check(embed=embed, precision="bfloat16").nothing


def test_features_of_another_program_are_refused(fine):
    settings = parse_settings({"adopt": {"folder": "theirs"}}, where="test")
    run = fine._replace(sections={**fine.sections, "adopt": settings.adopt.model_dump(mode="json")})
    with pytest.raises(BadInput, match=r"^adopt\.folder: another program made the features"):
        run.check()


def test_models_that_do_not_belong_there_are_refused(copied):
    other_fold = copied.save_model("weno", fold=1)
    with pytest.raises(BadInput, match=r"fold1: of fold 1, .*fold0 is of fold 0: .*give models of one fold"):
        copied.check(copied.model_dir("weno"), other_fold)
    three = copied.save_model("weno", seed=5, classes=["normal", "low", "high"])
    with pytest.raises(BadInput, match=r"trained on the classes .*give the run that it was trained in"):
        copied.check(three)
    foreign = copied.save_model("weno", seed=6, weights_hash="other")
    with pytest.raises(BadInput, match=r"case00_0: the features have weights_hash .*trained on 'other'"):
        copied.check(foreign)
    with pytest.raises(BadInput, match=r"model\.json: no such file; make it with: wsi-kd train"):
        copied.check(copied.model_dir("absent"))


def test_a_model_that_lies_elsewhere_is_checked_too(copied, tmp_path):
    elsewhere = copied.save_model("weno", folder=tmp_path / "narrow")
    copied.check(elsewhere)
    assert record_of(copied)["models"][0]["in_run"] is False


def test_every_member_is_documented(fine):
    fine.check()
    record = record_of(fine)
    slide, model = record["slides"][0], record["models"][0]
    names = {*record, *slide, *model, *slide["logits"][0], *record["limits"]}
    names -= {"schema_version", "kind", "settings", "settings_hash", "versions"}
    (text,) = re.findall(r"^### Precision\n(.*?)(?=^##|\Z)", DOC.read_text(), flags=re.MULTILINE | re.DOTALL)
    marked = {name for found in re.findall(r"`([^`]+)`", text) for name in re.split(r"[,\s]+", found)}
    assert names - marked == set()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_compiled_features_on_a_gpu_are_held_against_float32(synthetic_cohort, tmp_path):
    """There auto is bfloat16, and a file embedded so holds what the encoder gives, compiled or not."""
    run = make_run(tmp_path / "run", synthetic_cohort, device="cuda")
    run.save_model("weno")
    verdict = run.check(compiled=True).verdict
    record = record_of(run)
    assert (record["dtype"], record["compiled"]) == ("bfloat16", True)
    assert record["device"] == torch.cuda.get_device_name()
    assert LEAST_COSINE < verdict.least_cosine < 1
    assert verdict.least_stored_cosine > LEAST_COSINE
    assert run.check(embed={"precision": "float32"}, compiled=True).verdict.least_stored_cosine is None
