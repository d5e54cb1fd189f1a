"""Where each file of a run lies below `run.results_dir`, as docs/architecture.md lists them."""

from pathlib import Path
from typing import Literal, NamedTuple

SlideStep = Literal["mask", "tile", "embed"]
FOLDERS: dict[SlideStep, str] = {"mask": "masks", "tile": "tiles", "embed": "features"}


class Layout(NamedTuple):
    """The files of one run."""

    root: Path

    def folder(self, step: SlideStep) -> Path:
        """Folder of the per-slide files of a step."""
        return self.root / FOLDERS[step]

    def chunk_status(self, step: SlideStep, chunk: int) -> Path:
        """Status table of the chunk-th (from 0) `slides_per_job` manifest rows: the file Snakemake tracks."""
        return self.folder(step) / f"chunk-{chunk}.csv"

    @property
    def qc(self) -> Path:
        """The page of the cohort's slides."""
        return self.root / "qc" / "index.html"

    @property
    def stain(self) -> Path:
        """The cohort's stains."""
        return self.root / "stain" / "stain.json"

    @property
    def status(self) -> Path:
        """Every slide's final status."""
        return self.root / "status.csv"

    @property
    def splits(self) -> Path:
        """The part (train, val, test, excluded) of every slide in every fold."""
        return self.root / "splits.csv"

    def model(self, recipe: str, seed: int, fold: int) -> Path:
        """Folder of one trained model."""
        return self.models / recipe / f"seed{seed}" / f"fold{fold}"

    @property
    def models(self) -> Path:
        """Folder of all trained models."""
        return self.root / "models"

    def predictions(self, recipe: str, seed: int, fold: int) -> Path:
        """Folder of what that model says of the validation and test slides."""
        return self.root / "predictions" / recipe / f"seed{seed}" / f"fold{fold}"

    @property
    def metrics(self) -> Path:
        """Metrics with intervals."""
        return self.root / "evaluation" / "metrics.json"

    @property
    def precision(self) -> Path:
        """What the encoder's precision does to the models' answers."""
        return self.root / "evaluation" / "precision.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.root / "report" / "index.html"
