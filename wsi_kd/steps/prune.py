"""Step prune: a trained model -> the same with fewer neurons in one layer, an ordinary checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsi_kd.bags.datasets import BagSet, load_bags
from wsi_kd.bags.manifest import Manifest
from wsi_kd.claims.claim import Series
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import publish, publish_table, publish_text, sidecar
from wsi_kd.core.provenance import package_versions, stamp
from wsi_kd.kd.spectral import ACTIVE
from wsi_kd.kd.spectral_pruning import Cut, find_knee
from wsi_kd.report.figures import series_chart
from wsi_kd.report.svg import standalone_svg
from wsi_kd.settings.all import Settings, parse_settings
from wsi_kd.steps.scored_models import manifest_rows
from wsi_kd.steps.split import check_seen, read_splits
from wsi_kd.steps.train_large import SAME_FEATURES
from wsi_kd.steps.train_validation import choose_thresholds, score_validation
from wsi_kd.training.checkpoint import LoadedModel, load_model, save_model
from wsi_kd.training.plan import GatedLayer
from wsi_kd.training.pruning import (
    Narrow,
    Pooling,
    count_active,
    narrow_model,
    neurons_of,
    validation_curve,
    validation_loss,
)

CURVE: Final = "pruning.csv"
CHART: Final = "pruning.svg"
HISTORY: Final = "history.csv"


class Wanted(NamedTuple):
    """How the neurons that stay are chosen: exactly one of the three is given."""

    keep: int | None = None
    """So many."""
    threshold: float | None = None
    """Those that score above this share of the best one's score."""
    knee: float | None = None
    """The fewest from which on the validation loss exceeds the wide model's by at most this much (nats)."""


class Pruned(NamedTuple):
    """What came of it."""

    neurons: int
    """Of the wide layer."""
    active: int
    """Those of them that score above a twentieth of the best."""
    kept: int
    wide_loss: float
    """On the validation slides."""
    loss: float
    curve: list[Cut]


def run_prune(
    manifest: Manifest,
    *,
    model_dir: Path,
    out_dir: Path,
    features_dir: Path,
    splits_path: Path,
    layer: GatedLayer,
    wanted: Wanted,
    settings: Settings,
) -> Pruned:
    """Write the narrow models (selected and last epoch), the validation curve and its chart to `out_dir`.

    What stays is decided on the selected model and its validation slides; the last epoch's model, where there
    is one, keeps as many. Thresholds are chosen anew on the same slides. The header's member `pruned_from`
    names the wide model by hash. Test slides are not read.

    Raises:
        BadInput: not exactly one way to choose, a model that is absent, damaged or cannot be narrowed, other
            features or classes, `out_dir` is `model_dir`.
        RunFailed: a file could not be written.
    """
    _check_wanted(wanted)
    if out_dir.resolve() == model_dir.resolve():
        raise BadInput(f"{out_dir}: that is the wide model's own folder; name another for the narrow one")
    names = [name for name in ("last", "model") if name == "model" or (model_dir / f"{name}.json").is_file()]
    loaded = {name: load_model(model_dir, name=name) for name in names}
    header = loaded["model"].header
    val = _validation_slides(manifest, header, features_dir=features_dir, splits_path=splits_path)
    pooling = Pooling(header["student_pooling"], int(header["top_k"]))
    wide = loaded["model"].model
    curve = validation_curve(wide, val, layer=layer, pooling=pooling)
    kept = _choose(loaded["model"], curve, layer=layer, wanted=wanted)
    narrow = {
        name: narrow_model(one.model, one.header["model"], layer=layer, keep=kept)
        for name, one in loaded.items()
    }
    pruned = Pruned(
        neurons=len(neurons_of(wide, layer)),
        active=count_active(wide, layer, threshold=ACTIVE),
        kept=kept,
        wide_loss=curve[-1].error,
        loss=validation_loss(narrow["model"].model, val, pooling=pooling),
        curve=curve,
    )
    told = {**_told(pruned, wanted, layer=layer), "wsi_kd": package_versions()["wsi_kd"]}
    _write_curve(out_dir, pruned, layer=layer, header=header)
    _copy_history(model_dir, out_dir)
    for name, made in narrow.items():
        _save(out_dir, name, made, wide=loaded[name], told=told, val=val, settings=settings)
    return pruned


