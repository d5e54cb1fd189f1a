from pathlib import Path

from wsi_kd.evaluation.summary import summary_lines


def _metric(estimate, interval=(0.8, 0.95), reason=""):
    return {
        "estimate": estimate,
        "low": interval[0],
        "high": interval[1],
        "confidence": 0.95,
        "resamples": 10,
        "redrawn": 0,
        "reason": reason,
    }


def test_every_score_its_interval_and_the_report_are_told():
    metrics = {
        "cohort": {"slides": 44, "cases": 30, "flow": {"ok": 40, "empty": 4}},
        "recipes": {
            "weno": {
                "scores": {
                    "teacher": {"pooled": {"roc_auc": _metric(0.9)}},
                    "student": {"pooled": {"roc_auc": _metric(None, (None, None), "no positives among 3")}},
                },
                "instances": {
                    "student": {"pooled": {"roc_auc": _metric(0.91, (None, None), "too few cases")}}
                },
            }
        },
        "baselines": {"bag_mean": {"pooled": {"roc_auc": _metric(0.5, (0.4, 0.6))}}},
        "research_only": "Research only.",
    }
    lines = summary_lines(metrics, report_path=Path("results/report/index.html"))
    assert [" ".join(line.split()) for line in lines] == [
        "44 slides of 30 cases, 4 left out (see the report)",
        "weno teacher bag AUC 0.900 (95 % interval 0.800-0.950)",
        "weno student bag AUC none (no positives among 3)",
        "weno student instance AUC 0.910 (no interval: too few cases)",
        "baseline bag_mean bag AUC 0.500 (95 % interval 0.400-0.600)",
        "Research only.",
        "report: results/report/index.html",
    ]
