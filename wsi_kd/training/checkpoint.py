"""A model on disk: `<name>.safetensors` and, written last, `<name>.json`, which rebuilds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import file_hash, publish_json, read_json
from wsi_kd.core.provenance import check_schema
from wsi_kd.core.tensors import float32_by_default, publish_tensors, read_signed
from wsi_kd.mil.registry import create_model
from wsi_kd.mil.weno import TeacherStudent

KIND: Final = "model"
REMAKE: Final = "wsi-kd train"


class LoadedModel(NamedTuple):
    """A model in eval mode on the CPU, and its header."""

    model: TeacherStudent
    header: dict[str, Any]


def save_model(directory: Path, name: str, model: TeacherStudent, *, header: Mapping[str, Any]) -> None:
    """Write weights, then header; `weights_sha256` is added.

    `header` is a stamp of kind "model" whose member `model` holds the arguments of `create_model`.
    """
    weights = directory / f"{name}.safetensors"
    tensors = {key: value.detach().to("cpu").contiguous() for key, value in model.state_dict().items()}
    publish_tensors(weights, tensors)
    publish_json(directory / f"{name}.json", {**header, "weights_sha256": file_hash(weights)})


def load_model(directory: Path, *, name: str = "model") -> LoadedModel:
    """Rebuild a saved model; nothing is unpickled.

    Raises:
        BadInput: absent or damaged files, another schema, or weights that do not fit the header's model.
    """
    path = directory / f"{name}.json"
    header = read_json(path, remake=REMAKE)
    check_schema(header, KIND, where=path, remake=REMAKE)
    signed = str(header.get("weights_sha256"))
    tensors = read_signed(directory / f"{name}.safetensors", sha256=signed, remake=REMAKE)
    try:
        with float32_by_default():
            model = create_model(**header["model"])
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: member 'model' does not describe a model ({error}); make it anew with: {REMAKE}"
        ) from None
    _check_fit(model, tensors, where=path)
    model.load_state_dict(tensors)
    return LoadedModel(model.eval(), header)


def _check_fit(model: TeacherStudent, tensors: Mapping[str, Tensor], *, where: Path) -> None:
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    faults = [f"missing {key}" for key in expected if key not in tensors]
    faults += [f"unexpected {key}" for key in tensors if key not in expected]
    faults += [
        f"{key} is {tuple(tensors[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in tensors and tuple(tensors[key].shape) != shape
    ]
    faults += [
        f"{key} is {tensors[key].dtype} instead of {value.dtype}"
        for key, value in model.state_dict().items()
        if key in tensors and tensors[key].dtype != value.dtype
    ]
    faults += [f"{key} is not finite" for key, value in tensors.items() if not value.isfinite().all()]
    if faults:
        raise BadInput(f"{where}: the weights do not fit the model it describes: {'; '.join(faults)}")
