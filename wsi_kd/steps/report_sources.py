"""What the reporting items need of a run beyond what the page shows: its split, and validation scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_kd.bags.manifest import Manifest
from wsi_kd.bags.tables import listed
from wsi_kd.core.files import read_json, sidecar
from wsi_kd.core.messages import warn
from wsi_kd.core.places import without_folder, without_paths
from wsi_kd.core.provenance import git_state
from wsi_kd.evaluation.schema import ScoreSummary
from wsi_kd.evaluation.slide_metrics import summarize_slides
from wsi_kd.report.named_scores import curve_scores
from wsi_kd.report.reporting_sources import ReportingSources, SplitFacts
from wsi_kd.steps.report_inputs import RunInputs
from wsi_kd.steps.scored_models import slide_scores
from wsi_kd.steps.split import REMAKE, read_splits


def read_sources(results_dir: Path, run: RunInputs) -> ReportingSources:
    """Read the split and measure the validation slides, with the intervals that evaluate made.

    Raises:
        BadInput: a split or predictions that are missing, damaged or of another version.
    """
    return ReportingSources(
        metrics=run.metrics,
        slides=run.slides,
        splits=_split_facts(results_dir / "splits.csv"),
        models=run.models,
        headers=tuple(_without_folders(header) for header in run.headers),
        validation=_validation(run),
        fingerprints=run.fingerprints,
        jobs=run.jobs,
        git=git_state(),
    )


def tell_changed_truth(manifest: Manifest, splits: SplitFacts) -> None:
    """Warn where the manifest says another label or case of a slide than the split that was evaluated."""
    changed = [
        f"{row.slide_id} ({what}: '{now}', evaluated with '{then}')"
        for row in manifest.rows
        if row.slide_id in splits.case_of
        for what, now, then in (
            ("label", row.label, splits.label_of[row.slide_id]),
            ("case", row.case_id, splits.case_of[row.slide_id]),
        )
        if now != then
    ]
    if changed:
        warn(
            f"report: the manifest has changed since the run was evaluated: {listed(changed)}; the page "
            "shows what was evaluated; run anew: wsi-kd split, wsi-kd train, wsi-kd predict, wsi-kd evaluate"
        )


def _split_facts(path: Path) -> SplitFacts:
    header, splits = read_json(sidecar(path), remake=REMAKE), read_splits(path)
    return SplitFacts(
        splits.folds,
        case_of={row.slide_id: row.case_id for row in splits.rows},
        label_of={row.slide_id: row.label for row in splits.rows},
        settings=without_paths(header["settings"]).get("split", {}),
        sha256=header["sha256"],
    )


def _without_folders(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return model.json as it was recorded, paths in its settings cut to their names."""
    sections = {name: without_paths(header.get(name, {})) for name in ("sections", "settings")}
    return {**header, **sections, "encoder": without_folder(str(header.get("encoder", "")))}


def _validation(run: RunInputs) -> Mapping[tuple[str, str], ScoreSummary]:
    evaluate = run.metrics["settings"]["evaluate"]
    found = {}
    for one in curve_scores(run.metrics):
        models = [
            predicted
            for model, predicted in zip(run.models, run.predictions, strict=True)
            if model.recipe == one.recipe
        ]
        parts = [slide_scores(model, one.score, run.metrics["classes"], part="val") for model in models]
        if any(len(part.labels) for part in parts):
            found[one.recipe, one.score] = summarize_slides(
                parts,
                samples=evaluate["bootstrap_samples"],
                confidence=evaluate["confidence"],
                seed=evaluate["seed"],
            )
    return found
