"""Weight files: read without running code, checked against the network key by key, identified by sha256."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.core.floors import refuse_below

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".torch")
WRAPPERS = ("state_dict", "model")
SHOWN_KEYS = 3


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict: .safetensors, or .pt/.pth/.bin by `torch.load(weights_only=True)`.

    A dict that holds the state dict under `state_dict` or `model` is unwrapped, a prefix `module.` removed.

    Raises:
        BadInput: no such file, another format, damaged, or a pickle that would have to run code.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such weight file; correct embed.weights")
    if path.suffix not in SUFFIXES:
        raise BadInput(f"{path}: unknown kind of weight file; expected one of {', '.join(SUFFIXES)}")
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else load_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded:
        raise BadInput(f"{path}: holds {type(loaded).__name__}, expected a state dict of tensors")
    strange = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if strange:
        raise BadInput(f"{path}: '{strange[0]}' is not a tensor; expected a state dict of tensors alone")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def load_pickle(path: Path) -> Any:
    """Load a torch file that holds tensors alone, onto the CPU.

    Raises:
        BadInput: absent, damaged, a pickle that would have to run code, or a torch that such a one may fool.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    refuse_below("torch", torch.__version__)
    try:
        with warnings.catch_warnings(action="ignore"):  # pickle protocols above 2 load as well
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = "it would have to run code" if "global" in str(error).lower() else "it is no tensor file"
        raise BadInput(
            f"{path}: refused, {why}; where the file was made, save the plain state dict as .safetensors"
        ) from None
    except Exception as error:  # on damaged bytes: EOFError, RuntimeError, OSError, KeyError, ValueError...
        what = " ".join(str(error).split())[:150]
        raise BadInput(f"{path}: not a readable weight file ({what}); copy it again") from None


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], *, where: Path, classifier: tuple[str, ...]
) -> None:
    """Load a state dict; what belongs to the classifier, which encoders do not have, is left aside.

    Raises:
        BadInput: keys are missing, unexpected or of another shape; the first of each are named.
    """
    own = network.state_dict()
    given = {key: value for key, value in weights.items() if not key.startswith(classifier) or key in own}
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in own]
    reshaped = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in given.items()
        if key in own and value.shape != own[key].shape
    ]
    faults = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    told = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in faults if keys]
    if told:
        raise BadInput(
            f"{where}: not the weights of this encoder: {'; '.join(told)}; "
            "correct embed.weights or embed.encoder"
        )
    on_meta = any(parameter.is_meta for parameter in network.parameters())
    network.load_state_dict(given, strict=False, assign=on_meta)


def weights_hash(network: nn.Module) -> str:
    """Return the sha256 over names, types, shapes and bytes of a network's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not a readable safetensors file ({error}); copy it again") from None


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
