"""What `check-precision` found of a run that nobody checked, for tests of the page that shows it."""

from wsi_kd.core.provenance import stamp
from wsi_kd.report.precision_lines import PrecisionLine


def drawn_record():
    """A whole `precision.json` of a model that lies outside the run."""
    logit = {"model": "weno/seed7/fold0", "score": "teacher", "class": "tumor", "exact": 1.0, "found": 1.0625}
    slide = {"slide_id": "slide_0", "tiles": 32, "features_inputs_hash": "", "embedded_in": "auto"}
    return {
        **stamp("precision", {"embed": {"encoder": "resnet50"}}),
        **{"dtype": "bfloat16", "compiled": False, "device": "cpu", "least_cosine": 0.9999},
        "limits": {"least_cosine": 0.999, "largest_change": 0.01},
        "fault": "slide_0: <moved>",
        "models": [{"model": "weno/seed7/fold0", "in_run": False, "weights_sha256": ""}],
        "slides": [{**slide, "least_cosine": 0.9999, "logits": [{**logit, "change": 0.0625}]}],
    }


def drawn_line(text, recipe):
    """A line of the report's table: a logit of the recipe's teacher moved too far, no call did."""
    return PrecisionLine(
        model=text(f"{recipe}/seed0/fold0"),
        score=text("teacher"),
        encoder=text("resnet50"),
        dtype="bfloat16",
        compiled=0,
        device=text("GPU"),
        embedded_in="auto",
        slides=4,
        tiles=2048,
        least_cosine=0.9994,
        mean_cosine=0.9999,
        largest_change=0.012,
        mean_change=0.004,
        changed_calls=0,
        cosine_limit=0.999,
        change_limit=0.01,
        fault=text("slide_1: a change of 0.0120, 0.01 is allowed"),
        outdated="",
    )
