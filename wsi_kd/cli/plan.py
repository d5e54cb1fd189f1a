"""What the workflow must run, read once by workflow/rules/common.smk so that the rules hold no logic.

A rule's parameters are plain strings, and each holds exactly what its step uses. Snakemake reruns a rule when
one of them changes: an edit of one settings section, or of one manifest column, reruns that step and those
after it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wsi_kd.bags.given_splits import given_files
from wsi_kd.bags.manifest import Manifest, SlideRow, chunk_rows, read_manifest
from wsi_kd.bags.splits import count_folds, plan_folds
from wsi_kd.cli.ahead import check_ahead
from wsi_kd.cli.layout import Layout
from wsi_kd.cli.reruns import SlideChanges
from wsi_kd.cli.rows import rows_hash
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash
from wsi_kd.features.distilled import HEADER_NAME, WEIGHTS_NAME, distilled_folder, is_distilled
from wsi_kd.features.foreign_folders import ForeignFolder, files_of, find_foreign
from wsi_kd.settings.all import Settings, parse_settings, sections_json
from wsi_kd.settings.models import TrainSettings
from wsi_kd.tissue.edited_files import find_edited

NO_CONFIG = (
    "no settings given; copy configs/default.yaml and run: snakemake -c8 --configfile my.yaml "
    "(configs/demo.yaml runs the demo cohort, which `make demo` draws first)"
)
STEP_SECTIONS: dict[str, tuple[str, ...]] = {
    "mask": ("slides", "mask"),
    "tile": ("slides", "mask", "tile"),
    "stain": ("slides", "mask", "tile", "stain"),
    "embed": ("slides", "mask", "tile", "stain", "embed"),
    "adopt": ("tile", "adopt"),
    "qc": ("slides", "qc"),
    "split": ("split",),
    "train": ("slides", "mask", "tile", "stain", "embed", "train"),
    "predict": ("predict",),
    "evaluate": ("split", "evaluate"),
    "report": ("report",),
    "check_status": (),
}
"""Settings sections that each rule hands to its command; upstream ones are recorded in the artifacts."""
ADOPTING_SECTIONS: dict[str, tuple[str, ...]] = {**STEP_SECTIONS, "train": ("slides", "adopt", "train")}
"""The same where `adopt.folder` is set: no slide is read, nothing follows from how slides would be read."""
RECIPE_SECTIONS = ("weno", "instance", "ins", "mhim", "auto", "distill")
"""Sections of `train` that only some recipes read."""
SECTIONS_OF_RECIPE: dict[str, tuple[str, ...]] = {
    "abmil": (),
    "weno": ("weno",),
    "instance": ("instance",),
    "ins": ("ins",),
    "mhim": ("mhim",),
    "auto": ("weno", "auto"),
    "distill": ("distill",),
}
_RUN_KEYS = ("manifest", "slides_dir", "classes", "results_dir")
_EXTRA_RUN_KEYS: dict[str, tuple[str, ...]] = {
    "mask": ("slides_per_job",),
    "tile": ("slides_per_job",),
    "embed": ("slides_per_job",),
    "adopt": ("slides_per_job",),
    "qc": ("slides_per_job", "title"),
    "split": ("slides_per_job",),
    "report": ("title",),
    "check_status": ("max_failed_slides",),
}


class Plan(NamedTuple):
    """The settings, the manifest and what follows from them."""

    settings: Settings
    manifest: Manifest
    layout: Layout
    chunks: tuple[tuple[SlideRow, ...], ...]
    folds: int
    changes: SlideChanges
    """How the slides' files were found."""
    given: ForeignFolder | None = None
    """Features of another program, listed once, where the run begins with them."""

    def step_settings(self, step: str) -> str:
        """Return the JSON that the rule of this step hands to its command as `--settings`."""
        adopting = self.settings.adopt.folder is not None
        keys = _RUN_KEYS + _EXTRA_RUN_KEYS.get(step, ())
        run = {key: self.settings.run.model_dump(mode="json")[key] for key in keys}
        names = (ADOPTING_SECTIONS if adopting else STEP_SECTIONS)[step]
        sections = json.loads(sections_json(self.settings, *names))
        if adopting:  # every step must know that the manifest's slides need not be there
            sections.setdefault("adopt", {"folder": str(self.settings.adopt.folder)})
        if step == "evaluate":
            sections["train"] = {"recipes": self.settings.train.recipes, "seeds": self.settings.train.seeds}
        return _canonical({"run": run, **sections})

    def train_settings(self, recipe: str, seed: int) -> str:
        """Return the JSON for one training, without what only other recipes and seeds use."""
        value = json.loads(self.step_settings("train"))
        train = _train_section(self.settings.train, recipe=recipe, seed=seed)
        return _canonical({**value, "train": train.model_dump(mode="json")})

    def large_model(self, recipe: str, seed: int, fold: int) -> list[str]:
        """Return the files of the trained model that a recipe learns from; none where it needs none."""
        if recipe != "distill":
            return []
        folder = self.layout.model(self.settings.train.distill.teacher_recipe, seed, fold)
        return [str(folder / name) for name in ("model.safetensors", "model.json")]

    def chunk_hash(self, step: str, chunk: int) -> str:
        """Return the hash of what `step` uses of a chunk's manifest rows."""
        return rows_hash(self.chunks[chunk], step)

    def all_rows_hash(self, step: str) -> str:
        """Return the hash of what `step` uses of all manifest rows."""
        return rows_hash(self.manifest.rows, step)

    def slide_files(self, chunk: int) -> list[str]:
        """Return the slide files of a chunk, where Snakemake is to know them by name."""
        files = [row.path for row in self.chunks[chunk] if not row.address]
        return [str(file) for file in files] if self._tells_names else []

    def stored_slides(self, chunk: int) -> list[str]:
        """Return the addresses of a chunk's slides that lie in storage: Snakemake fetches them for a job."""
        return [row.address for row in self.chunks[chunk] if row.address]

    def all_stored_slides(self) -> list[str]:
        """Return the addresses of all slides that lie in storage."""
        return [row.address for row in self.manifest.rows if row.address]

    def annotation_files(self, chunk: int) -> list[str]:
        """Return the annotation files of a chunk, where Snakemake is to know them by name."""
        files = [row.annotation for row in self.chunks[chunk] if row.annotation is not None]
        return [str(file) for file in files] if self._tells_names else []

    def slides_state(self, chunk: int) -> str:
        """Return a hash of what is known of a chunk's slides besides what Snakemake looks at itself."""
        return self.changes.state(
            [row for row in self.chunks[chunk] if not row.address], revisions_only=self._tells_names
        )

    def annotations_state(self, chunk: int) -> str:
        """Return the same of a chunk's annotations."""
        return "" if self._tells_names else files_state(row.annotation for row in self.chunks[chunk])

    @property
    def _tells_names(self) -> bool:
        return self.settings.run.track_slides == "inputs"

    @property
    def slide_rules(self) -> str:
        """Name the file of rules that makes the features: from slides, or from another program's features."""
        return "slides" if self.settings.adopt.folder is None else "adopt"

    def pages(self) -> list[str]:
        """Return the pages of a finished run; where no slide is read, there is none of slides."""
        slides = [] if self.settings.adopt.folder is not None else [self.layout.qc]
        return [str(page) for page in (*slides, self.layout.report)]

    def given_features(self, chunk: int) -> list[str]:
        """Return the files of another program that a chunk's features are taken from."""
        found = {} if self.given is None else self.given.slides
        slides = [found[row.slide_id] for row in self.chunks[chunk] if row.slide_id in found]
        return [str(path) for slide in slides for path in files_of(slide)]

    def edited_masks(self, chunk: int) -> list[str]:
        """Return the hand-drawn masks of a chunk, so that an edit in QuPath reruns what follows from it."""
        folder = self.settings.mask.edited_dir
        if folder is None:
            return []
        files = [find_edited(folder, row.slide_id) for row in self.chunks[chunk]]
        return [str(file) for file in files if file is not None]

    def mask_network(self) -> list[str]:
        """Return the segmentation network's file, if tissue is found by one."""
        mask = self.settings.mask
        return [str(mask.network)] if mask.source == "network" else []

    def stain_target(self) -> list[str]:
        """Return the slide or image whose staining is the target."""
        stain = self.settings.stain
        return [] if stain.method == "none" or stain.target is None else [str(stain.target)]

    def stain_fit(self) -> list[str]:
        """Return the cohort's fit, so that the step `stain` is part of the run where one is asked for."""
        stain = self.settings.stain
        return [str(self.layout.stain)] if stain.method != "none" and stain.fit == "cohort" else []

    def encoder_files(self) -> list[str]:
        """Return the local files that hold the encoder's weights."""
        embed = self.settings.embed
        if is_distilled(embed.encoder):
            folder = distilled_folder(embed.encoder, embed.weights)
            return [str(folder / name) for name in (WEIGHTS_NAME, HEADER_NAME)]
        if embed.weights is not None:
            return [str(embed.weights)]
        if embed.weights_dir is None:
            return []
        from wsi_kd.features.weight_sources import offline_file  # it loads the hub's client

        offline = offline_file(embed.encoder, embed.weights_dir)
        return [] if offline is None else [str(offline)]

    def given_split_files(self) -> list[str]:
        """Return the files of splits made elsewhere."""
        given = self.settings.split.given
        if given is None:
            return []
        return [str(file) for file in given_files(given)] if given.is_dir() else [str(given)]


