"""The structure of `report/reporting_items.json`: every item of CLAIM and TRIPOD+AI that a run can answer.

Each item is present, with a sentence and its facts, or not available, with the reason; none is absent. Its
JSON schema is docs/schemas/reporting_items.schema.json. Which item of which guideline: `reporting_labels`.
"""

from typing import (
    Any,
    Final,
    NotRequired,  # pydantic takes no other below Python 3.12
)

from pydantic import with_config
from typing_extensions import TypedDict

from wsi_kd.core.json_schema import DESCRIBED, file_schema
from wsi_kd.report.reporting_cohort_facts import (
    ClassImbalance,
    DataSources,
    Deidentification,
    Flow,
    Labels,
    MissingData,
    Partition,
    PartitionCount,
    PartitionLevel,
    Preprocessing,
    SampleSize,
)
from wsi_kd.report.reporting_model_facts import (
    Computation,
    Hashes,
    Initialization,
    ModelSelection,
    ModelSpecification,
    Software,
    TrainedRecipe,
)
from wsi_kd.report.reporting_result_facts import (
    CalibrationOf,
    Failures,
    MetricNames,
    ModelThresholds,
    PartitionPerformance,
    Robustness,
    SubgroupArea,
    TileAgreement,
    Uncertainty,
)
from wsi_kd.report.reporting_values import NotAvailable, Present

KIND: Final = "reporting_items"
FILE: Final = "reporting_items.json"


@with_config(DESCRIBED)
class Items(TypedDict):
    """Every item; each is there."""

    intended_use: Present[str]
    data_sources: Present[DataSources]
    dates: NotAvailable
    preprocessing: Present[Preprocessing] | NotAvailable
    deidentification: Present[Deidentification]
    missing_data: Present[MissingData]
    labels: Present[Labels]
    label_source: NotAvailable
    sample_size: Present[SampleSize]
    sample_size_rationale: NotAvailable
    partition: Present[Partition]
    partition_level: Present[PartitionLevel]
    partition_counts: Present[list[PartitionCount]]
    demographics: NotAvailable
    class_imbalance: Present[ClassImbalance] | NotAvailable
    model_specification: Present[list[ModelSpecification]] | NotAvailable
    software: Present[Software]
    initialization: Present[Initialization] | NotAvailable
    training: Present[list[TrainedRecipe]] | NotAvailable
    computation: Present[Computation] | NotAvailable
    model_selection: Present[ModelSelection] | NotAvailable
    ensembling: Present[int] | NotAvailable
    metrics: Present[MetricNames] | NotAvailable
    uncertainty: Present[Uncertainty] | NotAvailable
    robustness: Present[Robustness] | NotAvailable
    explainability: Present[list[TileAgreement]] | NotAvailable
    external_test: NotAvailable
    flow: Present[Flow]
    performance: Present[list[PartitionPerformance]] | NotAvailable
    threshold_origin: Present[list[ModelThresholds]] | NotAvailable
    failures: Present[Failures] | NotAvailable
    subgroups: Present[list[SubgroupArea]] | NotAvailable
    calibration: Present[list[CalibrationOf]] | NotAvailable
    hashes: Present[Hashes]


@with_config(DESCRIBED)
class ItemLabel(TypedDict):
    """What an item asks, and who asks it."""

    heading: str
    claim: list[str]
    """Items of CLAIM (2020, 42 items)."""
    tripod_ai: list[str]
    """Items of TRIPOD+AI (2024)."""
    section: str
    """Anchor of the page's section that shows more; empty where there is none."""


@with_config(DESCRIBED)
class ReportingItems(TypedDict):
    """The file's members."""

    schema_version: int
    kind: str
    settings: dict[str, Any]
    settings_hash: str
    versions: dict[str, str]
    guidelines: dict[str, str]
    """What the numbers of `checklist` refer to."""
    checklist: dict[str, ItemLabel]
    """By item."""
    items: Items
    left_to_authors: list[str]
    """Items that no program can check."""
    research_only: str
    content_sha256: NotRequired[str]
    """sha256 of all other members in canonical form; added when the file is written."""


def reporting_schema() -> dict[str, Any]:
    """Return the JSON schema of the file as this version writes it."""
    return file_schema(ReportingItems, kind=KIND, title=FILE)
