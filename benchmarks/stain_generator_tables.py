"""The tables and the chart of stain_generator.py, from its figures alone."""

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple

from wsi_kd.claims.claim import Series
from wsi_kd.report.figures import series_chart
from wsi_kd.report.svg import standalone_svg

ALONE: Final = "base loss alone"
FIGURES: Final = ("psnr", "ssim", "frechet", "psnr_teacher", "frechet_teacher")
TITLES: Final = (
    "PSNR, dB",
    "SSIM",
    "Frechet distance",
    "PSNR to the teacher",
    "Frechet distance to the teacher",
)
DIGITS: Final = (2, 3, 2, 2, 2)
MAX_GAP: Final = 2.0
"""Energies whose squares weigh .05 end 20 apart where nothing holds them."""

Rows = Mapping[str, Mapping[str, Any]]
"""Of one seed: figures by sampler."""


class Verdict(NamedTuple):
    """Whether a sampler is stable, and why not."""

    failed: int
    """Seeds whose energies became not finite."""
    gap: float
    """Largest mean energy gap, either way, of any seed in the second half of its training."""
    lost_db: float
    """Mean PSNR to the teacher that is lost against the base loss alone."""
    spread_db: float
    """Standard deviation of that over the seeds."""
    noise_db: float
    """Standard deviation over the seeds of that PSNR with the base loss alone."""

    @property
    def stable(self) -> bool:
        """Finite, bounded, no worse than the noise."""
        return self.failed == 0 and self.gap <= MAX_GAP and self.lost_db <= self.noise_db


def verdict(seeds: Sequence[Rows], sampler: str) -> Verdict:
    """Judge a sampler on the seeds of a base loss."""
    gaps = [row[sampler]["gaps"] for row in seeds]
    late = [abs(gap) for one in gaps for gap in one[len(one) // 2 :]]
    lost = [row[ALONE]["psnr_teacher"] - row[sampler]["psnr_teacher"] for row in seeds]
    failed = sum(row[sampler]["failure"] is not None for row in seeds)
    noise = _spread([row[ALONE]["psnr_teacher"] for row in seeds])
    return Verdict(failed, max(late, default=0.0), fmean(lost), _spread(lost), noise)


def table(found: Mapping[str, Any]) -> str:
    """Return the whole report as Markdown."""
    teacher, student = found["costs"]["teacher"], found["costs"]["student"]
    share = student["parameters"] / teacher["parameters"]
    lines = [
        f"Teacher {teacher['parameters']:,} parameters, {teacher['latency_ms']:.1f} ms; student "
        f"{student['parameters']:,} (1/{1 / share:.1f}), {student['latency_ms']:.1f} ms.",
        "",
        f"| output | {' | '.join(TITLES)} |",
        f"|---|{'---|' * len(TITLES)}",
        *(f"| the {name} | {' | '.join(_cells([found[name]]))} |" for name in ("input", "teacher")),
    ]
    for base, seeds in found["bases"].items():
        lines += [
            f"| {base}: {name} | {' | '.join(_cells([row[name] for row in seeds]))} |" for name in seeds[0]
        ]
    lines += ["", *_verdicts(found["bases"])]
    return "\n".join(lines) + "\n"


def _verdicts(bases: Mapping[str, Sequence[Rows]]) -> list[str]:
    lines = [
        "| base loss, sampler | failed | largest late gap | PSNR to the teacher, gain | Frechet "
        "distance to it, with per without | ms a step | stable |",
        "|---|---|---|---|---|---|---|",
    ]
    for base, seeds in bases.items():
        for name in seeds[0]:
            if name == ALONE:
                continue
            judged = verdict(seeds, name)
            ratios = [row[name]["frechet_teacher"] / row[ALONE]["frechet_teacher"] for row in seeds]
            lines.append(
                f"| {base}, {name} | {judged.failed} of {len(seeds)} | {judged.gap:.2g} | "
                f"{-judged.lost_db:+.2f} ± {judged.spread_db:.2f} | "
                f"{fmean(ratios):.2f} ± {_spread(ratios):.2f} | "
                f"{_ms(seeds, name):.0f} | {'yes' if judged.stable else 'no'} |"
            )
        lines.append(f"| {base}, {ALONE} | | | | | {_ms(seeds, ALONE):.0f} | |")
    return lines


def gap_chart(seeds: Sequence[Rows], *, every: int) -> str:
    """Return an SVG file's text: the energy gap by step, a line a sampler, means over the seeds."""
    lines = []
    for name in (name for name in seeds[0] if name != ALONE):
        gaps = [fmean(values) for values in zip(*(row[name]["gaps"] for row in seeds), strict=False)]
        steps = tuple(float(every * (number + 1)) for number in range(len(gaps)))
        lines.append(Series(name, steps, tuple(gaps)))
    return standalone_svg(
        series_chart(
            "stain-generator", lines, x_label="step", y_label="energy of samples less of the teacher's"
        )
    )


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = []
    for figure, digits in zip(FIGURES, DIGITS, strict=True):
        values = [row[figure] for row in rows if figure in row]
        spread = f" ± {_spread(values):.{digits}f}" if len(values) > 1 else ""
        cells.append(f"{fmean(values):.{digits}f}{spread}" if values else "")
    return cells


def _ms(seeds: Sequence[Rows], name: str) -> float:
    return fmean(row[name]["ms_per_step"] for row in seeds)


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0
