"""The networks of the encoder table: built as their authors did, filled from any of their files."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsi_kd.features.conv_stem import ConvStem
from wsi_kd.features.encoder_row import EncoderRow
from wsi_kd.features.state_names import timm_names
from wsi_kd.features.token_pooling import AttentionalPooler, BiasFreePooler, ClassAndMean, PooledTower
from wsi_kd.features.torchvision_import import import_timm
from wsi_kd.features.weights import load_weights, read_weights

CLASSIFIER: Final = ("head.",)
POOLER_HEADS: Final = 8
PATCH_PX: Final = 16
"""Edge of a patch of CONCH v1.5."""
DINO_OFFSET: Final = 0.1
"""Added to a grid's edge before positions are resized, as DINO and DINOv2 do (dino issue 8)."""


def build_known(
    row: EncoderRow, *, without_weights: bool, arguments: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build the network of a line of the table.

    Args:
        row: the line.
        without_weights: on torch's meta device, to be filled by `load_known`; else with new weights, drawn
            from torch's global generator.
        arguments: replace some of the row's keywords of timm's constructor (a smaller network for a test).
    """
    keywords = {**row.network.arguments, **(arguments or {})}
    # Swin computes index tables while it is built, which the meta device would lose.
    on_meta = without_weights and row.network.build != "ctranspath"
    with torch.device("meta" if on_meta else "cpu"):
        return _BUILDERS[row.network.build](row, keywords)


def load_known(row: EncoderRow, network: nn.Module, path: Path) -> None:
    """Fill a network of the table from a weight file.

    Raises:
        BadInput: a file that cannot be read, or holds other weights.
    """
    weights = timm_names(read_weights(path))
    if isinstance(network, ClassAndMean):
        weights = {f"trunk.{key}": value for key, value in weights.items()}
    if row.network.build == "conch_v1_5":
        weights = _enlarged_positions(weights, grid=row.sight.input_px // PATCH_PX)
    classifier = tuple(f"{prefix}{name}" for prefix in ("", "trunk.") for name in CLASSIFIER)
    load_weights(network, weights, where=path, classifier=classifier)


def enlarge_positions(positions: Tensor, *, grid: int) -> Tensor:
    """Resize position embeddings (1, 1 + m*m, width) to a grid, bicubic, as DINO's code does while it runs.

    The factor is (grid + 0.1) / m: with the offset, coordinates differ a little from those of a plain resize.
    """
    old = math.isqrt(positions.shape[1] - 1)
    if old == grid:
        return positions
    factor = (grid + DINO_OFFSET) / old
    squares = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    resized = F.interpolate(squares, scale_factor=(factor, factor), mode="bicubic")
    of_grid = resized.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :1], of_grid], dim=1)


def _enlarged_positions(weights: dict[str, Tensor], *, grid: int) -> dict[str, Tensor]:
    key = "trunk.pos_embed"
    if key not in weights:
        return weights
    return {**weights, key: enlarge_positions(weights[key], grid=grid)}


def _vit(row: EncoderRow, keywords: Mapping[str, Any]) -> nn.Module:
    network: nn.Module = _timm_vit(row, keywords)
    if row.network.tokens == "class":
        return network
    return ClassAndMean(network, prefix_tokens=row.network.prefix_tokens)


def _conch(row: EncoderRow, keywords: Mapping[str, Any]) -> nn.Module:
    trunk = _timm_vit(row, {**keywords, "global_pool": ""})
    features = row.network.feature_dim
    pooler = AttentionalPooler(width=trunk.num_features, features=features, heads=POOLER_HEADS)
    return PooledTower(trunk, pooler, features=features)


def _conch_v1_5(row: EncoderRow, keywords: Mapping[str, Any]) -> nn.Module:
    trunk = _timm_vit(row, {**keywords, "global_pool": ""})
    features = row.network.feature_dim
    pooler = BiasFreePooler(width=trunk.num_features, features=features, heads=POOLER_HEADS)
    return PooledTower(trunk, pooler, features=features)


def _ctranspath(row: EncoderRow, keywords: Mapping[str, Any]) -> nn.Module:
    network: nn.Module = import_timm().create_model(
        row.network.timm_name, pretrained=False, num_classes=0, embed_layer=ConvStem, **keywords
    )
    return network


def _timm_vit(row: EncoderRow, keywords: Mapping[str, Any]) -> Any:
    timm = import_timm()
    given = {"img_size": row.sight.input_px, "dynamic_img_size": True, **keywords}
    if given.get("mlp_layer") == "swiglu":
        given |= {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
    return timm.create_model(row.network.timm_name, pretrained=False, num_classes=0, **given)


_BUILDERS: Final = {"vit": _vit, "conch": _conch, "conch_v1_5": _conch_v1_5, "ctranspath": _ctranspath}
