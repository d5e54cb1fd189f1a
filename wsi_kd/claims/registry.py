"""Claim checks by their method, in the order in which they run. A new one is a file and a line here."""

from typing import Final

from wsi_kd.claims import (
    ae_kd,
    cautious,
    copy_average,
    dynamic_loss,
    energy_compression,
    factor_transfer,
    search,
    slam,
    spectral,
    vanilla,
    variance_reduction,
    wide_networks,
)
from wsi_kd.claims.claim import Claim

CLAIMS: Final[dict[str, Claim]] = {
    "vanilla": vanilla.CLAIM,
    "variance_reduction": variance_reduction.CLAIM,
    "slam": slam.CLAIM,
    "dynamic_loss": dynamic_loss.CLAIM,
    "search": search.CLAIM,
    "ae_kd": ae_kd.CLAIM,
    "factor_transfer": factor_transfer.CLAIM,
    "spectral": spectral.CLAIM,
    "wide_networks": wide_networks.CLAIM,
    "copy_average": copy_average.CLAIM,
    "cautious": cautious.CLAIM,
    "energy_compression": energy_compression.CLAIM,
}
