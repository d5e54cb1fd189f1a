"""What timm fetches by itself: told before it does, and refused at once where nothing can be reached."""

import logging
from pathlib import Path
from typing import Any, Final

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError

from wsi_kd.core.errors import BadInput
from wsi_kd.features.encoder_row import HUB
from wsi_kd.features.torchvision_import import import_timm
from wsi_kd.features.weight_sources import check_reachable, hub_page, in_folder, no_access

LOG = logging.getLogger(__name__)

HUB_NAMES: Final = ("hf-hub:", "hf_hub:")
HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")


def hub_of(name: str) -> str:
    """Return owner/model of a name whose weights timm takes from the hub; else an empty text."""
    if name.startswith(HUB_NAMES):
        return name.partition(":")[2]
    if ":" in name:
        return ""
    config: Any = import_timm().get_pretrained_cfg(name, allow_unregistered=True)
    return str(getattr(config, "hf_hub_id", None) or "")


def check_timm_weights(name: str, *, pretrained: bool) -> None:
    """Say that timm is about to fetch weights, or the description of a network of the hub alone.

    Raises:
        BadInput: they are not on this machine, and the hub is not to be reached.
    """
    if not pretrained and not name.startswith(HUB_NAMES):
        return
    hub, files = hub_of(name), HUB_FILES if pretrained else ("config.json",)
    if not hub or any(isinstance(try_to_load_from_cache(hub, file), str) for file in files):
        return
    check_reachable(name, page=f"{HUB}{hub}")
    what = "weights" if pretrained else "description"
    LOG.warning("encoder '%s': fetching its %s from %s%s, once", name, what, HUB, hub)


def offline_weights(name: str, weights_dir: Path | None) -> Path | None:
    """Look for the weights of a timm, torchvision or hub name in an offline folder; None where it has none.

    The file is called as the name is (its source left out), or as on the hub.

    Raises:
        BadInput: the folder is not there.
    """
    if weights_dir is None:
        return None
    plain = name.partition(":")[2] or name
    return in_folder(weights_dir, plain, hub=hub_of(name), files=HUB_FILES)


def no_weights(name: str, reason: object) -> BadInput:
    """Build the error for weights that timm or torchvision could not get."""
    if isinstance(reason, GatedRepoError) and name.startswith(HUB_NAMES):
        return no_access(name, hub_page(name))
    what = " ".join(str(reason).split())[:200]
    return BadInput(
        f"encoder '{name}': cannot be had with its weights ({what}); give a local file as embed.weights, "
        "or run once with network access (and a hub login where one is asked)"
    )
