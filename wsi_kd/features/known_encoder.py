"""Encoders of the table, ready to encode: weights found, network filled, tiles fed as their authors do."""

import logging
from pathlib import Path

from wsi_kd.core.device import choose_device, matmul_dtype
from wsi_kd.core.errors import BadInput
from wsi_kd.features.encoder_row import EncoderRow
from wsi_kd.features.known_network import build_known, load_known
from wsi_kd.features.network_encoder import NetworkEncoder
from wsi_kd.features.preparation import Preparation
from wsi_kd.features.weight_sources import find_weights, weights_sha256

LOG = logging.getLogger(__name__)


def create_known_encoder(
    row: EncoderRow,
    *,
    weights: Path | None,
    weights_dir: Path | None,
    input_px: int | None,
    precision: str,
    device: str,
) -> NetworkEncoder:
    """Build an encoder of the table; its license is told once in the log.

    Args:
        row: the line of the table.
        weights: weight file; None: the offline folder, the hub's cache, the hub.
        weights_dir: offline folder; see `weight_sources`.
        input_px: edge that tiles are resized to, nothing cut off; None: as the authors do.
        precision: auto, float32 or bfloat16.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        BadInput: weights that cannot be had or do not fit, an edge that the network cannot take.
        RunFailed: a download broke off.
    """
    place = choose_device(device)
    preparation = _preparation(row, input_px)
    path = find_weights(row, weights=weights, weights_dir=weights_dir)
    network = build_known(row, without_weights=True)
    load_known(row, network, path)
    LOG.warning("%s", license_note(row))
    encoder = NetworkEncoder(
        row.name,
        network,
        input_px=preparation.input_px,
        pixel_mean=row.sight.pixel_mean,
        pixel_std=row.sight.pixel_std,
        model_arguments={},
        weights_hash=weights_sha256(path),
        dtype=matmul_dtype(precision, place),
        device=place,
        preparation=preparation,
    )
    if encoder.feature_dim != row.network.feature_dim:
        raise BadInput(
            f"encoder '{row.name}': gives {encoder.feature_dim} features, not {row.network.feature_dim}; "
            "this installation's timm builds another network: install the version of constraints.txt"
        )
    return encoder


def license_note(row: EncoderRow) -> str:
    """Return the one line on what the weights may be used for."""
    use = "" if row.license.commercial else ", no commercial use"
    return f"encoder '{row.name}': weights under {row.license.name}{use} ({row.page})"


def _preparation(row: EncoderRow, input_px: int | None) -> Preparation:
    sight = row.sight
    if input_px is None:
        return Preparation(sight.input_px, sight.resize_px, sight.interpolation)
    if row.network.build != "vit" and input_px != sight.input_px:
        raise BadInput(
            f"encoder '{row.name}': takes tiles of {sight.input_px} px alone, embed.input_px is {input_px}; "
            "leave it unset"
        )
    return Preparation(input_px, input_px, sight.interpolation)
