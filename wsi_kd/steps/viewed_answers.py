"""What `infer` wrote, as the viewer shows it: one slide's folder, or a folder of such folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import read_json
from wsi_kd.core.provenance import check_schema
from wsi_kd.inference.prediction_schema import KIND, PredictionRecord
from wsi_kd.viewer.record import MARGIN, SPREAD, ModelAnswer, ModelKey, Viewed, ViewedSlide, margin

PREDICTION: Final = "prediction.json"
TILES: Final = "tiles.csv"
REMAKE: Final = "wsi-kd infer"
_RECORD: Final = TypeAdapter(PredictionRecord)


class _Read(NamedTuple):
    folder: Path
    record: PredictionRecord


def prediction_files(folder: Path) -> list[Path]:
    """List the prediction.json in a folder, or in the folders right below it."""
    own = folder / PREDICTION
    return [own] if own.is_file() else sorted(folder.glob(f"*/{PREDICTION}"))


def view_answers(folder: Path, *, sheet: Sequence[SlideRow]) -> Viewed:
    """Collect the answers in a folder.

    Args:
        folder: that `infer` wrote to.
        sheet: slides and their files; prediction.json names a file without its folder, and nothing else.

    Raises:
        BadInput: an answer that is damaged or of another version, or answers on other classes than the first.
    """
    answers = [_Read(path.parent, _read(path)) for path in prediction_files(folder)]
    classes = tuple(answers[0].record["classes"])
    for answer in answers:
        if tuple(answer.record["classes"]) != classes:
            raise BadInput(
                f"{answer.folder / PREDICTION}: classes {answer.record['classes']}, those before it have "
                f"{list(classes)}; view answers of one model at a time"
            )
    models = {key.key: key for key in (_model_key(answer.record) for answer in answers)}
    by_id = {row.slide_id: row for row in sheet}
    by_file = {row.path.name: row for row in sheet}
    read_with = answers[0].record["settings"].get("slides", {})
    several = any(answer.record["uncertainty"]["models"] > 1 for answer in answers)
    return Viewed(
        title=folder.resolve().name,
        classes=classes,
        models=tuple(models.values()),
        slides=tuple(_slide(answer, by_id, by_file) for answer in answers),
        root=folder,
        background=read_with.get("background", "metadata"),
        color=read_with.get("color", "as_stored"),
        uncertainty=SPREAD if several else MARGIN,
    )


def _read(path: Path) -> PredictionRecord:
    record = read_json(path, remake=REMAKE)
    check_schema(record, KIND, where=path, remake=REMAKE)
    try:
        _RECORD.validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        member = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: {member}: {first['msg']}; make it anew with: {REMAKE}") from None
    return cast("PredictionRecord", record)


def _model_key(record: PredictionRecord) -> ModelKey:
    models = record["models"]
    if len(models) > 1:
        recipes = dict.fromkeys(str(model["recipe"]) for model in models)
        return ModelKey(f"ensemble of {len(models)} models", " and ".join(recipes), None, None)
    recipe, seed, fold = str(models[0]["recipe"]), int(models[0]["seed"]), int(models[0]["fold"])
    return ModelKey(f"{recipe}/seed{seed}/fold{fold}", recipe, seed, fold)


def _slide(answer: _Read, by_id: Mapping[str, SlideRow], by_file: Mapping[str, SlideRow]) -> ViewedSlide:
    record = answer.record
    row = by_id.get(record["slide_id"]) or by_file.get(record["slide"].get("slide_file", ""))
    model, tiles = _model_key(record).key, answer.folder / TILES
    return ViewedSlide(
        slide_id=record["slide_id"],
        path=row.path if row else None,
        status=str(record["status"]),
        reason=record["reason"],
        step=record["step"],
        label=row.label if row else "",
        site=row.site if row else "",
        slide_mpp=record["slide"].get("slide_mpp") or None,
        annotation=row.annotation if row else None,
        answers=(_answer(record, model, row.label if row else ""),) if record["probabilities"] else (),
        tiles={model: tiles} if tiles.is_file() else {},
    )


def _answer(record: PredictionRecord, model: str, label: str) -> ModelAnswer:
    """Judge by the student where there is one, else by the teacher."""
    negative, calls = record["classes"][0], record["calls"]
    positive = {
        score: sum(value for name, value in classes.items() if name != negative)
        for score, classes in record["probabilities"].items()
    }
    known = {score: told["value"] for score, told in record["thresholds"].items()}
    thresholds = {score: known.get(score) for score in ("teacher", "student")}
    judged = "student" if "student" in positive else "teacher"
    spread = record["uncertainty"]["spread"].get(judged)
    unlike = record["out_of_distribution"]
    return ModelAnswer(
        model=model,
        part="",
        teacher=positive.get("teacher"),
        student=positive.get("student"),
        teacher_call=calls.get("teacher", ""),
        student_call=calls.get("student", ""),
        thresholds=thresholds,
        right=calls.get(judged) == label if label in record["classes"] else None,
        uncertain=spread["sd"] if spread else margin(positive.get(judged), thresholds.get(judged)),
        out_of_distribution=unlike["flag"] if unlike else None,
    )
