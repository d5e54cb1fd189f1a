"""Which item of which guideline each member of `report/reporting_items.json` answers.

Numbers of CLAIM are those of its first edition (42 items); the update of 2024 keeps them but for the words
"reference standard" and a few moved sentences. What only authors can say is listed, not guessed.
"""

from typing import Final

from wsi_kd.report.reporting_schema import ItemLabel

GUIDELINES: Final = {
    "claim": "Mongan, Moy, Kahn: Checklist for Artificial Intelligence in Medical Imaging (CLAIM). "
    "Radiology: Artificial Intelligence 2(2), 2020: e200029.",
    "tripod_ai": "Collins et al.: TRIPOD+AI statement. BMJ 385, 2024: e078378.",
}
LEFT_TO_AUTHORS: Final = (
    "title, abstract, background and objectives (CLAIM 1-4, TRIPOD+AI 1-4)",
    "study design and goal (CLAIM 5-6), setting and treatments (TRIPOD+AI 6a, 6c)",
    "limitations, implications and usability (CLAIM 38-39, TRIPOD+AI 25-27)",
    "registration, protocol, ethics, funding, conflicts of interest, patient involvement "
    "(CLAIM 40-42, TRIPOD+AI 17-19)",
)


def _label(heading: str, claim: str, tripod_ai: str, *, section: str = "") -> ItemLabel:
    return {
        "heading": heading,
        "claim": claim.split(),
        "tripod_ai": tripod_ai.split(),
        "section": section,
    }


CHECKLIST: Final[dict[str, ItemLabel]] = {
    "intended_use": _label("Intended use", "3", "3b"),
    "data_sources": _label("Data sources", "7", "5a", section="slides"),
    "dates": _label("Dates of the data", "7", "5b"),
    "preprocessing": _label("Preprocessing, selection of tiles", "9 10", "7 9a", section="provenance"),
    "deidentification": _label("De-identification", "12", "", section="provenance"),
    "missing_data": _label("Missing data", "13", "11", section="slides"),
    "labels": _label("Reference standard: classes and labels", "11 14", "8a", section="cohort"),
    "label_source": _label("Reference standard: who labeled, how, how alike", "15 16 17 18", "8b 8c"),
    "sample_size": _label("Sample size", "19", "10", section="cohort"),
    "sample_size_rationale": _label("How the sample size was arrived at", "19", "10"),
    "partition": _label("How slides were partitioned", "20", "12a", section="cohort"),
    "partition_level": _label("Level at which partitions are disjoint", "21", "12a", section="cohort"),
    "partition_counts": _label("Slides and cases by partition and class", "20", "21", section="cohort"),
    "demographics": _label("Characteristics of patients by partition", "34", "20b"),
    "class_imbalance": _label("Class imbalance", "", "13", section="cohort"),
    "model_specification": _label("Model specification", "22", "22", section="provenance"),
    "software": _label("Software", "23", "18f", section="provenance"),
    "initialization": _label("Initialization", "24", "12c", section="provenance"),
    "training": _label("Training", "25", "12c", section="training"),
    "computation": _label("Time and memory", "25", "", section="timings"),
    "model_selection": _label("Selection of the final model", "26", "12c", section="epochs"),
    "ensembling": _label("Ensembling", "27", "12c"),
    "metrics": _label("Metrics", "28", "12e", section="performance"),
    "uncertainty": _label("Uncertainty", "29", "12e", section="performance"),
    "robustness": _label("Robustness", "30", "12d", section="performance"),
    "explainability": _label("Explanation, checked against annotations", "31", "", section="tiles"),
    "external_test": _label("Test on external data", "32", "16"),
    "flow": _label("Flow of slides and reasons of exclusion", "8 33", "6b 20a", section="slides"),
    "performance": _label(
        "Performance with intervals on every partition", "35 36", "23a", section="performance"
    ),
    "threshold_origin": _label("Where thresholds come from", "28", "15", section="confusion"),
    "failures": _label("Failures", "37", "", section="gallery"),
    "subgroups": _label("Subgroups, fairness", "30", "14 23a 23b", section="subgroups"),
    "calibration": _label("Calibration", "28", "12e 23a", section="calibration"),
    "hashes": _label("Hashes of model, data and code", "41", "18e 18f", section="provenance"),
}
"""By member of `Items`, in its order."""
