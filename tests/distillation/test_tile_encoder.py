"""Distilling a tile encoder: both sides by their formulas, what is learned, resumed, and refused."""

import pytest
import torch
from safetensors.torch import load_file

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.optimizers import optimizer_factory
from wsi_kd.distillation.sources.tiles import TileSet
from wsi_kd.distillation.task import TrainPlan
from wsi_kd.distillation.tile_encoder import (
    EncoderTask,
    LargeSide,
    SmallSide,
    Turned,
    check_criteria,
    distill_encoder,
    tile_loader,
)
from wsi_kd.features.distilled import EncoderForm
from wsi_kd.features.distilled_network import build_network
from wsi_kd.kd import LOSSES

FORM = EncoderForm("tile_cnn", {"channels": [6, 8]}, 10, (0.5, 0.5, 0.5), (0.5, 0.25, 0.5))


def drawn_tiles(seed, count=96, *, classes=0):
    """Tiles of one color each; the large side's features are known functions of it, on different scales."""
    generator = torch.Generator().manual_seed(seed)
    color = torch.randint(0, 256, (count, 1, 1, 3), generator=generator)
    noise = torch.randint(-20, 21, (count, 10, 10, 3), generator=generator)
    pixels = (color + noise).clamp(0, 255).to(torch.uint8)
    mean = pixels.float().mean(dim=(1, 2)) / 255.0
    features = torch.stack(
        [mean[:, 0] * 100.0, mean[:, 1], mean[:, 0] - mean[:, 2], torch.full((count,), 3.0)], 1
    )
    logits = 8.0 * (mean[:, :1] - mean[:, 1:2]) if classes else None
    return TileSet(pixels, features.half(), logits)


def task_of(criteria, *, classes=0, epochs=3, **changes):
    task = EncoderTask(
        form=FORM,
        train=drawn_tiles(0, classes=classes),
        val=drawn_tiles(1, 40, classes=classes),
        criteria=criteria,
        plan=TrainPlan(epochs, optimizer_factory("adam", {}, learning_rate=1e-2), None, "cpu", 0),
        batch_size=16,
        turned=True,
        weight_schedules={},
        state_path=None,
        on_epoch=None,
    )
    return task._replace(**changes)


def test_the_small_side_normalizes_as_the_encoder_will():
    torch.manual_seed(0)
    side = SmallSide(FORM, classes=3).eval()
    pixels = drawn_tiles(0, 4).pixels
    scaled = (pixels.permute(0, 3, 1, 2) / 255.0 - 0.5) / torch.tensor([0.5, 0.25, 0.5])[:, None, None]
    with torch.no_grad():
        hidden = side.encoder(scaled)
        assert torch.allclose(side(pixels, torch.zeros(4, 2)), side.head(hidden), atol=1e-5)
        assert torch.allclose(SmallSideOf(side)(pixels), hidden, atol=1e-5)
    assert (side.feature_dim, side.head.out_features) == (8, 3)


def SmallSideOf(side):  # noqa: N802  # reads as a class: the same side without a head
    bare = SmallSide(FORM, classes=0).eval()
    bare.encoder.load_state_dict(side.encoder.state_dict())
    return bare


def test_the_large_side_is_standardized_by_the_training_tiles():
    tiles = drawn_tiles(0)
    side = LargeSide(tiles.features)
    given = side(tiles.pixels, tiles.features)
    assert torch.allclose(given.mean(dim=0), torch.zeros(4), atol=1e-4)
    assert torch.allclose(given[:, :3].std(dim=0, correction=0), torch.ones(3), atol=1e-3)
    assert torch.equal(given[:, 3], torch.zeros(len(given)))  # a constant is centered, never divided by 0
    logits = torch.randn(96, 2)
    assert side(tiles.pixels, tiles.features, logits) is logits


def test_turned_tiles_keep_their_pixels_and_what_is_said_of_them():
    torch.manual_seed(0)
    tiles = drawn_tiles(0)
    (pixels, features), labels = Turned()((tiles.pixels, tiles.features), None)
    assert labels is None
    assert torch.equal(features, tiles.features)
    assert not torch.equal(pixels, tiles.pixels)
    assert torch.equal(pixels.flatten(1, 2).sort(dim=1).values, tiles.pixels.flatten(1, 2).sort(dim=1).values)


