"""Segmentation networks from files: TorchScript and ONNX behind one call, their output checked.

A TorchScript file is a program: loading and calling it runs what its author wrote, within what TorchScript
can express, and torch treats such files as trusted (PyTorch's security policy). Use files whose source and
checksum you know; the mask's header records the checksum. ONNX is a graph of known operators; no library of
foreign operators is loaded.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash

Input: TypeAlias = Float32[np.ndarray, "1 3 rows columns"]
Output: TypeAlias = Float32[np.ndarray, "1 channels rows columns"]
ONNX_SUFFIX = ".onnx"


class SegmentationNetwork(NamedTuple):
    """A network ready to be called, and the file that it came from."""

    path: Path
    sha256: str
    call: Callable[[Input], np.ndarray]


def load_network(path: Path, *, device: str) -> SegmentationNetwork:
    """Load a network: ONNX where the file's name ends with .onnx, else TorchScript.

    Args:
        path: the file.
        device: auto, cpu, cuda or cuda:N; ONNX runs on the CPU.

    Raises:
        BadInput: no such file, not of that kind, or onnxruntime is absent.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; correct mask.network")
    call = _onnx(path) if path.suffix.lower() == ONNX_SUFFIX else _torchscript(path, device)
    return SegmentationNetwork(path, file_hash(path), call)


def class_map(
    network: SegmentationNetwork, pixels: Input, *, classes: int
) -> Float32[np.ndarray, "rows columns"]:
    """Run one input and return the class of every pixel (as float32, which OpenCV averages).

    Several channels: the class with the largest value. One channel, for two classes: the logit of the second.

    Raises:
        BadInput: the network fails on the input, or its output is not (1, classes, rows, columns) of finite
            numbers.
    """
    try:
        found = np.asarray(network.call(pixels))
    except BadInput:
        raise
    except Exception as error:  # a graph that does not take this input may raise anything
        what = " ".join(str(error).split())[-200:]
        raise BadInput(
            f"{network.path}: fails on an input of shape {pixels.shape} ({type(error).__name__}: {what}); "
            "check mask.network_tile_px, and that the network takes float32 (1, 3, rows, columns)"
        ) from None
    channels = found.shape[1] if found.ndim == pixels.ndim else 0
    expected = (1, channels, *pixels.shape[2:])
    fits = channels == classes or (channels == 1 and classes == 2)  # noqa: PLR2004 - a single logit
    if found.shape != expected or not fits or found.dtype.kind != "f":
        raise BadInput(
            f"{network.path}: gives {found.dtype} of shape {found.shape} for an input of {pixels.shape}; "
            f"expected logits (1, {classes}, {pixels.shape[2]}, {pixels.shape[3]}), a channel for each of "
            "mask.network_classes"
        )
    if not np.isfinite(found).all():
        raise BadInput(f"{network.path}: gives values that are not finite; check mask.network_mean and _std")
    if channels == 1:
        return np.asarray(found[0, 0] > 0, np.float32)
    return np.asarray(found[0].argmax(axis=0), np.float32)


def _torchscript(path: Path, device: str) -> Callable[[Input], np.ndarray]:
    import torch  # here, because most masks need no network and torch takes seconds to load

    from wsi_kd.core.device import choose_device

    place = choose_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module: torch.nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=place
            ).eval()
    except (RuntimeError, ValueError, OSError) as error:
        what = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path}: not a TorchScript file ({what}); save the network with torch.jit.trace or "
            "torch.jit.script and .save(), weights alone are not enough"
        ) from None

    def call(pixels: Input) -> np.ndarray:
        with torch.inference_mode():
            found = module(torch.from_numpy(pixels).to(place))
        if not isinstance(found, torch.Tensor):
            raise BadInput(f"{path}: gives {type(found).__name__}; expected one tensor of logits")
        return np.asarray(found.cpu().float().numpy() if found.is_floating_point() else found.cpu().numpy())

    return call


def _onnx(path: Path) -> Callable[[Input], np.ndarray]:
    try:
        import onnxruntime
    except ImportError:
        raise BadInput(
            f"{path}: ONNX networks need the package onnxruntime; install it with: pip install wsi-kd[onnx]"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every fault, without a common one
        what = " ".join(str(error).split())[:200]
        raise BadInput(f"{path}: not an ONNX network that onnxruntime runs ({what})") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadInput(
            f"{path}: {len(inputs)} inputs and {len(outputs)} outputs; expected one image and its logits"
        )
    name = inputs[0].name
    return lambda pixels: np.asarray(session.run(None, {name: pixels})[0])
