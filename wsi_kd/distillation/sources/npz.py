"""Source `npz`: arrays that numpy wrote; objects in them, which would run code, are refused."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.samples import PARTS, UNKNOWN, ArrayInputs, Indices, Samples, numbered_classes

FORM = "x and y, or x_train, y_train, x_test, y_test (and x_val, y_val)"


def read_npz(*, path: Path) -> Samples:
    """Read `x` (samples, ...) and `y` (samples,), or arrays by part.

    Inputs are floating numbers or bytes (divided by 255 later); labels are 0, 1, ..., and -1 where unknown.

    Raises:
        BadInput: no such file, arrays that are absent, hold objects, differ in length or are not finite.
    """
    arrays = _arrays(path)
    _check_names(arrays, path=path)
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    if parts and "train" not in parts:
        raise BadInput(f"{path}: x_{parts[0]} but no x_train; expected {FORM}")
    names = [f"_{part}" for part in parts] or [""]
    pairs = [_pair(arrays, name, path=path) for name in names]
    if len({pair[0].shape[1:] for pair in pairs}) > 1 or len({pair[0].dtype for pair in pairs}) > 1:
        raise BadInput(f"{path}: the parts have samples of different shapes or types; store them alike")
    labels = np.concatenate([pair[1] for pair in pairs])
    ends = np.cumsum([0, *(len(pair[1]) for pair in pairs)])
    own: dict[str, Indices] = (
        {
            part: np.arange(first, last, dtype=np.int64)
            for part, first, last in zip(parts, ends[:-1], ends[1:], strict=True)
        }
        if parts
        else {}
    )
    inputs = torch.from_numpy(np.concatenate([pair[0] for pair in pairs]))
    return Samples(ArrayInputs(inputs), labels, numbered_classes(labels, where=str(path)), own or None)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:  # a .npy file is no archive
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        what = " ".join(str(error).split())
        raise BadInput(f"{path}: cannot be read ({what}); expected a .npz file of plain arrays") from None


def _check_names(arrays: Mapping[str, np.ndarray], *, path: Path) -> None:
    """Refuse what looks like a part and would not be read; arrays of other names may be there."""
    known = {f"{kind}{suffix}" for kind in "xy" for suffix in ("", *(f"_{part}" for part in PARTS))}
    like_parts = sorted(name for name in arrays if name.startswith(("x_", "y_")))
    if strange := [name for name in like_parts if name not in known]:
        raise BadInput(f"{path}: holds {strange[0]}, which is no part; expected {FORM}")
    if like_parts and not arrays.keys().isdisjoint(("x", "y")):
        raise BadInput(f"{path}: holds x or y, and {like_parts[0]} too; expected either of {FORM}")


def _pair(arrays: Mapping[str, np.ndarray], suffix: str, *, path: Path) -> tuple[np.ndarray, np.ndarray]:
    x, y = arrays.get(f"x{suffix}"), arrays.get(f"y{suffix}")
    if x is None or y is None:
        raise BadInput(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; expected {FORM}")
    if x.ndim < 2 or 0 in x.shape[1:] or not (np.issubdtype(x.dtype, np.floating) or x.dtype == np.uint8):  # noqa: PLR2004  # samples and values
        raise BadInput(f"{path}: x{suffix} is {x.dtype} {x.shape}; expected (samples, ...) floating or uint8")
    if y.ndim != 1 or len(y) != len(x) or not np.issubdtype(y.dtype, np.integer):
        raise BadInput(
            f"{path}: y{suffix} is {y.dtype} {y.shape}; expected ({len(x)},) integers, one a sample"
        )
    ends = (int(y.min(initial=0)), int(y.max(initial=0)))
    if strange := [end for end in ends if not UNKNOWN <= end <= np.iinfo(np.int64).max]:
        raise BadInput(
            f"{path}: y{suffix} holds {strange[0]}; expected classes 0, 1, ..., or -1 where unknown"
        )
    with np.errstate(over="ignore"):  # told below
        values = x if x.dtype == np.uint8 else x.astype(np.float32)
    if not np.isfinite(values).all():
        raise BadInput(f"{path}: x{suffix} holds NaN or infinity (as float32); remove those samples")
    return values, y.astype(np.int64)
