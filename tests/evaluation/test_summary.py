from pathlib import Path

from wsi_kd.evaluation.summary import FLAT, summary_lines


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


def _tiles(auc, *, within=0.7, precision=0.4):
    return {
        "pooled": {
            "roc_auc": auc,
            "roc_auc_within_slide": _metric(within),
            "average_precision_positive_slides": _metric(precision),
        },
        "chance": {"average_precision_positive_slides": 0.1},
    }


def _compared(score, estimate, p_value):
    difference = {"estimate": estimate, "p_value": p_value}
    return {"recipe": "weno", "score": score, "against_recipe": "abmil", "metrics": {"roc_auc": difference}}


def test_every_score_its_interval_and_the_report_are_told():
    metrics = {
        "cohort": {"slides": 44, "cases": 30, "flow": {"ok": 40, "empty": 4}},
        "recipes": {
            "weno": {
                "models": [{"student_pooling": "topk"}],
                "scores": {
                    "teacher": {"pooled": {"roc_auc": _metric(0.9)}},
                    "student": {"pooled": {"roc_auc": _metric(None, (None, None), "no positives among 3")}},
                    "student_max": {"pooled": {"roc_auc": _metric(0.8)}},
                    "student_topk": {"pooled": {"roc_auc": _metric(None, (None, None), "as student")}},
                },
                "instances": {
                    "evidence": _tiles(_metric(0.92), within=None),
                    "student": _tiles(_metric(0.91, (None, None), "too few cases")),
                },
            }
        },
        "baselines": {"bag_mean": {"pooled": {"roc_auc": _metric(0.5, (0.4, 0.6))}}},
        "comparisons": {
            "slides": [_compared("teacher", -0.0123, 0.0312), _compared("student_max", 1.0, None)]
        },
        "research_only": "Research only.",
    }
    lines = summary_lines(metrics, report_path=Path("results/report/index.html"))
    assert [" ".join(line.split()) for line in lines] == [
        "44 slides of 30 cases, 4 left out (see the report)",
        "weno teacher bag AUC 0.900 (95 % interval 0.800-0.950); -0.012 on abmil, p 0.031",
        "weno student bag AUC none (no positives among 3)",
        "weno student_max bag AUC 0.800 (95 % interval 0.800-0.950); +1.000 on abmil",
        "weno evidence instance AUC 0.920 (95 % interval 0.800-0.950); AP 0.400 (chance 0.100)",
        "weno student instance AUC 0.910 (no interval: too few cases); within slides 0.700; "
        "AP 0.400 (chance 0.100)",
        "baseline bag_mean bag AUC 0.500 (95 % interval 0.400-0.600)",
        "Research only.",
        "report: results/report/index.html",
    ]


def test_an_interval_without_width_is_said_to_be_no_certainty():
    metrics = {
        "cohort": {"slides": 4, "cases": 4, "flow": {"ok": 4}},
        "recipes": {},
        "baselines": {"bag_mean": {"pooled": {"roc_auc": _metric(1.0, (1.0, 1.0))}}},
        "research_only": "Research only.",
    }
    assert summary_lines(metrics, report_path=Path("x"))[-3:] == [FLAT, "Research only.", "report: x"]
    metrics["baselines"]["bag_mean"]["pooled"]["roc_auc"] = _metric(1.0, (None, None), "too few cases")
    assert FLAT not in summary_lines(metrics, report_path=Path("x"))
