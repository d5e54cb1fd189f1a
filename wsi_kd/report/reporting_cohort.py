"""Reporting items on slides, cases and partitions."""

from collections import Counter
from typing import Literal

from wsi_kd.bags.splits import refuse_leaks
from wsi_kd.core.provenance import RESEARCH_ONLY
from wsi_kd.core.records import SlideStatus
from wsi_kd.report.numbers import counted
from wsi_kd.report.reporting_cohort_facts import (
    ClassImbalance,
    DataSources,
    Deidentification,
    Flow,
    FlowStage,
    Labels,
    MissingData,
    Partition,
    PartitionCount,
    PartitionLevel,
    Preprocessing,
    SampleSize,
)
from wsi_kd.report.reporting_sources import ReportingSources
from wsi_kd.report.reporting_values import NotAvailable, Present, not_available, present

SLIDE_STEPS = ("adopt", "mask", "tile", "stain", "embed")
"""In which a slide may fail, in the order of the line."""
SHOWN_METADATA = ("format", "vendor", "scanner", "objective", "resolution")
UNKNOWN = "(none named)"
NO_MODEL = "no model was trained in this run"
DATES = "the manifest holds no dates, and none is read from slides: a date can help to identify a patient"
LABEL_SOURCE = (
    "the manifest holds labels and annotations, not who made them, by which rule, how well they agree"
)
SIZE_RATIONALE = (
    "the number of slides is decided before the manifest is written, and recorded nowhere in the run"
)
DEMOGRAPHICS = (
    "of a patient the run knows the case's name alone; age, sex and the like are measured only as subgroups, "
    "where the manifest has such columns"
)
EXTERNAL = (
    "training, validation and test slides come from one manifest; score slides of another hospital with "
    "wsi-kd infer, or report a run that tests on them"
)
NO_PATIENTS = (
    "The manifest names no patient (column case_id): every slide counts as a case of its own, so two slides "
    "of one patient may stand in two parts, and intervals are of slides."
)
HANDLING = {
    "label": "trained on by nobody; scored where in a test part, and in no number",
    "resolution": "left out (status missing_mpp)",
    "site": "a group of its own among the subgroups",
    "scanner": "a group of its own among the subgroups",
    "tile label": "in no tile measure",
}
IMBALANCE = (
    "none: slides are neither drawn again nor weighted by class; AUC does not depend on the shares, average "
    "precision is shown beside its chance, thresholds are chosen on validation"
)


def intended_use() -> Present[str]:
    """Say what the numbers are for."""
    return present("Research alone: the notice stands at the page's head and foot.", RESEARCH_ONLY)


def data_sources(sources: ReportingSources) -> Present[DataSources]:
    """Count slides by site, vendor and scanner."""
    cohort = sources.metrics["cohort"]
    sites = {row.slide_id: row.site for model in sources.models for row in model.test if row.site}
    facts: DataSources = {
        "slides": cohort["slides"],
        "cases": cohort["cases"],
        "sites": dict(sorted(Counter(sites.values()).items())),
        "vendors": dict(sorted(Counter(slide.vendor or UNKNOWN for slide in sources.used).items())),
        "scanners": dict(sorted(Counter(slide.scanner or UNKNOWN for slide in sources.used).items())),
    }
    places = counted(len(facts["sites"]), "site") if sites else "sites not named"
    vendors = ", ".join(f"{name} {count:,}" for name, count in facts["vendors"].items())
    size = f"{counted(facts['slides'], 'slide')} of {counted(facts['cases'], 'case')}"
    text = f"{size}; {places}; by vendor: {vendors or 'none was used'}."
    return present(text, facts)


