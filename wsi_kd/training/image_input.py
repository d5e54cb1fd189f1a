"""Bags of pixels: whether the projector can read them, and how they are shown in training."""

import numpy as np

from wsi_kd.bags.datasets import BagSet
from wsi_kd.core.errors import BadInput
from wsi_kd.mil.image_networks import IMAGE_NETWORKS
from wsi_kd.mil.projectors import FEATURE_PROJECTORS, LINEAR, ImageProjector, LinearProjector
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.plan import Optimization


def check_projector(bags: BagSet, projector: str) -> None:
    """Check that pixels meet an image projector and an encoder's features the linear one.

    A linear layer on pixels would learn one weight a pixel position: tiles have no fixed places to weigh.

    Raises:
        BadInput: what was found, and both remedies.
    """
    pixels = bags.features.dtype == np.uint8
    encoder = bags.header.get("encoder", "")
    if pixels and projector in FEATURE_PROJECTORS:
        raise BadInput(
            f"train.projector {projector} reads an encoder's features, these bags hold pixels; set "
            f"train.projector to one of {', '.join(IMAGE_NETWORKS)}, or embed.encoder to another encoder"
        )
    if not pixels and projector not in FEATURE_PROJECTORS:
        raise BadInput(
            f"train.projector {projector} reads pixels, these bags hold {bags.features.dtype} features "
            f"{f'of encoder {encoder}' if encoder else ''}; set embed.encoder to pixels and run anew: "
            f"wsi-kd embed, or set train.projector to {LINEAR}"
        )


def set_input(model: TeacherStudent, optimization: Optimization) -> None:
    """Tell the projector how it is shown what it learns from: pieces and symmetries, or noise."""
    if isinstance(model.projector, LinearProjector):
        model.projector.learn_by(noise=optimization.feature_noise)
    if isinstance(model.projector, ImageProjector):
        model.projector.learn_by(
            chunk=optimization.image_chunk,
            augmentation=optimization.image_augmentation,
            stains=optimization.image_stains,
        )
