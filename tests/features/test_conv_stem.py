import pytest
import torch
from random_encoders import small_row
from torch import nn
from torch.nn import functional as F

from wsi_kd.features.conv_stem import ConvStem
from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.known_network import build_known

PUBLISHED_SHAPES = {
    "proj.0.weight": (12, 3, 3, 3),
    "proj.1.weight": (12,),
    "proj.1.bias": (12,),
    "proj.3.weight": (24, 12, 3, 3),
    "proj.4.weight": (24,),
    "proj.4.bias": (24,),
    "proj.6.weight": (96, 24, 1, 1),
    "proj.6.bias": (96,),
    "norm.weight": (96,),
    "norm.bias": (96,),
}
"""Parameters of the stem in CTransPath's own file, which is of Swin-T with 96 channels."""


def stem_of(width=96):
    torch.manual_seed(0)
    stem = ConvStem(img_size=(32, 48), embed_dim=width, norm_layer=nn.LayerNorm).eval()
    for parameter in stem.parameters():
        nn.init.normal_(parameter, std=0.5)
    return stem


def test_parameters_are_those_of_the_published_file():
    assert {name: tuple(value.shape) for name, value in stem_of().named_parameters()} == PUBLISHED_SHAPES


def test_the_stem_is_two_halvings_and_a_product_with_rows_before_columns():
    stem, pixels = stem_of(), torch.randn(2, 3, 32, 48)
    state = stem.state_dict()
    hidden = pixels
    for at in (0, 3):
        hidden = F.conv2d(hidden, state[f"proj.{at}.weight"], stride=2, padding=1)
        mean, variance, weight, bias = (
            state[f"proj.{at + 1}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        hidden = ((hidden - mean) / torch.sqrt(variance + 1e-5) * weight + bias).clamp(min=0)
    mixed = torch.einsum("oc,nchw->nhwo", state["proj.6.weight"][:, :, 0, 0], hidden) + state["proj.6.bias"]
    expected = F.layer_norm(mixed, (96,), state["norm.weight"], state["norm.bias"])
    found = stem(pixels)
    assert found.shape == (2, 8, 12, 96)
    assert stem.grid_size == (8, 12)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_ctranspath_begins_with_the_stem():
    network = build_known(small_row("ctranspath"), without_weights=False)
    assert isinstance(network.patch_embed, ConvStem)


@pytest.mark.parametrize("name", ["conch", "conch_v1_5"])
def test_conchs_poolers_attend_with_eight_heads(name):
    pooler = build_known(ENCODERS[name], without_weights=True).attn_pool_contrast
    assert (pooler.attn.num_heads if name == "conch" else pooler.heads) == 8
