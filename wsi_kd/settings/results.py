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
    sensitivity: float = Field(default=0.95, gt=0, le=1)
    """Operating point `sensitivity`: the threshold keeps at least this much on the validation slides."""
    specificity: float = Field(default=0.95, gt=0, le=1)
    """Operating point `specificity`: the same of the specificity."""
    subgroups: tuple[str, ...] | None = None
    """Columns whose values are measured by themselves: site, scanner, or columns of the manifest. null: site
    and scanner where more than one is known, and every further column of 2 to 20 values; []: none."""


class ReportSettings(Section):
    """Section `report`: the HTML page."""

    gallery_slides: int = Field(default=6, ge=0)
    """Slides shown with a heatmap: half the surest right, half the surest wrong."""
    heatmap_px: int = Field(default=900, ge=100, le=4000)
    """Longer edge of a gallery heatmap in pixels."""
    top_tiles: int = Field(default=4, ge=0, le=20)
    """Tiles of each gallery slide shown as they are: this many with the highest scores, as many with the
    lowest."""


class QcSettings(Section):
    """Section `qc`: the page on which a cohort's slides are looked at; see docs/qc.md."""

    thumbnail_px: int = Field(default=512, ge=64, le=2000)
    """Longer edge of a slide's thumbnail in pixels."""
    jpeg_quality: int = Field(default=80, ge=1, le=95)
    """JPEG quality of the thumbnails: 20 to 90 kB each at the defaults."""
