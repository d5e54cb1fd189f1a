"""Settings of the steps that make results: predict, evaluate, report."""

from pydantic import Field

from wsi_kd.settings.base import Section


class PredictSettings(Section):
    """Section `predict`: features -> slide and tile scores."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


class EvaluateSettings(Section):
    """Section `evaluate`: metrics and their intervals."""

    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples of patients for an interval."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    seed: int = 0
    baseline: str = "abmil"
    """Recipe that every other one is compared with, with p-values; without it nothing is compared."""


class ReportSettings(Section):
    """Section `report`: the HTML page."""

    gallery_slides: int = Field(default=6, ge=0)
    """Slides shown with a heatmap: half the surest right, half the surest wrong."""
    heatmap_px: int = Field(default=900, ge=100, le=4000)
    """Longer edge of a gallery heatmap in pixels."""


class QcSettings(Section):
    """Section `qc`: the page on which a cohort's slides are looked at; see docs/qc.md."""

    thumbnail_px: int = Field(default=512, ge=64, le=2000)
    """Longer edge of a slide's thumbnail in pixels."""
    jpeg_quality: int = Field(default=80, ge=1, le=95)
    """JPEG quality of the thumbnails: 20 to 90 kB each at the defaults."""