def preprocessing(sources: ReportingSources) -> Present[Preprocessing] | NotAvailable:
    """Tell the settings from slide to features, and the tiles that were left out."""
    if not sources.headers:
        return not_available(NO_MODEL)
    left_out = {
        reason: sum(getattr(slide, f"dropped_{reason}") for slide in sources.used)
        for reason in ("damaged", "pen", "background", "blurred")
    }
    facts: Preprocessing = {
        "settings": dict(sources.headers[0].get("sections", {})),
        "encoders": sorted({str(header.get("encoder", "")) for header in sources.headers}),
        "tiles_laid": sum(slide.tiles_laid for slide in sources.used),
        "tiles_used": sum(slide.tiles for slide in sources.used),
        "left_out": left_out,
    }
    text = (
        f"Tissue mask, tiles, features of encoder {', '.join(facts['encoders'])}; of {facts['tiles_laid']:,} "
        f"tiles {facts['tiles_used']:,} were used. Every setting is among the facts."
    )
    return present(text, facts)


def deidentification() -> Present[Deidentification]:
    """State what of a patient the report can hold."""
    facts: Deidentification = {
        "label_and_macro_images": False,
        "folders": False,
        "slide_metadata": list(SHOWN_METADATA),
    }
    text = (
        "The report holds no label or macro image and no folder; of a slide's metadata it holds "
        f"{', '.join(SHOWN_METADATA)}. Ids of slides and cases stand as the manifest gives them: it cannot "
        "know whether they, or pen on the glass of a slide that is shown, name a patient."
    )
    return present(text, facts)


def missing_data(sources: ReportingSources) -> Present[MissingData]:
    """Count slides that lack a label, a resolution, a site, a scanner."""
    cohort = sources.metrics["cohort"]
    tested = {row.slide_id: row.site for model in sources.models for row in model.test}
    tiles = sum(slide.tiles for slide in sources.used if slide.slide_id in sources.tested)
    slides = {
        "label": cohort["unlabeled"],
        "resolution": sum(slide.status == SlideStatus.MISSING_MPP for slide in sources.slides),
        "site": sum(not site for site in tested.values()),
        "scanner": sum(not slide.scanner for slide in sources.used),
    }
    facts: MissingData = {
        "slides": slides,
        "tiles_without_label": max(0, tiles - cohort["labeled_tiles"]),
        "handling": HANDLING,
    }
    told = ", ".join(f"{what} {count:,}" for what, count in slides.items())
    return present(
        f"Slides without: {told}. Nothing is imputed; how each is handled is among the facts.", facts
    )


def labels(sources: ReportingSources) -> Present[Labels]:
    """Name the classes."""
    metrics, cohort = sources.metrics, sources.metrics["cohort"]
    facts: Labels = {
        "classes": metrics["classes"],
        "positive_classes": metrics["positive_classes"],
        "slides_per_class": cohort["slides_per_class"],
        "labeled_tiles": cohort["labeled_tiles"],
        "positive_tiles": cohort["positive_tiles"],
    }
    text = (
        f"Classes {', '.join(facts['classes'])}, the first one negative; {facts['labeled_tiles']:,} tiles of "
        f"test slides have a label, {facts['positive_tiles']:,} of them positive."
    )
    return present(text, facts)


def sample_size(sources: ReportingSources) -> Present[SampleSize]:
    """Count all."""
    cohort, used = sources.metrics["cohort"], sources.used
    facts: SampleSize = {
        "slides": cohort["slides"],
        "cases": cohort["cases"],
        "slides_used": len(used),
        "slides_per_class": cohort["slides_per_class"],
        "tiles": cohort["tiles"],
    }
    text = (
        f"{counted(facts['slides'], 'slide')} of {counted(facts['cases'], 'case')}, "
        f"{facts['slides_used']:,} used; {counted(facts['tiles'], 'tile')}."
    )
    return present(text, facts)


