"""Encoders whose weights are downloaded without a login, most of them for non-commercial use.

Sources: the authors' repositories (owkin/HistoSSLscaling, kaiko-ai/towards_large_pathology_fms,
lunit-io/benchmark-ssl-pathology, Xiyue-Wang/TransPath), the hub's cards, and for Lunit's pixel statistics
kaiko's eva. TRIDENT's table gives the recommended tile sizes.
"""

from typing import Final

from wsi_kd.features.encoder_row import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    EncoderRow,
    License,
    Network,
    Scale,
    Sight,
)

_PLAIN: Final = Sight(224, 224, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
_AT_224: Final = Scale(224, 0.5, (0.5,))
_KAIKO_NAME: Final = "1aurent/{}.kaiko_ai_towards_large_pathology_fms"
_SAFE: Final = ("model.safetensors",)

PHIKON: Final = EncoderRow(
    name="phikon",
    title="Phikon",
    hub="owkin/phikon",
    files=("model.safetensors", "pytorch_model.bin"),
    license=License("Owkin non-commercial", commercial=False, gated=False),
    network=Network("vit", "vit_base_patch16_224", {}, "class", 1, 768, 85.8),
    sight=_PLAIN,
    scale=_AT_224,
    paper="https://doi.org/10.1101/2023.07.21.23292757",
)

PHIKON_V2: Final = PHIKON._replace(
    name="phikon_v2",
    title="Phikon-v2",
    hub="owkin/phikon-v2",
    files=_SAFE,
    network=Network("vit", "vit_large_patch16_224", {"init_values": 1e-5}, "class", 1, 1024, 303.4),
    paper="https://doi.org/10.48550/arXiv.2409.09173",
    unverified=("resize and interpolation: as TRIDENT does, the card's processor was not readable",),
)

CTRANSPATH: Final = EncoderRow(
    name="ctranspath",
    title="CTransPath",
    hub="",
    files=("ctranspath.pth", "CHIEF_CTransPath.pth"),
    license=License("GPL-3.0, academic use only", commercial=False, gated=False),
    network=Network("ctranspath", "swin_tiny_patch4_window7_224", {}, "average", 0, 768, 27.5),
    sight=_PLAIN,
    scale=Scale(256, 1.0, (1.0,)),
    paper="https://github.com/Xiyue-Wang/TransPath",
    unverified=("trained mpp: the authors say to try 1.0 um/px first",),
)

_KAIKO: Final = EncoderRow(
    name="kaiko_vits16",
    title="Kaiko ViT-S/16",
    hub=_KAIKO_NAME.format("vit_small_patch16_224"),
    files=_SAFE,
    license=License("Kaiko non-commercial", commercial=False, gated=False),
    network=Network("vit", "vit_small_patch16_224", {}, "class", 1, 384, 21.7),
    sight=Sight(224, 224, "bilinear", HALF, HALF),
    scale=Scale(256, 0.5, (2.0, 1.0, 0.5, 0.25)),
    paper="https://doi.org/10.48550/arXiv.2404.15217",
    unverified=("trained mpp",),
)


def _kaiko(size: str, *, hub: str, network: Network) -> EncoderRow:
    """Row of another size of Kaiko's networks."""
    return _KAIKO._replace(
        name=f"kaiko_vit{size}",
        title=f"Kaiko ViT-{size[0].upper()}/{size[1:]}",
        hub=_KAIKO_NAME.format(hub),
        network=network,
    )


KAIKO_ROWS: Final = (
    _kaiko(
        "s8",
        hub="vit_small_patch8_224",
        network=Network("vit", "vit_small_patch8_224", {}, "class", 1, 384, 21.7),
    ),
    _KAIKO,
    _kaiko(
        "b8",
        hub="vit_base_patch8_224",
        network=Network("vit", "vit_base_patch8_224", {}, "class", 1, 768, 85.8),
    ),
    _kaiko(
        "b16",
        hub="vit_base_patch16_224",
        network=Network("vit", "vit_base_patch16_224", {}, "class", 1, 768, 85.8),
    ),
    _kaiko(
        "l14",
        hub="vit_large_patch14_reg4_224",
        network=Network("vit", "vit_large_patch14_reg4_dinov2", {"img_size": 518}, "class", 5, 1024, 304.4),
    ),
)

LUNIT_VITS8: Final = EncoderRow(
    name="lunit_vits8",
    title="Lunit DINO ViT-S/8",
    hub="1aurent/vit_small_patch8_224.lunit_dino",
    files=_SAFE,
    license=License("Lunit non-commercial", commercial=False, gated=False),
    network=Network("vit", "vit_small_patch8_224", {}, "class", 1, 384, 21.7),
    sight=Sight(
        224,
        224,
        "bilinear",
        (0.70322989, 0.53606487, 0.66096631),
        (0.21716536, 0.26081574, 0.20723464),
    ),
    scale=Scale(224, 0.5, (0.5, 0.25)),
    paper="https://doi.org/10.48550/arXiv.2212.04690",
    unverified=("trained mpp", "resize and interpolation: the authors name none"),
)

LUNIT_VITS16: Final = LUNIT_VITS8._replace(
    name="lunit_vits16",
    title="Lunit DINO ViT-S/16",
    hub="1aurent/vit_small_patch16_224.lunit_dino",
    network=Network("vit", "vit_small_patch16_224", {}, "class", 1, 384, 21.7),
)

OPEN_ROWS: Final = (PHIKON, PHIKON_V2, CTRANSPATH, *KAIKO_ROWS, LUNIT_VITS8, LUNIT_VITS16)
