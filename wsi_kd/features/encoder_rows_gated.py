"""Encoders whose weights the hub hands out after a login and an accepted license.

Sources: the authors' cards and repositories (UNI, CONCH, TITAN, Virchow, Prov-GigaPath, bioptimus/releases,
HistAI/hibou), and for recommended tile sizes the table of TRIDENT, by the authors of UNI and CONCH.
"""

from typing import Final

from wsi_kd.features.encoder_row import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    EncoderRow,
    License,
    Network,
    Scale,
    Sight,
)

_NO_COMMERCE: Final = License("CC-BY-NC-ND-4.0", commercial=False, gated=True)
_APACHE: Final = License("Apache-2.0", commercial=True, gated=True)
_RESEARCH: Final = License("Apache-2.0, research use only", commercial=False, gated=True)

_PLAIN: Final = Sight(224, 224, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
_VIRCHOW: Final = _PLAIN._replace(interpolation="bicubic")
_OPTIMUS: Final = Sight(224, 224, "bicubic", (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_HIBOU: Final = Sight(224, 224, "bicubic", (0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))

_AT_256: Final = Scale(256, 0.5, (0.5,))
_AT_224: Final = Scale(224, 0.5, (0.5,))
_AT_512: Final = Scale(512, 0.5, (0.5,))

_PICKLE: Final = ("pytorch_model.bin",)
_EITHER: Final = ("model.safetensors", "pytorch_model.bin")
_SWIGLU: Final = {"mlp_layer": "swiglu"}

UNI: Final = EncoderRow(
    name="uni",
    title="UNI",
    hub="MahmoodLab/UNI",
    files=_PICKLE,
    license=_NO_COMMERCE,
    network=Network("vit", "vit_large_patch16_224", {"init_values": 1e-5}, "class", 1, 1024, 303.4),
    sight=_PLAIN,
    scale=_AT_256,
    paper="https://doi.org/10.1038/s41591-024-02857-3",
)

UNI2_H: Final = UNI._replace(
    name="uni2_h",
    title="UNI2-h",
    hub="MahmoodLab/UNI2-h",
    network=Network(
        "vit",
        "vit_giant_patch14_224",
        {
            **_SWIGLU,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "init_values": 1e-5,
            "no_embed_class": True,
            "reg_tokens": 8,
        },
        "class",
        9,
        1536,
        681.4,
    ),
)

CONCH: Final = EncoderRow(
    name="conch",
    title="CONCH (image tower)",
    hub="MahmoodLab/CONCH",
    files=_PICKLE,
    license=_NO_COMMERCE,
    network=Network("conch", "vit_base_patch16_224", {}, "attention", 1, 512, 87.6),
    sight=Sight(448, 448, "bicubic", CLIP_MEAN, CLIP_STD),
    scale=_AT_512,
    paper="https://doi.org/10.1038/s41591-024-02856-4",
    unverified=("trained mpp: pairs of figure and caption have none", "parameters: counted here"),
)

CONCH_V1_5: Final = EncoderRow(
    name="conch_v1_5",
    title="CONCH v1.5 (of TITAN)",
    hub="MahmoodLab/conchv1_5",
    files=("pytorch_model_vision.bin", "conch_v1_5_pytorch_model.bin"),
    license=_NO_COMMERCE,
    network=Network("conch_v1_5", "vit_large_patch16_224", {"init_values": 1.0}, "attention", 1, 768, 306.7),
    sight=_PLAIN._replace(input_px=448, resize_px=448),
    scale=_AT_512,
    paper="https://doi.org/10.48550/arXiv.2411.19666",
    unverified=("interpolation: TRIDENT resizes bilinear, LazySlide bicubic", "parameters: counted here"),
)

VIRCHOW: Final = EncoderRow(
    name="virchow",
    title="Virchow",
    hub="paige-ai/Virchow",
    files=_EITHER,
    license=_APACHE,
    network=Network(
        "vit",
        "vit_huge_patch14_224",
        {**_SWIGLU, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": ""},
        "class+mean",
        1,
        2560,
        631.2,
    ),
    sight=_VIRCHOW,
    scale=_AT_224,
    paper="https://doi.org/10.1038/s41591-024-03141-0",
)

VIRCHOW2: Final = VIRCHOW._replace(
    name="virchow2",
    title="Virchow2",
    hub="paige-ai/Virchow2",
    license=_NO_COMMERCE,
    network=VIRCHOW.network._replace(
        arguments={**VIRCHOW.network.arguments, "reg_tokens": 4}, prefix_tokens=5
    ),
    scale=Scale(224, 0.5, (2.0, 1.0, 0.5, 0.25)),
    paper="https://doi.org/10.48550/arXiv.2408.00738",
)

GIGAPATH: Final = EncoderRow(
    name="gigapath",
    title="Prov-GigaPath (tile encoder)",
    hub="prov-gigapath/prov-gigapath",
    files=_PICKLE,
    license=_RESEARCH,
    network=Network(
        "vit", "vit_giant_patch14_dinov2", {"patch_size": 16, "mlp_ratio": 5.33334}, "class", 1, 1536, 1130
    ),
    sight=Sight(224, 256, "bicubic", IMAGENET_MEAN, IMAGENET_STD),
    scale=_AT_256,
    paper="https://doi.org/10.1038/s41586-024-07441-w",
)

H_OPTIMUS_0: Final = EncoderRow(
    name="h_optimus_0",
    title="H-optimus-0",
    hub="bioptimus/H-optimus-0",
    files=("pytorch_model.bin", "model.safetensors"),
    license=_APACHE,
    network=Network("vit", "vit_giant_patch14_reg4_dinov2", {"init_values": 1e-5}, "class", 5, 1536, 1130),
    sight=_OPTIMUS,
    scale=_AT_224,
    paper="https://github.com/bioptimus/releases/tree/main/models/h-optimus/v0",
    unverified=("interpolation: the card feeds tiles of 224 px as they are",),
)

H_OPTIMUS_1: Final = H_OPTIMUS_0._replace(
    name="h_optimus_1",
    title="H-optimus-1",
    hub="bioptimus/H-optimus-1",
    files=_EITHER,
    license=_NO_COMMERCE,
    paper="https://huggingface.co/bioptimus/H-optimus-1",
)

H0_MINI: Final = EncoderRow(
    name="h0_mini",
    title="H0-mini",
    hub="bioptimus/H0-mini",
    files=_EITHER,
    license=_NO_COMMERCE,
    network=Network(
        "vit",
        "vit_base_patch14_reg4_dinov2",
        {**_SWIGLU, "init_values": 1e-5, "mlp_ratio": 5.33334, "global_pool": ""},
        "class+mean",
        5,
        1536,
        85.7,
    ),
    sight=_OPTIMUS,
    scale=_AT_224,
    paper="https://doi.org/10.48550/arXiv.2501.16239",
    unverified=("mlp_ratio: from a second-hand loader; the parameter count agrees",),
)

HIBOU_B: Final = EncoderRow(
    name="hibou_b",
    title="Hibou-B",
    hub="histai/hibou-b",
    files=("model.safetensors",),
    license=License("Apache-2.0", commercial=True, gated=False),
    network=Network(
        "vit",
        "vit_base_patch14_reg4_dinov2",
        {**_SWIGLU, "mlp_ratio": 4096 / 768},
        "class",
        5,
        768,
        85.7,
    ),
    sight=_HIBOU,
    scale=_AT_224,
    paper="https://doi.org/10.48550/arXiv.2406.05074",
    unverified=("trained mpp", "gated: sources differ", "name of the register tokens in its file"),
)

HIBOU_L: Final = HIBOU_B._replace(
    name="hibou_l",
    title="Hibou-L",
    hub="histai/hibou-L",
    license=_APACHE,
    network=Network(
        "vit",
        "vit_large_patch14_reg4_dinov2",
        {**_SWIGLU, "mlp_ratio": 5472 / 1024},
        "class",
        5,
        1024,
        303.7,
    ),
    unverified=("trained mpp", "name of the register tokens in its file"),
)

GATED_ROWS: Final = (
    UNI,
    UNI2_H,
    CONCH,
    CONCH_V1_5,
    VIRCHOW,
    VIRCHOW2,
    GIGAPATH,
    H_OPTIMUS_0,
    H_OPTIMUS_1,
    H0_MINI,
    HIBOU_B,
    HIBOU_L,
)
