"""Step export: a trained model -> one ONNX file."""

from pathlib import Path

from wsi_kd.core.errors import BadInput
from wsi_kd.inference.onnx_export import Exported, Part, export_onnx
from wsi_kd.training.checkpoint import load_model

SUFFIX = ".onnx"


def run_export(model_dir: Path, *, out: Path, part: Part) -> Exported:
    """Write `out`; a file that is there is replaced.

    Args:
        model_dir: folder with model.safetensors and model.json.
        out: the file, `.onnx`.
        part: student, teacher or both.

    Raises:
        BadInput: a damaged checkpoint, a model or part that cannot be exported, another suffix, a package
            that is missing; the model's folder is named.
        RunFailed: the file's answers differ from the model's, or it could not be written.
    """
    if out.suffix.lower() != SUFFIX:
        raise BadInput(f"{out}: expected a file that ends in {SUFFIX}; correct --out")
    loaded = load_model(model_dir)
    try:
        return export_onnx(out, loaded, part=part)
    except BadInput as error:
        raise BadInput(f"{model_dir}: {error}") from None