def partition(sources: ReportingSources) -> Present[Partition]:
    """Tell how slides came into the parts."""
    settings, folds = sources.splits.settings, len(sources.splits.folds)
    origin: Literal["drawn", "given", "column split of the manifest"] = "drawn"
    if settings.get("given"):
        origin = "given"
    elif folds == 1:
        origin = "column split of the manifest"
    facts: Partition = {
        "origin": origin,
        "folds": folds,
        "seed": settings.get("seed") if origin == "drawn" else None,
        "splits_sha256": sources.splits.sha256,
    }
    how = f"drawn by case, stratified by label, seed {facts['seed']}" if origin == "drawn" else origin
    return present(f"{counted(folds, 'fold')} of train, val and test: {how}.", facts)


def partition_level(sources: ReportingSources) -> Present[PartitionLevel]:
    """Check that no case stands in two parts of a fold.

    Raises:
        BadInput: one does: the run's numbers are not what they seem.
    """
    case_of, folds = sources.splits.case_of, len(sources.splits.folds)
    refuse_leaks(sources.splits.folds, case_of)
    facts: PartitionLevel = {"level": "case", "folds_checked": folds, "cases_in_two_parts": 0}
    text = f"Case (patient): in {counted(folds, 'fold')} no case stands in two parts; an overlap is an error."
    if all(case_id == slide_id for slide_id, case_id in case_of.items()):
        text = f"{text} {NO_PATIENTS}"
    return present(text, facts)


def partition_counts(sources: ReportingSources) -> Present[list[PartitionCount]]:
    """Count slides and cases of every part of every fold."""
    parts: list[PartitionCount] = [{**part} for part in sources.metrics["cohort"]["folds"]]
    return present(
        f"{counted(len(parts), 'part')}, each with its slides, cases and slides of every class.", parts
    )


def class_imbalance(sources: ReportingSources) -> Present[ClassImbalance] | NotAvailable:
    """Tell the shares of the classes and what was done about them."""
    counts = sources.metrics["cohort"]["slides_per_class"]
    total = sum(counts.values())
    if not total:
        return not_available("no slide has a label")
    shares = {name: count / total for name, count in counts.items()}
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return present(
        f"{told} of the labeled slides. Handling: {IMBALANCE}.", {"shares": shares, "handling": IMBALANCE}
    )


def flow(sources: ReportingSources) -> Present[Flow]:
    """Follow slides from the manifest to the numbers, as a CONSORT diagram does."""
    stages = _stages(sources)
    failed = [slide for slide in sources.slides if slide.status != SlideStatus.OK]
    facts: Flow = {
        "stages": stages,
        "excluded": [
            {
                "slide_id": slide.slide_id,
                "step": slide.step,
                "status": str(slide.status),
                "reason": slide.reason,
            }
            for slide in failed
        ],
    }
    text = (
        f"{counted(len(sources.slides), 'slide')} in the manifest, {len(failed):,} left out with a reason "
        f"each, {stages[-1]['slides_out']:,} tested with a label."
    )
    return present(text, facts)


def _stages(sources: ReportingSources) -> list[FlowStage]:
    stages: list[FlowStage] = []
    remaining = len(sources.slides)

    def stage(step: str, left_out: dict[str, int]) -> None:
        nonlocal remaining
        slides_in = remaining
        remaining -= sum(left_out.values())
        stages.append({"step": step, "slides_in": slides_in, "left_out": left_out, "slides_out": remaining})

    for step in SLIDE_STEPS:
        lost = Counter(
            str(slide.status)
            for slide in sources.slides
            if slide.status != SlideStatus.OK and slide.step == step
        )
        if lost or step in {"mask", "tile", "embed"}:
            stage(step, dict(sorted(lost.items())))
    placed = {slide_id for fold in sources.splits.folds for part in fold for slide_id in part}
    stage("split", {"in no part of any fold": sum(slide.slide_id not in placed for slide in sources.used)})
    unmeasured = {"never in a test part": remaining - len(sources.tested)}
    stage("test", unmeasured)
    stage(
        "evaluate", {"without a label": sum(not sources.splits.label_of[slide] for slide in sources.tested)}
    )
    return stages
