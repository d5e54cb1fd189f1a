"""Weights under the names their authors published them with, brought to timm's names.

| published by | recognized by | what changes |
|---|---|---|
| transformers (ViT, DINOv2) | `...attention.attention.query...` | names; q, k, v joined |
| the DINOv2 repository | `register_tokens`, `mlp.w12` | names; class token and its position added up |
| Swin of timm before 0.9 | `layers.0.downsample...` | a stage's downsampling moves to the next stage |
| CONCH (CoCa) | `visual.trunk...` | the image tower is taken, text and captions left |

Anything else is taken for timm's own names.
"""

import re
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

State = dict[str, Tensor]

_HF_QUERY: Final = ".attention.attention.query.weight"
_HF_LEFT_OUT: Final = ("pooler.", "embeddings.mask_token", "classifier.")
_HF_NAMES: Final = (
    (r"^(?:vit|dinov2|model)\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
)
_CONCH_LEFT_OUT: Final = ("attn_pool_caption.", "ln_caption.", "proj_contrast")
_SWIN_BUFFERS: Final = ("attn_mask", "relative_position_index")


def timm_names(weights: Mapping[str, Tensor]) -> State:
    """Return the weights under timm's names; those of timm already come back as they are."""
    if any(key.endswith(_HF_QUERY) for key in weights):
        return _registers_apart(_from_transformers(weights))
    if "register_tokens" in weights or any(".mlp.w12." in key for key in weights):
        return _registers_apart(_from_dinov2(weights))
    if "layers.0.downsample.reduction.weight" in weights:
        return _from_old_swin(weights)
    if any(key.startswith("visual.trunk.") for key in weights):
        return _conch_image_tower(weights)
    return {key: value for key, value in weights.items() if key != "proj_contrast"}


def _from_transformers(weights: Mapping[str, Tensor]) -> State:
    renamed: State = {}
    for key, value in weights.items():
        new = key
        for pattern, replacement in _HF_NAMES:
            new = re.sub(pattern, replacement, new)
        if not new.startswith(_HF_LEFT_OUT):
            renamed[new] = value
    joined: State = {}
    for key in list(renamed):
        found = re.fullmatch(r"(blocks\.\d+\.)attention\.attention\.query\.(weight|bias)", key)
        if found:
            block, kind = found.groups()
            names = [f"{block}attention.attention.{part}.{kind}" for part in ("query", "key", "value")]
            if all(name in renamed for name in names):
                joined[f"{block}attn.qkv.{kind}"] = torch.cat([renamed.pop(name) for name in names])
    return {**renamed, **joined}


def _from_dinov2(weights: Mapping[str, Tensor]) -> State:
    return {
        key.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): value
        for key, value in weights.items()
        if key != "mask_token"
    }


def _registers_apart(weights: State) -> State:
    """Fold the class token's position into the token where registers stand between it and the patches.

    DINOv2 adds positions to [class, patches] and then inserts the registers, so that
    class + position_0 is a constant; timm keeps positions of the patches alone.
    """
    if "register_tokens" not in weights or "pos_embed" not in weights:
        return weights
    positions = weights["pos_embed"]
    rest = {key: value for key, value in weights.items() if key != "register_tokens"}
    return {
        **rest,
        "reg_token": weights["register_tokens"],
        "cls_token": weights["cls_token"] + positions[:, :1],
        "pos_embed": positions[:, 1:],
    }


def _from_old_swin(weights: Mapping[str, Tensor]) -> State:
    return {
        re.sub(
            r"^layers\.(\d+)\.downsample\.", lambda found: f"layers.{int(found[1]) + 1}.downsample.", key
        ): value
        for key, value in weights.items()
        if not key.endswith(_SWIN_BUFFERS)
    }


def _conch_image_tower(weights: Mapping[str, Tensor]) -> State:
    tower = {
        key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")
    }
    return {key: value for key, value in tower.items() if not key.startswith(_CONCH_LEFT_OUT)}
