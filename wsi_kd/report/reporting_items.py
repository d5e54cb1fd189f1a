"""The reporting items of a run, put together: what `report/reporting_items.json` holds."""

from collections.abc import Mapping
from typing import Any, cast

from wsi_kd.core.provenance import RESEARCH_ONLY, stamp
from wsi_kd.report.reporting_cohort import (
    DATES,
    DEMOGRAPHICS,
    EXTERNAL,
    LABEL_SOURCE,
    SIZE_RATIONALE,
    class_imbalance,
    data_sources,
    deidentification,
    flow,
    intended_use,
    labels,
    missing_data,
    partition,
    partition_counts,
    partition_level,
    preprocessing,
    sample_size,
)
from wsi_kd.report.reporting_labels import CHECKLIST, GUIDELINES, LEFT_TO_AUTHORS
from wsi_kd.report.reporting_models import (
    computation,
    ensembling,
    hashes,
    initialization,
    model_selection,
    model_specification,
    software,
    training,
)
from wsi_kd.report.reporting_results import (
    calibration_item,
    explainability,
    failures,
    metrics_item,
    performance,
    robustness,
    subgroups_item,
    threshold_origin,
    uncertainty,
)
from wsi_kd.report.reporting_schema import KIND, Items, ReportingItems
from wsi_kd.report.reporting_sources import ReportingSources
from wsi_kd.report.reporting_values import not_available


def reporting_items(sources: ReportingSources, *, settings: Mapping[str, Any]) -> ReportingItems:
    """Answer every item, or say why it cannot be.

    Args:
        sources: the run.
        settings: title and section `report`, for the stamp.

    Raises:
        BadInput: a case stands in two parts of a fold.
    """
    items: Items = {
        "intended_use": intended_use(),
        "data_sources": data_sources(sources),
        "dates": not_available(DATES),
        "preprocessing": preprocessing(sources),
        "deidentification": deidentification(),
        "missing_data": missing_data(sources),
        "labels": labels(sources),
        "label_source": not_available(LABEL_SOURCE),
        "sample_size": sample_size(sources),
        "sample_size_rationale": not_available(SIZE_RATIONALE),
        "partition": partition(sources),
        "partition_level": partition_level(sources),
        "partition_counts": partition_counts(sources),
        "demographics": not_available(DEMOGRAPHICS),
        "class_imbalance": class_imbalance(sources),
        "model_specification": model_specification(sources),
        "software": software(sources),
        "initialization": initialization(sources),
        "training": training(sources),
        "computation": computation(sources),
        "model_selection": model_selection(sources),
        "ensembling": ensembling(sources),
        "metrics": metrics_item(sources),
        "uncertainty": uncertainty(sources),
        "robustness": robustness(sources),
        "explainability": explainability(sources),
        "external_test": not_available(EXTERNAL),
        "flow": flow(sources),
        "performance": performance(sources),
        "threshold_origin": threshold_origin(sources),
        "failures": failures(sources),
        "subgroups": subgroups_item(sources),
        "calibration": calibration_item(sources),
        "hashes": hashes(sources),
    }
    told = {
        **stamp(KIND, settings),
        "guidelines": GUIDELINES,
        "checklist": CHECKLIST,
        "items": items,
        "left_to_authors": list(LEFT_TO_AUTHORS),
        "research_only": RESEARCH_ONLY,
    }
    return cast("ReportingItems", told)