def read_plan(config: Mapping[str, Any], *, in_job: bool = False) -> Plan:
    """Validate Snakemake's `config` and read the manifest it names.

    Args:
        config: the settings by section.
        in_job: True in the Snakemake that a cluster's job starts for itself: it plans nothing, and of the
            files and folds that the first one looked at it looks at none.

    Raises:
        BadInput: no settings, settings that are not valid, a manifest with faults (all of them listed), folds
            that leak or lack a class, drawings with faults (all of them listed), an unknown encoder.
    """
    if not config:
        raise BadInput(NO_CONFIG)
    settings = parse_settings(config, where="settings")
    run = settings.run
    manifest = read_manifest(
        run.manifest,
        slides_dir=run.slides_dir,
        classes=run.classes,
        with_slides=settings.adopt.folder is None,
        look_for_files=not in_job,
    )
    split = settings.split
    folds = count_folds(manifest.rows, folds=split.folds, given=split.given)
    chunks = tuple(chunk_rows(manifest.rows, run.slides_per_job))
    layout = Layout(Path(run.results_dir))
    if not in_job:
        plan_folds(manifest.rows, folds=split.folds, seed=split.seed, given=split.given)
        check_ahead(settings, manifest, chunks=chunks, layout=layout)
    adopt = settings.adopt
    given = None if adopt.folder is None else find_foreign(adopt.folder, adopt.layout)
    return Plan(settings, manifest, layout, chunks, folds, SlideChanges(layout), given)


def files_state(files: Iterable[Path | None]) -> str:
    """Return the sha256 of the sizes and times of files; each is looked at once and none is opened."""
    return content_hash([_state(file) for file in files])


def _state(file: Path | None) -> list[int]:
    try:
        found = None if file is None else file.stat()
    except OSError:
        found = None
    return [] if found is None else [found.st_size, found.st_mtime_ns]


def _train_section(train: TrainSettings, *, recipe: str, seed: int) -> TrainSettings:
    defaults = TrainSettings()
    used = SECTIONS_OF_RECIPE[recipe]
    others = {name: getattr(defaults, name) for name in RECIPE_SECTIONS if name not in used}
    return train.model_copy(update={"recipes": (recipe,), "seeds": (seed,), **others})


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
