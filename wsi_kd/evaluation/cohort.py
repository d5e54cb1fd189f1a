"""Who was measured: slides and cases per class, part and status."""

from collections import Counter
from collections.abc import Sequence

from wsi_kd.bags.manifest import Manifest
from wsi_kd.bags.splits import Fold
from wsi_kd.core.records import SlideStatus, StatusRow
from wsi_kd.evaluation.schema import Cohort, FoldCounts


def describe_cohort(
    manifest: Manifest,
    *,
    statuses: Sequence[StatusRow],
    folds: Sequence[Fold],
    labeled_tiles: int,
    positive_tiles: int,
) -> Cohort:
    """Count what went in, what was left out and why, and what each part of each fold holds."""
    failed = [row for row in statuses if row.status != SlideStatus.OK]
    labels = Counter(row.label for row in manifest.rows)
    return {
        "slides": len(manifest.rows),
        "cases": len({row.case_id for row in manifest.rows}),
        "slides_per_class": {name: labels[name] for name in manifest.classes},
        "unlabeled": labels[""],
        "flow": {str(status): count for status, count in Counter(row.status for row in statuses).items()},
        "failed": [
            {"slide_id": row.slide_id, "status": str(row.status), "reason": row.reason, "step": row.step}
            for row in failed
        ],
        "folds": [
            _fold_counts(manifest, index=index, part=part, slide_ids=slide_ids)
            for index, fold in enumerate(folds)
            for part, slide_ids in fold._asdict().items()
        ],
        "tiles": sum(row.tiles for row in statuses if row.status == SlideStatus.OK),
        "labeled_tiles": labeled_tiles,
        "positive_tiles": positive_tiles,
    }


def _fold_counts(manifest: Manifest, *, index: int, part: str, slide_ids: Sequence[str]) -> FoldCounts:
    chosen = set(slide_ids)
    rows = [row for row in manifest.rows if row.slide_id in chosen]
    labels = Counter(row.label for row in rows)
    return {
        "fold": index,
        "part": part,
        "slides": len(rows),
        "cases": len({row.case_id for row in rows}),
        "slides_per_class": {name: labels[name] for name in manifest.classes},
    }