def _check_wanted(wanted: Wanted) -> None:
    given = [name for name, value in wanted._asdict().items() if value is not None]
    if len(given) != 1:
        said = " and ".join(f"--{name}" for name in given) or "none"
        raise BadInput(f"give exactly one of --keep, --threshold and --knee, not {said}")
    if wanted.knee is not None and not wanted.knee >= 0.0:
        raise BadInput(f"--knee {wanted.knee:g}: expected what may be lost of the validation loss, from 0 up")


def _choose(loaded: LoadedModel, curve: Sequence[Cut], *, layer: GatedLayer, wanted: Wanted) -> int:
    neurons = curve[-1].kept
    if wanted.keep is not None:
        if not 1 <= wanted.keep <= neurons:
            raise BadInput(f"--keep {wanted.keep}: expected 1 to {neurons}, the neurons of the {layer}")
        return wanted.keep
    if wanted.threshold is not None:
        return count_active(loaded.model, layer, threshold=wanted.threshold)
    return find_knee(curve, tolerance=wanted.knee or 0.0)


def _validation_slides(
    manifest: Manifest, header: Mapping[str, Any], *, features_dir: Path, splits_path: Path
) -> BagSet:
    folds, fold = read_splits(splits_path).folds, header["fold"]
    if list(header["classes"]) != list(manifest.classes):
        raise BadInput(
            f"the model was trained on the classes {list(header['classes'])}, the manifest has "
            f"{list(manifest.classes)}; give the run that it was trained in"
        )
    if not 0 <= fold < len(folds):
        raise BadInput(f"{splits_path}: no fold {fold}, the model's; it holds folds 0 to {len(folds) - 1}")
    check_seen(header, folds[fold], where=splits_path)
    val = load_bags(features_dir, manifest_rows(manifest, folds[fold].val), manifest.classes)
    odd = [key for key in SAME_FEATURES if val.header.get(key) != header[key]]
    if odd:
        raise BadInput(
            f"{features_dir}: not the features that the model was trained on: they differ in "
            f"{', '.join(odd)}; give the run that it was trained in"
        )
    return val


def _told(pruned: Pruned, wanted: Wanted, *, layer: GatedLayer) -> dict[str, Any]:
    ((how, value),) = [(name, value) for name, value in wanted._asdict().items() if value is not None]
    return {
        "layer": layer,
        "neurons": pruned.neurons,
        "kept": pruned.kept,
        "chosen_by": how,
        "chosen_at": value,
        "validation_loss": pruned.loss,
        "wide_validation_loss": pruned.wide_loss,
    }


def _save(
    out_dir: Path,
    name: str,
    made: Narrow,
    *,
    wide: LoadedModel,
    told: Mapping[str, Any],
    val: BagSet,
    settings: Settings,
) -> None:
    """Write one narrow model; how its thresholds are chosen is what the wide one's header says."""
    trained = parse_settings({"train": wide.header["settings"]["train"]}, where="the model's own settings")
    own = trained.train.model_copy(update={"device": settings.train.device})
    thresholds = choose_thresholds(score_validation(made.model, val, settings=own), settings=own)
    origin = {"weights_sha256": wide.header["weights_sha256"], **told}
    header = {**wide.header, "model": made.described, "thresholds": thresholds, "pruned_from": origin}
    save_model(out_dir, name, made.model, header=header)


def _write_curve(out_dir: Path, pruned: Pruned, *, layer: GatedLayer, header: Mapping[str, Any]) -> None:
    about = {**stamp("pruning", {"layer": layer}), "weights_sha256": header["weights_sha256"]}
    publish_table(out_dir / CURVE, ("neurons", "validation_loss"), pruned.curve, stamp=about)
    x, y = zip(*((float(cut.kept), cut.error) for cut in pruned.curve), strict=True)
    lines = [Series("all neurons counted", x, y), Series("kept", (float(pruned.kept),), (pruned.loss,))]
    chart = series_chart("pruning", lines, x_label=f"neurons of the {layer}", y_label="validation loss")
    publish_text(out_dir / CHART, standalone_svg(chart))


def _copy_history(model_dir: Path, out_dir: Path) -> None:
    """Copy the wide model's course of training, where there is one: the report shows it."""
    for path in (model_dir / HISTORY, sidecar(model_dir / HISTORY)):
        if path.is_file():
            with publish(out_dir / path.name) as temporary:
                temporary.write_bytes(path.read_bytes())
