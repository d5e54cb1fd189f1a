"""What Snakemake cannot see by itself, as parameters of its rules: another layout of a file, a silent change.

Snakemake compares times, settings and inputs. It does not see that a newer wsi-kd writes a file in another
layout, nor that a slide was replaced by another one of the same size and time.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from wsi_kd.bags.manifest import SlideRow
from wsi_kd.cli.layout import Layout
from wsi_kd.core.errors import BadInput
from wsi_kd.core.files import content_hash, publish_json, read_json
from wsi_kd.core.provenance import schema_version

STEP_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "mask": ("mask", "status"),
    "tile": ("tiles", "status"),
    "stain": ("stain",),
    "embed": ("features", "status"),
    "adopt": ("features", "status"),
    "qc": ("qc",),
    "split": ("splits", "status"),
    "train": ("model", "history"),
    "predict": ("predictions", "tile_scores"),
    "evaluate": ("metrics", "pooled_predictions"),
    "report": ("report", "reporting_items"),
    "check_status": (),
}
"""Kinds of files that each step writes."""
JOURNAL_NAME: Final = ".wsi-kd.slides.json"
_REMAKE = "snakemake"


class SeenSlide(NamedTuple):
    """A slide file as the last run found it."""

    size: int
    written_ns: int
    """Time of its content, which copying keeps."""
    changed_ns: int
    """Time of the last change to it, which nobody can set."""
    revision: str
    """Empty; of a slide that changed under the same size and time, its fingerprint."""


def schemas_written(step: str) -> str:
    """Name the kinds of files that a step writes with the versions of their layouts.

    >>> schemas_written("qc")
    'qc 1'
    """
    return ", ".join(f"{kind} {schema_version(kind)}" for kind in STEP_KINDS[step])


class SlideChanges:
    """The slide files of a run, compared with how its last run found them.

    Looking costs one `stat` a slide. Only a slide whose size and time are the same while its file was touched
    is read: its fingerprint is compared with that in its mask. A cohort that was moved or restored is so read
    once (a few MiB a slide), and nothing is made again.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known = _read(layout.root / JOURNAL_NAME)
        self._seen: dict[str, SeenSlide] = {}

    def state(self, rows: Sequence[SlideRow], *, revisions_only: bool) -> str:
        """Return a hash that changes when one of the slides does.

        Args:
            rows: slides of one job.
            revisions_only: leave out sizes and times, which Snakemake looks at itself where slides are
                inputs; empty as long as no slide changed without its time.
        """
        found = [self._look(row) for row in rows]
        if not revisions_only:
            return content_hash([seen and [seen.size, seen.written_ns, seen.revision] for seen in found])
        revisions = [seen.revision if seen else "" for seen in found]
        return content_hash(revisions) if any(revisions) else ""

    def _look(self, row: SlideRow) -> SeenSlide | None:
        """Look at a slide's file; None where there is none."""
        try:
            found = row.path.stat()
        except OSError:
            return None
        now = SeenSlide(found.st_size, found.st_mtime_ns, found.st_ctime_ns, "")
        known = self._known.get(row.slide_id)
        if known is not None and known[:2] == now[:2]:
            found_now = "" if known.changed_ns == now.changed_ns else self._revision(row)
            now = now._replace(revision=found_now or known.revision)
        self._seen[row.slide_id] = now
        return now

    def record(self) -> None:
        """Write down how the slides were found, for the next run to compare with.

        Raises:
            RunFailed: it cannot be written.
        """
        if any(self._known.get(slide_id) != seen for slide_id, seen in self._seen.items()):
            slides = {slide_id: list(seen) for slide_id, seen in {**self._known, **self._seen}.items()}
            publish_json(self._layout.root / JOURNAL_NAME, {"slides": slides})

    def _revision(self, row: SlideRow) -> str:
        """Return the fingerprint of a slide that is not the one its mask was made of, else nothing."""
        from wsi_kd.slides.fingerprint import slide_fingerprint
        from wsi_kd.tissue.polygons import read_tissue

        with suppress(BadInput, OSError):
            masked = read_tissue(self._layout.folder("mask") / f"{row.slide_id}.geojson")
            present = slide_fingerprint(row.path)
            return present if present != masked.header.get("fingerprint") else ""
        return ""


def _read(path: Path) -> dict[str, SeenSlide]:
    if not path.is_file():
        return {}
    with suppress(BadInput, TypeError, AttributeError, KeyError):  # without it a run only sees less
        found = read_json(path, remake=_REMAKE)["slides"]
        return {slide_id: SeenSlide(*seen) for slide_id, seen in found.items()}
    return {}
