"""The order of the page."""

from wsi_kd.report.calls import calls_section
from wsi_kd.report.cohort import cohort_section, status_section
from wsi_kd.report.comparisons import comparison_section
from wsi_kd.report.gallery import gallery_section
from wsi_kd.report.headline import headline_section
from wsi_kd.report.page import Page
from wsi_kd.report.performance import fold_section, last_epoch_section, performance_section
from wsi_kd.report.precision import precision_sections
from wsi_kd.report.probabilities import calibration_section, decision_section
from wsi_kd.report.provenance import provenance_section
from wsi_kd.report.rates import curve_section
from wsi_kd.report.record import RECIPE_NAMES, RunRecord
from wsi_kd.report.reporting_section import reporting_section
from wsi_kd.report.scores import score_section, training_section
from wsi_kd.report.subgroups import subgroup_section
from wsi_kd.report.tile_scores import tile_section
from wsi_kd.report.timings import timing_section


def build_page(record: RunRecord) -> Page:
    """Build every section of a run's report."""
    metrics = record.metrics
    return Page(
        title=record.title,
        research_only=metrics["research_only"],
        facts=_facts(record),
        sections=(
            headline_section(metrics),
            performance_section(metrics),
            curve_section(metrics),
            calls_section(metrics),
            gallery_section(record.cards),
            tile_section(metrics),
            comparison_section(metrics),
            subgroup_section(metrics),
            calibration_section(metrics),
            decision_section(metrics),
            score_section(record),
            cohort_section(metrics),
            status_section(record.slides),
            fold_section(metrics),
            last_epoch_section(metrics),
            training_section(record.models),
            *precision_sections(record.precision),
            timing_section(record.jobs),
            reporting_section(record.reporting),
            provenance_section(record),
        ),
    )


def _facts(record: RunRecord) -> tuple[tuple[str, str], ...]:
    metrics = record.metrics
    cohort = metrics["cohort"]
    per_class = ", ".join(f"{name} {count:,}" for name, count in cohort["slides_per_class"].items())
    recipes = ", ".join(RECIPE_NAMES.get(recipe, recipe) for recipe in metrics["recipes"])
    return (
        ("Slides", f"{cohort['slides']:,}"),
        ("Used", f"{cohort['flow'].get('ok', 0):,}"),
        ("Cases", f"{cohort['cases']:,}"),
        ("Slides per class", per_class),
        ("Tiles", f"{cohort['tiles']:,}"),
        ("Folds", str(len({part["fold"] for part in cohort["folds"]}))),
        ("Seeds", str(len({model.seed for model in record.models}))),
        ("Recipes", recipes),
    )
