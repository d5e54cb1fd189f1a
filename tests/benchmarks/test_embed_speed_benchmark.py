"""The embedding benchmark: parts read and encode the tiles that they claim, ratios are those of one turn."""

import json

import numpy as np
import pytest
import torch

import embed_parts
import embed_profile
import embed_speed
from embed_parts import Speed, Taking, TakingTiles
from large_slide import draw_large_slide
from wsi_kd.features.encoders import PreparedEncoder, StainTextureEncoder


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.svs"
    draw_large_slide(path, edge_px=1024, piece_px=512, tile_px=256)
    return path


@pytest.fixture(scope="module")
def encoder():
    return embed_parts.build("test_vit", precision="float32", device="cpu")


def test_each_part_is_done_with_the_tiles_that_it_counts(slide, encoder):
    coords = embed_parts.grid(slide, tiles=10)
    assert coords[:5].tolist() == [[0, 0], [256, 0], [512, 0], [768, 0], [0, 256]]
    assert embed_parts.bare_reader(slide, coords, workers=2)() == 10
    assert embed_parts.whole_line([slide] * 3, coords, TakingTiles(), workers=2)() == 30
    assert embed_parts.whole_line([slide] * 3, coords, Taking(encoder), workers=2)() == 30
    assert embed_parts.embed_only(StainTextureEncoder(), tiles=40, workers=2)() == 32
    assert embed_parts.embed_only(encoder, tiles=130, workers=2)() == 128
    passes = []
    hook = encoder.network.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].shape))
    assert embed_parts.bare_network(encoder, tiles=40)() == 32
    hook.remove()
    assert passes == [torch.Size((16, 3, 160, 160))] * 2


def test_what_takes_batches_gets_them_as_the_encoder_would(encoder):
    taking = Taking(encoder)
    assert isinstance(taking, PreparedEncoder)
    tiles = np.random.default_rng(0).integers(0, 256, (3, 200, 200, 3), dtype=np.uint8)
    batch = taking.batch_array(4)
    taking.prepare(tiles, batch[:3])
    assert batch.shape == (4, 160, 160, 3)
    assert np.array_equal(encoder.begin(batch, 3)(), encoder(tiles))
    assert taking.begin(batch, 3)().tolist() == batch[:3, 0, 0, :1].tolist()


def test_the_truncated_resnet_ends_after_its_third_block():
    found = embed_parts.build(embed_parts.TRUNCATED, precision="bfloat16", device="cpu")
    assert (found.feature_dim, found.dtype) == (1024, torch.bfloat16)


def test_ratios_are_those_of_one_turn_and_goals_stand_beside_them():
    found = {
        embed_speed.BARE: [Speed(100.0, 50.0), Speed(10.0, 40.0), Speed(100.0, 100.0)],
        embed_speed.HANDED: [Speed(90.0, 30.0), Speed(8.0, 20.0), Speed(50.0, 40.0)],
    }
    rows = list(embed_speed.rows_of("e", found))
    assert rows[0] == ["e", embed_speed.BARE, 100.0, None, None, None, None]
    assert rows[1] == ["e", embed_speed.HANDED, 50.0, embed_speed.BARE, 0.8, 0.5, 0.8]


def test_what_the_parts_do_not_explain_is_the_rest():
    """Tiles a second of 5,000, 10,000, 8,000 and 2,000 are 200, 100, 125 and 500 us a tile."""
    rates = {
        embed_profile.READ: 5e3,
        embed_profile.MEASURE: 1e4,
        embed_profile.RESIZE: 8e3,
        embed_profile.LINE: 2e3,
    }
    found = {part: [Speed(1.0, rate)] for part, rate in rates.items()}
    rows = list(embed_profile.laid_out("e", found))
    assert [row[1] for row in rows] == [*list(rates)[:3], embed_profile.REST, embed_profile.LINE]
    assert [row[2] for row in rows] == pytest.approx([200, 100, 125, 75, 500])
    assert [row[3] for row in rows] == pytest.approx([0.4, 0.2, 0.25, 0.15, 1])


def test_only_encoders_that_resize_have_that_part(slide, encoder):
    few = {"slide": slide, "coords": embed_parts.grid(slide, tiles=5), "workers": 0, "turns": 1}
    resized = embed_profile.profile_rows("e", encoder, **few)
    assert embed_profile.RESIZE in [row[1] for row in resized]
    plain = embed_profile.profile_rows("e", StainTextureEncoder(), **few)
    assert embed_profile.RESIZE not in [row[1] for row in plain]


def test_the_figures_are_written_and_a_missing_gpu_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embed_speed, "start_up_ms", lambda *_, **__: 1.5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "speed.json"
    embed_speed.main(
        [
            "--quick",
            "--encoders",
            "stain_texture",
            "--out",
            str(tmp_path),
            "--json",
            str(out),
            "--workers",
            "1",
        ]
    )
    record = json.loads(out.read_text())
    parts = [row[1] for row in record["tables"]["parts"]["rows"]]
    assert parts == [
        embed_speed.BARE,
        embed_speed.PLAIN,
        embed_speed.HANDED,
        embed_speed.ONLY,
        embed_speed.ALL,
    ]
    assert all(row[2] > 0 for row in record["tables"]["parts"]["rows"])
    assert record["tables"]["start_up"]["rows"] == [[3, 64, 1.5]]
    assert record["tables"]["gpu"]["rows"] == []
    assert [row[1] for row in record["tables"]["tile_profile"]["rows"]][-2:] == [
        embed_profile.REST,
        embed_profile.LINE,
    ]
    assert "GPU: skipped, torch sees none" in capsys.readouterr().out
