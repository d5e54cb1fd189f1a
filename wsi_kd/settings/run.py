"""Settings of the run as a whole: its manifest, where results go, what may fail."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from wsi_kd.settings.base import Section


class RunSettings(Section):
    """Section `run`: read by the workflow itself, by no single step."""

    title: str = "wsi_kd run"
    """Shown as the report's title."""
    manifest: Path = Path("slides.csv")
    """CSV, one row a slide: slide_id,path,label[,case_id,split,slide_mpp,annotation,site]."""
    slides_dir: Path | None = None
    """Folder that relative slide paths (or CLAM's slide ids) start from; default: the manifest's folder."""
    classes: tuple[str, ...] = ()
    """Labels in order, the negative one first; empty: the labels found, sorted, and refused where that would
    not put a word such as normal or negative first."""
    results_dir: Path = Path("results/run")
    """Folder that everything is written to."""
    max_failed_slides: int = Field(default=0, ge=0)
    """How many slides may end with a status other than ok before the finished run counts as failed."""
    slides_per_job: int = Field(default=16, ge=1)
    """Slides that one job of mask, tile and embed works through."""
    track_slides: Literal["hashed", "inputs"] = "hashed"
    """How Snakemake notices a changed slide or annotation: by a hash of its size and time, so that no file
    name reaches its logs and metadata, or (inputs) by its path, as remote storage needs it."""
