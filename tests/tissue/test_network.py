import builtins
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from synthetic import PIECES, ellipse
from torch import nn

from wsi_kd.core.errors import BadInput, SlideProblem
from wsi_kd.core.records import SlideStatus
from wsi_kd.slides.reader import open_slide
from wsi_kd.tissue.network import NetworkInput, segment_by_network
from wsi_kd.tissue.segmentation_network import SegmentationNetwork, class_map, load_network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, by torch itself
INPUT = NetworkInput(
    mpp=2.0,
    tile_px=64,
    margin_px=8,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    classes=("background", "tissue"),
)


class Dark(nn.Module):
    """Class 1 where green is below 0.8: logits (0.8 - green) and its opposite."""

    def __init__(self, channels=2):
        super().__init__()
        self.channels = channels

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logit = 10 * (0.8 - pixels[:, 1:2])
        return logit if self.channels == 1 else torch.cat([-logit, logit], dim=1)


def scripted(folder, module=None):
    path = folder / "network.pt"
    torch.jit.script(module or Dark()).save(str(path))
    return path


def graph(folder, *, channels=2):
    """The same as an ONNX graph: a 1x1 convolution."""
    sign = np.float32([1, -1] if channels == 2 else [-1])
    weight = np.zeros((channels, 3, 1, 1), np.float32)
    weight[:, 1, 0, 0] = 10 * sign
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["pixels", "weight", "bias"], ["logits"])],
            "dark",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, None, None])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, channels, None, None])],
            [
                helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel()),
                helper.make_tensor("bias", TensorProto.FLOAT, [channels], -8 * sign),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = folder / "network.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(params=["torchscript", "onnx"])
def network(request, tmp_path):
    path = scripted(tmp_path) if request.param == "torchscript" else graph(tmp_path)
    return load_network(path, device="cpu")


def test_both_kinds_of_file_give_the_class_of_each_pixel(network):
    pixels = np.zeros((1, 3, 4, 6), np.float32)
    pixels[0, 1] = np.linspace(0.55, 1.05, 6)
    found = class_map(network, pixels, classes=2)
    assert found.tolist() == [[1, 1, 1, 0, 0, 0]] * 4


@pytest.mark.parametrize(
    "make", [lambda folder: scripted(folder, Dark(1)), lambda folder: graph(folder, channels=1)]
)
def test_a_single_channel_is_the_logit_of_the_last_class(make, tmp_path):
    pixels = np.zeros((1, 3, 1, 2), np.float32)
    pixels[0, 1, 0, 1] = 1
    network = load_network(make(tmp_path), device="cpu")
    assert class_map(network, pixels, classes=2).tolist() == [[1, 0]]
    with pytest.raises(BadInput, match=r"shape \(1, 1, 1, 2\).*expected logits \(1, 3, 1, 2\)"):
        class_map(network, pixels, classes=3)


def test_a_slide_is_segmented_block_by_block(network, synthetic_slide):
    slide = synthetic_slide("bounds")
    with open_slide(slide.path, background="white") as reader:
        found = segment_by_network(reader, network, given=INPUT, slide_mpp=0.5, mask_mpp=8.0)
    assert found.level0_px_per_px == 16.0  # 48 px of core at 2 um/px are 12 pixels of 8 um
    assert found.tissue.shape == (48, 64)
    rows, columns = np.indices(found.tissue.shape)
    middle = np.stack([columns + 0.5, rows + 0.5]) * 16
    truth = np.any(
        [((middle[0] - x) / rx) ** 2 + ((middle[1] - y) / ry) ** 2 < 1 for x, y, rx, ry in PIECES], axis=0
    )
    assert (found.tissue & truth).sum() / (found.tissue | truth).sum() > 0.9
    area_mm2 = sum(ellipse(piece).area for piece in PIECES) * 0.25e-6
    assert found.class_mm2["tissue"] == pytest.approx(area_mm2, rel=0.08)
    assert sum(found.class_mm2.values()) == pytest.approx(1024 * 768 * 0.25e-6, rel=1e-9)


