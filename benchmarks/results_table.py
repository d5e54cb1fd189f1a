"""Print a finished run's metrics as a Markdown table: the tables of the README are made by this.

python benchmarks/results_table.py results/crc
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wsi_kd.core.files import read_json
from wsi_kd.evaluation.summary import distinct_scores

HEADINGS = ("score", "bag AUC", "95 % interval", "last epoch", "instance AUC", "95 % interval", "last epoch")


def table_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table: mean and standard deviation over seeds, pooled interval, and the last epoch's mean."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield f"|{'---|' * len(HEADINGS)}"
    for name, measured in metrics["baselines"].items():
        yield _line(f"baseline: {name}", measured, None)
    for recipe, record in metrics["recipes"].items():
        for score in dict.fromkeys((*distinct_scores(record), *record["instances"])):
            slides = [part["scores"].get(score) for part in (record, record["last"])]
            tiles = [part["instances"].get(score) for part in (record, record["last"])]
            yield _line(f"{recipe}: {score}", slides[0], slides[1], tiles=tiles)


def _line(
    name: str,
    selected: Mapping[str, Any] | None,
    last: Mapping[str, Any] | None,
    *,
    tiles: list[Mapping[str, Any] | None] | None = None,
) -> str:
    selected_tiles, last_tiles = tiles or [None, None]
    cells = [name, *_estimate(selected), _mean(last), *_estimate(selected_tiles), _mean(last_tiles)]
    return f"| {' | '.join(cells)} |"


def _estimate(measured: Mapping[str, Any] | None) -> tuple[str, str]:
    if measured is None:
        return "", ""
    pooled, spread = measured["pooled"]["roc_auc"], measured["over_seeds"]["roc_auc"]
    if pooled["estimate"] is None:
        return pooled["reason"], ""
    deviation = "" if spread["sd"] is None or spread["count"] == 1 else f" ± {spread['sd']:.3f}"
    return f"{pooled['estimate']:.3f}{deviation}", f"{pooled['low']:.3f}-{pooled['high']:.3f}"


def _mean(measured: Mapping[str, Any] | None) -> str:
    return "" if measured is None else _estimate(measured)[0]


def main() -> None:
    """Print the table of the run named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results_dir", type=Path)
    path = parser.parse_args().results_dir / "evaluation" / "metrics.json"
    print("\n".join(table_lines(read_json(path, remake="wsi-kd evaluate"))))


if __name__ == "__main__":
    main()
