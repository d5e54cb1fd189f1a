"""The table's facts hold together, with timm's networks, and with the page that shows them."""

import json
from pathlib import Path

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.features.encoder_notes import encoder_notes, scale_note
from wsi_kd.features.encoder_table import (
    ENCODERS,
    as_json,
    find_row,
    markdown_table,
    refuse_other_settings,
    tokens_told,
)
from wsi_kd.features.encoders import check_encoder_name
from wsi_kd.features.known_network import build_known
from wsi_kd.features.network import create_architecture

PAGE = Path(__file__).resolve().parents[2] / "docs/encoders.md"
ASKED = [
    "uni",
    "uni2_h",
    "conch",
    "conch_v1_5",
    "virchow",
    "virchow2",
    "gigapath",
    "h_optimus_0",
    "h_optimus_1",
    "h0_mini",
    "hibou_b",
    "hibou_l",
    "phikon",
    "phikon_v2",
    "ctranspath",
    "kaiko_vits8",
    "kaiko_vits16",
    "kaiko_vitb8",
    "kaiko_vitb16",
    "kaiko_vitl14",
    "lunit_vits8",
    "lunit_vits16",
]


def test_every_encoder_is_there_under_its_own_name():
    assert sorted(ENCODERS) == sorted(ASKED)
    assert all(row.name == name for name, row in ENCODERS.items())
    hubs = [row.hub for row in ENCODERS.values() if row.hub]
    assert len(set(hubs)) == len(hubs)
    assert all(hub.count("/") == 1 for hub in hubs)


@pytest.mark.parametrize("row", ENCODERS.values(), ids=list(ENCODERS))
def test_facts_of_a_row_hold_together(row):
    network, sight, scale = row.network, row.sight, row.scale
    registers = int(network.arguments.get("reg_tokens", 4 if "_reg4_" in network.timm_name else 0))
    assert network.prefix_tokens == (0 if network.build == "ctranspath" else 1 + registers)
    assert sight.resize_px >= sight.input_px
    assert all(0 < deviation <= 0.5 for deviation in sight.pixel_std)
    assert all(0.4 < mean < 0.75 for mean in sight.pixel_mean)
    assert scale.mpp in scale.trained_mpp
    assert row.files
    assert row.page.startswith("https://")
    assert row.paper.startswith("https://")
    assert row.license.gated <= bool(row.hub)
    check_encoder_name(row.name)


def test_the_page_holds_the_table():
    """`wsi-kd encoders --markdown` prints what the page must hold."""
    assert markdown_table() in PAGE.read_text(encoding="utf-8")
    assert markdown_table().count("\n") == 2 + len(ENCODERS)


def test_rows_are_json():
    facts = json.loads(json.dumps(as_json(ENCODERS["virchow2"])))
    assert facts["feature_dim"] == 2560
    assert facts["model_arguments"]["mlp_layer"] == "swiglu"
    assert facts["trained_mpp"] == [2.0, 1.0, 0.5, 0.25]
    assert (facts["commercial_use"], facts["gated"]) == (False, True)
    assert (
        tokens_told(ENCODERS["virchow2"]) == "class token, then mean patch token, 4 register tokens skipped"
    )


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'uni2_h'"):
        find_row("uni2-h")
    with pytest.raises(BadInput, match=r"known: .*virchow.* \(did you mean 'virchow"):
        check_encoder_name("virchov")
    with pytest.raises(BadInput, match="'gigapath'") as caught:
        check_encoder_name("GigaPath")
    assert len(str(caught.value)) < 300


def test_settings_that_an_encoder_fixes_are_refused():
    with pytest.raises(BadInput, match=r"takes no embed\.pixel_mean, embed\.model_arguments") as caught:
        refuse_other_settings(
            ENCODERS["uni"], pixel_mean=(0.5, 0.5, 0.5), pixel_std=None, model_arguments={"depth": 2}
        )
    assert "vit_large_patch16_224" in str(caught.value)
    refuse_other_settings(ENCODERS["uni"], pixel_mean=None, model_arguments={})


@pytest.mark.parametrize(
    ("name", "tile_mpp", "tile_px", "told"),
    [
        ("uni", 0.5, 256, None),
        ("uni", 0.5, 224, None),
        ("uni", 0.59, 256, None),
        ("uni", 0.61, 256, "tiles are 0.61 um/px, it was trained at 0.5"),
        ("uni", 0.25, 512, "tiles are 0.25 um/px"),
        ("uni", 0.5, 512, "seen at 1.1 um/px"),
        ("h_optimus_0", 0.5, 256, None),
        ("conch", 0.5, 256, "seen at 0.29 um/px"),
        ("virchow2", 1.0, 224, None),
        ("virchow2", 0.35, 224, "trained at 2, 1, 0.5, 0.25"),
        ("ctranspath", 0.5, 256, "set tile.tile_mpp: 1 and tile.tile_px: 256"),
    ],
)
def test_tiles_of_another_scale_are_noted(name, tile_mpp, tile_px, told):
    """20 % of resolution may differ, of the tiles and of what the network sees of them."""
    note = scale_note(ENCODERS[name], tile_mpp=tile_mpp, tile_px=tile_px)
    assert note is None if told is None else told in note
    assert encoder_notes(name, tile_mpp=tile_mpp, tile_px=tile_px) == ([] if note is None else [note])


def test_encoders_of_no_table_have_no_notes():
    assert encoder_notes("resnet50.a1_in1k", tile_mpp=4.0, tile_px=64) == []
    assert encoder_notes("hf-hub:owner/model", tile_mpp=4.0, tile_px=64) == []


def test_a_hub_name_of_the_table_is_told_the_short_one():
    """timm gives all tokens of Virchow2, which is no vector."""
    (note,) = encoder_notes("hf-hub:paige-ai/virchow2", tile_mpp=0.5, tile_px=224)
    assert "embed.encoder: virchow2 feeds it" in note


@pytest.mark.slow
@pytest.mark.parametrize("row", ENCODERS.values(), ids=list(ENCODERS))
def test_full_size_networks_have_the_published_number_of_parameters(row):
    """On the meta device, which holds no numbers: a wrong depth, width or token count would show."""
    network = build_known(row, without_weights=True)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert millions == pytest.approx(row.network.parameters, rel=0.005)
    with torch.device("meta"):
        pixels = torch.empty(1, 3, row.sight.input_px, row.sight.input_px)
    if row.network.build == "ctranspath":
        pixels = torch.zeros(pixels.shape)
    with torch.inference_mode():
        assert network.eval()(pixels).shape == (1, row.network.feature_dim)


def test_a_row_is_an_architecture_with_new_weights_too():
    arguments = {"depth": 1, "embed_dim": 48, "num_heads": 3}
    found = create_architecture("phikon", model_arguments=arguments, pretrained=False)
    assert (found.input_px, found.classifier) == (224, ("head.",))
    assert found.network(torch.zeros(1, 3, 224, 224)).shape == (1, 48)
