"""A trained model as an ONNX file for other programs, checked against `predict_bag` before it is kept."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import publish
from wsi_kd.core.places import without_folder
from wsi_kd.core.provenance import RESEARCH_ONLY, package_versions
from wsi_kd.inference.calls import CALL_FACTS
from wsi_kd.inference.onnx_graph import ONE_BAG, OUTPUTS, STUDENT_OUTPUTS, TEACHER_OUTPUTS, BagGraph
from wsi_kd.inference.predict import predict_bag
from wsi_kd.mil.projectors import FEATURE_PROJECTORS
from wsi_kd.training.checkpoint import LoadedModel

Part: TypeAlias = Literal["student", "teacher", "both"]
Features: TypeAlias = Float32[np.ndarray, "tiles features"]
Run: TypeAlias = Callable[[Features], Mapping[str, np.ndarray]]

INPUT: Final = "features"
OPSET: Final = 20
EXAMPLE_TILES: Final = 7
CHECKED_TILES: Final = (1, 7, 1000)
"""Sizes of the drawn bags that a file is checked on."""
TOLERANCE: Final = 1e-4
"""Largest difference allowed between the file's answers and the model's; of logits, relative to 1 + size."""

HEADER_KEYS: Final = (
    "recipe",
    "teacher",
    "classes",
    "seed",
    "fold",
    "feature_dim",
    "encoder",
    "encoder_settings",
    "weights_hash",
    "stain",
    *CALL_FACTS,
)
"""Members of the checkpoint's header that go into the file, as JSON."""
TILE_KEYS: Final = ("tile_px", "tile_mpp", "overlap_px")


class Exported(NamedTuple):
    """What was written."""

    part: Part
    outputs: tuple[str, ...]
    difference: float | None
    """Largest difference from `predict_bag` over all outputs and bags; None: onnxruntime is not installed."""


def export_onnx(path: Path, loaded: LoadedModel, *, part: Part) -> Exported:
    """Write one file of opset 20: float32 features (tiles, features) in, any number of tiles, `OUTPUTS` out.

    What the numbers mean, thresholds and limit stand in the file's metadata. Where onnxruntime is installed
    the file's answers on drawn bags are compared with `predict_bag`'s first.

    Raises:
        BadInput: a part that the model has not, a teacher or projector that ONNX cannot hold, a package that
            is missing.
        RunFailed: the answers differ, or the file could not be written.
    """
    _check(loaded, part)
    content = _encoded(loaded, part)
    runtime = _runtime(content)
    difference = None if runtime is None else largest_difference(runtime, loaded, part=part)
    if difference is not None and not difference <= TOLERANCE:
        raise RunFailed(
            f"{path}: not written: its answers differ from the model's by {difference:.1e}, expected at most "
            f"{TOLERANCE:g}; please report this with the versions of torch, onnx and onnxruntime"
        )
    with publish(path) as temporary:
        temporary.write_bytes(content)
    return Exported(part, OUTPUTS[part], difference)


def largest_difference(
    run: Run, loaded: LoadedModel, *, part: Part, tiles: Sequence[int] = CHECKED_TILES
) -> float:
    """Return the largest difference between a file's answers and `predict_bag`'s on drawn bags.

    Tiles are drawn around the training's by its moments. Logits have no scale of their own: their difference
    is divided by 1 + their size. The file's `feature_distance` of tiles is compared by its median.
    """
    scaling = loaded.model.scaling
    mean, deviation = scaling.mean.numpy(), scaling.deviation.numpy()
    generator = np.random.default_rng(0)
    worst = 0.0
    for count in tiles:
        drawn = generator.standard_normal((count, len(mean)))
        features = (mean + deviation * drawn).astype(np.float32)
        given = run(features)
        expected = _expected(loaded, features, part)
        worst = max(worst, *(_difference(given[name], expected[name], name) for name in expected))
    return worst


