"""The page of claim checks: what each paper claims, what came out here, what had to."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from wsi_kd.claims.claim import Claim
from wsi_kd.claims.measured import Measured
from wsi_kd.claims.wording import SMALL_SCALE, figure_text, outcome_text, required_text, spread_text
from wsi_kd.core.provenance import RESEARCH_ONLY, package_versions
from wsi_kd.report.figures import series_chart
from wsi_kd.report.numbers import count_cell
from wsi_kd.report.page import Block, Cell, Chart, Column, Listing, Note, Page, Section, Table
from wsi_kd.report.svg import standalone_svg

SHOWN_HASH = 12


class ClaimRecord(NamedTuple):
    """A claim and what it gave."""

    claim: Claim
    measured: Measured


def claims_page(records: Sequence[ClaimRecord], *, git: str, code: str, seeds: int | None) -> Page:
    """Build the page.

    Args:
        records: the claims, in the order of the page.
        git: state of the package's checkout.
        code: hash of the sources that decide what claims give.
        seeds: what the user asked for; None: each claim's own number.
    """
    passed = sum(record.measured.passed for record in records)
    sections = tuple(_claim_section(number, record) for number, record in enumerate(records))
    return Page(
        title="Distillation: claim checks",
        research_only=f"{SMALL_SCALE} {RESEARCH_ONLY}",
        facts=(
            ("Claims that pass", f"{passed} of {len(records)}"),
            ("Checks", str(sum(len(record.measured.found.checks) for record in records))),
            ("Seconds, one core", f"{sum(record.measured.seconds for record in records):.0f}"),
        ),
        sections=(_overview(records), *sections, _provenance(records, git=git, code=code, seeds=seeds)),
    )


def _overview(records: Sequence[ClaimRecord]) -> Section:
    columns = (
        Column("Method"),
        Column("The paper claims"),
        Column("Seeds", numeric=True),
        Column("Seconds", numeric=True),
        Column("Checks that hold"),
    )
    rows = tuple(
        (
            Cell(record.claim.method),
            Cell(record.claim.claims, note=record.claim.paper),
            count_cell(record.measured.seeds),
            Cell(f"{record.measured.seconds:.1f}", number=record.measured.seconds),
            Cell(_outcome(record.measured)),
        )
        for record in records
    )
    how = (
        "Each claim is measured in a setting small enough for a laptop, with honest baselines and negative "
        "controls beside it. A check asks for half of the margin that the method's design measured with "
        "another program, so that other machines and versions pass too; identities are asked for whole, and "
        "a bound that asks for less says why."
    )
    return Section("overview", "Overview", (Note(how), Table("All claims", columns, rows)))


def _claim_section(number: int, record: ClaimRecord) -> Section:
    claim, measured = record
    failed = "; ".join(check.says for check in measured.failed)
    blocks: list[Block] = [Note(f"The paper ({claim.paper}) claims: {claim.claims}")]
    if failed or not measured.found.checks:
        blocks.append(Note(f"Does not hold here: {failed or 'nothing was checked'}.", caution=True))
    blocks += [
        Note(f"Setting: {claim.setting}"),
        _checks(measured),
        _rows(measured),
        *_chart(number, measured),
        Note(f"Measured by the method's design, with another program: {claim.reference}"),
        Listing("Run it again", f"wsi-kd reproduce {claim.method} --seeds {measured.seeds}"),
    ]
    return Section(f"claim-{number}", f"{claim.method}: {_outcome(measured)}", tuple(blocks))


def _checks(measured: Measured) -> Table:
    columns = (Column("What"), Column("Observed", numeric=True), Column("Required"), Column("Outcome"))
    rows = tuple(
        (
            Cell(check.says),
            Cell(figure_text(check.found), number=_sorted_by(check.found)),
            Cell(required_text(check), note=check.why),
            Cell("pass" if check.holds else "FAIL"),
        )
        for check in measured.found.checks
    )
    return Table("Checks", columns, rows)


def _rows(measured: Measured) -> Table:
    columns = (Column("What"), Column("Mean", numeric=True), Column("Each seed"))
    rows = tuple(
        (
            Cell(row.name),
            Cell(spread_text(row), number=_sorted_by(row.mean)),
            Cell(", ".join(figure_text(figure) for figure in row.runs)),
        )
        for row in measured.found.observed
    )
    return Table("Observed: mean, standard deviation over the seeds, and each seed", columns, rows)


def claim_svg(measured: Measured) -> str | None:
    """Return the text of an SVG file with a claim's chart; None where it has none."""
    found = measured.found
    if not found.series:
        return None
    chart = series_chart(measured.method, found.series, x_label=found.x_label, y_label=found.y_label)
    return standalone_svg(chart)


def _chart(number: int, measured: Measured) -> list[Chart]:
    found = measured.found
    if not found.series:
        return []
    svg = series_chart(f"chart-{number}", found.series, x_label=found.x_label, y_label=found.y_label)
    return [Chart(svg, f"{found.y_label} by {found.x_label}")]


def _provenance(records: Sequence[ClaimRecord], *, git: str, code: str, seeds: int | None) -> Section:
    methods = " ".join(record.claim.method for record in records)
    chosen = "" if seeds is None else f" --seeds {seeds}"
    again = f"wsi-kd reproduce {methods}{chosen}"
    versions = {**package_versions(), "code (sha256)": code[:SHOWN_HASH], "git": git}
    rows = tuple((Cell(name), Cell(version)) for name, version in versions.items())
    return Section(
        "provenance",
        "How this was made",
        (
            Note(
                "Seeds are 0, 1, ...; each claim runs on one thread from a seeded state, so that the same "
                "versions give the same figures on one machine. Seconds are those of the machine it ran on."
            ),
            Listing("Make it again", again),
            Table("Versions", (Column("Part"), Column("Version")), rows, compact=True),
        ),
    )


def _sorted_by(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _outcome(measured: Measured) -> str:
    checks = measured.found.checks
    return outcome_text(held=sum(check.holds for check in checks), checks=len(checks))