def test_blocks_do_not_show_in_the_mask(network, synthetic_slide):
    """A network that looks at single pixels gives the same mask whatever the size of its input."""
    with open_slide(synthetic_slide("normal").path, background="white") as reader:
        masks = [
            segment_by_network(
                reader,
                network,
                given=INPUT._replace(tile_px=tile, margin_px=margin),
                slide_mpp=0.5,
                mask_mpp=8.0,
            ).tissue
            for tile, margin in ((64, 8), (64, 0), (112, 8), (512, 64))
        ]
    assert all(mask.shape == (48, 64) for mask in masks)
    assert max((mask ^ masks[0]).mean() for mask in masks) < 0.002


def test_channels_of_one_name_count_together(tmp_path, synthetic_slide):
    network = load_network(scripted(tmp_path), device="cpu")
    three = SegmentationNetwork(
        network.path,
        "",
        lambda pixels: np.concatenate([network.call(pixels), network.call(pixels)[:, :1] - 9], 1),
    )
    given = INPUT._replace(classes=("background", "tissue", "background"))
    with open_slide(synthetic_slide("normal").path, background="white") as reader:
        found = segment_by_network(reader, three, given=given, slide_mpp=0.5, mask_mpp=8.0)
    assert sorted(found.class_mm2) == ["background", "tissue"]
    assert sum(found.class_mm2.values()) == pytest.approx(1024 * 768 * 0.25e-6)


def test_a_slide_coarser_than_the_network_is_too_coarse(network, synthetic_slide):
    with (
        open_slide(synthetic_slide("normal").path, background="white") as reader,
        pytest.raises(SlideProblem, match=r"the segmentation network needs 0\.4") as told,
    ):
        segment_by_network(reader, network, given=INPUT._replace(mpp=0.4), slide_mpp=0.5, mask_mpp=8.0)
    assert told.value.status == SlideStatus.TOO_COARSE


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (np.zeros((1, 2, 4, 3), np.float32), r"shape \(1, 2, 4, 3\)"),
        (np.zeros((2, 4, 4), np.float32), r"shape \(2, 4, 4\)"),
        (np.zeros((1, 5, 4, 4), np.float32), r"shape \(1, 5, 4, 4\)"),
        (np.zeros((1, 2, 4, 4), np.int64), "int64"),
        (np.full((1, 2, 4, 4), np.nan, np.float32), "not finite"),
    ],
)
def test_another_output_is_one_clear_error(found, told):
    network = SegmentationNetwork(Path("n.pt"), "", lambda _: found)
    with pytest.raises(BadInput, match=rf"n\.pt: gives.*{told}"):
        class_map(network, np.zeros((1, 3, 4, 4), np.float32), classes=2)


class Picky(nn.Module):
    """Takes inputs of 32 x 32 alone."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layer(pixels.flatten(1))


class Pair(nn.Module):
    """Gives two tensors."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pixels, pixels


@pytest.mark.parametrize(
    ("module", "told"), [(Picky(), "fails on an input of shape"), (Pair(), "gives tuple")]
)
def test_a_network_that_takes_or_gives_something_else_is_refused(tmp_path, module, told):
    network = load_network(scripted(tmp_path, module), device="cpu")
    with pytest.raises(BadInput, match=told):
        class_map(network, np.zeros((1, 3, 16, 16), np.float32), classes=2)


def test_files_that_are_no_network_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"absent\.pt: no such file; correct mask\.network"):
        load_network(tmp_path / "absent.pt", device="cpu")
    for name, told in (("a.pt", "not a TorchScript file"), ("a.onnx", "not an ONNX network")):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(BadInput, match=told):
            load_network(tmp_path / name, device="cpu")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(BadInput, match="weights alone are not enough"):
        load_network(tmp_path / "weights.pt", device="cpu")


def test_without_onnxruntime_the_remedy_is_told(tmp_path, monkeypatch):
    path = graph(tmp_path)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r"pip install wsi-kd\[onnx\]"):
        load_network(path, device="cpu")