def _check(loaded: LoadedModel, part: Part) -> None:
    model, described = loaded.model, loaded.header["model"]
    if described.get("projector", "linear") not in FEATURE_PROJECTORS:
        raise BadInput(
            f"this model reads pixels (projector {described['projector']}); only models on an encoder's "
            "features are exported"
        )
    if part != "teacher" and model.student is None:
        raise BadInput(
            f"a model of recipe {loaded.header['recipe']} has no student; export it with --part teacher"
        )
    if part != "student" and described["teacher"] not in ONE_BAG:
        other = "" if model.student is None else "; its student alone can be: --part student"
        raise BadInput(
            f"teacher {described['teacher']} cannot be exported; those that can: {', '.join(ONE_BAG)}{other}"
        )


def _encoded(loaded: LoadedModel, part: Part) -> bytes:
    graph = BagGraph(
        loaded.model,
        teacher=None if part == "student" else str(loaded.header["model"]["teacher"]),
        student=part != "teacher",
        top_k=int(loaded.header["top_k"]),
    )
    proto = _translated(graph.eval(), width=int(loaded.header["feature_dim"]), names=OUTPUTS[part])
    proto.doc_string = RESEARCH_ONLY
    for key, value in file_metadata(loaded.header, part).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(proto.SerializeToString())


def file_metadata(header: Mapping[str, Any], part: Part) -> dict[str, str]:
    """Return what the file says of itself: texts as they are, all else as JSON; no path."""
    tile = header.get("sections", {}).get("tile", {})
    members = {key: header[key] for key in HEADER_KEYS if key in header}
    members |= {key: tile[key] for key in TILE_KEYS if key in tile}
    if "encoder" in members:
        members["encoder"] = without_folder(str(members["encoder"]))
    told = {"part": part, "wsi_kd": package_versions()["wsi_kd"], "research_only": RESEARCH_ONLY, **members}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}


def _translated(graph: nn.Module, *, width: int, names: tuple[str, ...]) -> Any:
    """Return the ModelProto, without the source lines that torch writes beside every operator."""
    try:
        import onnx  # noqa: F401 - asked for here: torch's own message names neither the package nor the remedy
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BadInput(
            f"the export needs the package {error.name}; install it with: pip install wsi-kd[onnx]"
        ) from None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch itself has deprecated
        program = torch.onnx.export(
            graph,
            (torch.zeros(EXAMPLE_TILES, width),),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(names),
            dynamic_shapes={INPUT: {0: torch.export.Dim("tiles")}},
        )
    if program is None:
        raise RunFailed("torch.onnx.export returned nothing; please report this with the version of torch")
    proto = program.model_proto
    for node in (*proto.graph.node, *(inner for function in proto.functions for inner in function.node)):
        node.doc_string = ""
        del node.metadata_props[:]
    return proto


def _runtime(content: bytes) -> Run | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(features: Features) -> Mapping[str, np.ndarray]:
        return dict(zip(names, session.run(None, {INPUT: features}), strict=True))

    return run


def _expected(loaded: LoadedModel, features: Features, part: Part) -> dict[str, np.ndarray]:
    """Put `predict_bag`'s answer under the names of the file's outputs; the student's logits as they are."""
    top_k = int(loaded.header["top_k"])
    said = predict_bag(loaded.model, features, student_pooling="topk", top_k=top_k, device="cpu")
    expected = {"feature_distance": np.array(said.feature_distance)}
    if part != "student":
        values = (said.teacher_probability, said.attention, said.attention_logits, said.evidence)
        expected |= dict(zip(TEACHER_OUTPUTS, values, strict=True))
    if part != "teacher" and said.student is not None and loaded.model.student is not None:
        with torch.no_grad():
            logits = loaded.model.student(loaded.model.project(torch.from_numpy(features))).numpy()
        values = (logits, said.student.tiles, said.student.by_max, said.student.by_topk)
        expected |= dict(zip(STUDENT_OUTPUTS, values, strict=True))
    return expected


def _difference(given: np.ndarray, expected: np.ndarray, name: str) -> float:
    if name == "feature_distance":
        given = np.sort(given)[(len(given) - 1) // 2]  # torch's median: the lower of two middle ones
    away = np.abs(given - expected)
    return float((away / (1.0 + np.abs(expected)) if name.endswith("logits") else away).max())