def test_features_are_learned_without_any_label():
    found = distill_encoder(task_of({"hint": (LOSSES["hint"](), 1.0)}, epochs=12))
    history = found.outcome.history
    assert found.feature_dim == 8
    assert history[-1]["hint"] < 0.5 * history[0]["hint"]
    assert found.outcome.best.accuracy is None
    losses = [row["val_loss"] for row in history]
    assert found.outcome.best.loss == min(losses) < 0.4  # three of four features vary: unlearned is 0.75
    assert found.outcome.best_epoch == losses.index(min(losses))


def test_the_weights_are_those_of_the_encoder_at_its_best():
    found = distill_encoder(task_of({"hint": (LOSSES["hint"](), 1.0)}))
    network = build_network(FORM.network, FORM.model_arguments)
    network.load_state_dict(found.outcome.weights)
    assert set(found.outcome.weights) == set(network.state_dict())
    assert int(network.blocks[0][1].num_batches_tracked) == 6 * (found.outcome.best_epoch + 1)


def test_logits_are_learned_by_a_head_that_is_left_behind():
    criteria = {"bkd": (LOSSES["bkd"](activation="sigmoid"), 1.0)}
    found = distill_encoder(task_of(criteria, classes=1, epochs=12))
    assert not [name for name in found.outcome.weights if "head" in name]
    tiles = drawn_tiles(1, 40, classes=1)
    p = tiles.logits.sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean().item()
    first = found.outcome.history[0]["val_loss"]
    assert found.outcome.best.loss - entropy < 0.3 * (first - entropy)


@pytest.mark.parametrize("name", ["sp", "pkt", "rkd", "cc", "nst", "vid", "contrastive_in_batch"])
def test_other_losses_on_features_teach_tiles_too(name):
    found = distill_encoder(task_of({name: (LOSSES[name](), 1.0)}, epochs=2))
    assert all(torch.isfinite(torch.tensor(row[name])) for row in found.outcome.history)


def test_killed_and_gone_on_with_is_the_same_to_the_bit(tmp_path):
    class KilledError(Exception):
        pass

    def kill(row):
        if row["epoch"] == 1:
            raise KilledError

    def task(**changes):
        return task_of({"hint": (LOSSES["hint"](), 1.0)}, epochs=4, **changes)

    whole = distill_encoder(task())
    with pytest.raises(KilledError):
        distill_encoder(task(state_path=tmp_path / "state.safetensors", on_epoch=kill))
    assert load_file(tmp_path / "state.safetensors")
    again = distill_encoder(task(state_path=tmp_path / "state.safetensors"))
    assert again.outcome.history == whole.outcome.history
    assert all(torch.equal(value, whole.outcome.weights[n]) for n, value in again.outcome.weights.items())


def test_a_batch_holds_its_own_tiles_words():
    tiles = drawn_tiles(0, 33, classes=1)
    torch.manual_seed(0)
    batches = list(tile_loader(tiles, batch_size=16, shuffled=True))
    assert [len(pixels) for pixels, _, _ in batches] == [16, 16]  # one tile alone has no batch statistics
    for pixels, features, logits in batches:
        mean = pixels.float().mean(dim=(1, 2)) / 255.0
        assert torch.allclose(features[:, 0].float(), mean[:, 0] * 100.0, atol=0.1)
        assert torch.allclose(logits[:, 0], 8.0 * (mean[:, 0] - mean[:, 1]), atol=1e-4)
    assert [len(batch[0]) for batch in tile_loader(tiles, batch_size=16, shuffled=False)] == [16, 16, 1]


@pytest.mark.parametrize(
    ("name", "logits", "line"),
    [
        ("ce", True, "criterion 'x': it needs labels, and tiles have none"),
        ("kd", False, "criterion 'x': it reads logits; set `model`"),
    ],
)
def test_losses_that_tiles_cannot_feed_are_refused(name, logits, line):
    with pytest.raises(BadInput, match=line):
        check_criteria({"x": (LOSSES[name](), 1.0)}, logits=logits)


def test_a_network_that_cannot_read_these_tiles_is_refused():
    form = FORM._replace(network="test_vit", model_arguments={})
    with pytest.raises(BadInput, match=r"test_vit does not take tiles of 10 px .*set student.input_px"):
        SmallSide(form, classes=0)
