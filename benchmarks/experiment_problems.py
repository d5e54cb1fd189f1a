"""The problems of an experiment's family, and their parts for a seed and fold."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from bag_parts import Parts, fold_parts, shuffled_bags
from experiment_file import GaussianFamily, ImageFamily, SlideFamily, TableFamily
from gaussian_bags import FIRST_SEED, GaussianProblem, draw_bags
from image_bags import TEST_SHARE, bags_of_images, draw_image_bags
from labeled_images import LabeledFeatures, embedded_images
from table_bags import read_table_bags
from wsi_kd.bags.datasets import BagSet, load_bags
from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.errors import unknown_name
from wsi_kd.settings.all import read_settings

Family: TypeAlias = GaussianFamily | ImageFamily | TableFamily | SlideFamily


class Draw(NamedTuple):
    """Which parts are wanted, and where data are found and kept."""

    problem: str
    seed: int
    fold: int
    part: str
    """What is scored: test, or val to compare ideas."""
    data: Path
    cache: Path


def problem_names(family: Family) -> tuple[str, ...]:
    """Name the problems of a family, one section of the tables each."""
    if isinstance(family, GaussianFamily):
        return tuple(family.cases)
    if isinstance(family, ImageFamily):
        return tuple(_rates(family))
    return (family.table,) if isinstance(family, TableFamily) else (family.settings.stem,)


def problem_settings(family: Family, problem: str) -> dict[str, Any]:
    """Return what tells this problem from all others, as JSON values."""
    if isinstance(family, GaussianFamily):
        return {"family": family.family, **family.cases[problem].model_dump()}
    settings = family.model_dump(mode="json")
    if isinstance(family, ImageFamily):
        settings["witness_rates"] = [_rates(family)[problem]]
    return settings


def fold_count(family: Family) -> int:
    """Jobs a seed and method: folds where bags are few, else one draw of all parts."""
    return family.folds if isinstance(family, TableFamily | SlideFamily) else 1


def overlap(family: Family) -> float:
    """Test bags for each other bag where seeds share their bags; 0 where each seed draws fresh ones."""
    if isinstance(family, GaussianFamily):
        return 0.0
    share = TEST_SHARE if isinstance(family, ImageFamily) else 1.0 / family.folds
    return share / (1.0 - share)


def draw_parts(family: Family, draw: Draw) -> Parts:
    """Return the bags of one job.

    Raises:
        BadInput: a problem that the family does not hold, data that are absent or allow no such bags.
    """
    names = problem_names(family)
    if draw.problem not in names:
        raise unknown_name("problem", draw.problem, names)
    return DRAWERS[family.family](family, draw)


def prepare(family: Family, *, data: Path, cache: Path) -> None:
    """Make what all jobs read, once and before they start: the features of images."""
    if isinstance(family, ImageFamily):
        _image_features(family.model_dump_json(), data, cache)


def _gaussian_parts(family: GaussianFamily, draw: Draw) -> Parts:
    problem = GaussianProblem(**family.cases[draw.problem].model_dump())
    train, val, scored = (
        draw_bags(problem, FIRST_SEED[part] + draw.seed) for part in ("train", "val", draw.part)
    )
    return Parts(train.bags, val.bags, scored.bags, scored.hard)


def _image_parts(family: ImageFamily, draw: Draw) -> Parts:
    images = _image_features(family.model_dump_json(), draw.data, draw.cache)
    positive = images.labels == family.positive_class
    rate = _rates(family)[draw.problem]
    rows = draw_image_bags(positive, rate=rate, instances=family.instances, seed=draw.seed)
    parts = {name: bags_of_images(images.features, positive, part) for name, part in rows._asdict().items()}
    return Parts(parts["train"], parts["val"], parts[draw.part], hard=None)


def _table_parts(family: TableFamily, draw: Draw) -> Parts:
    bags = read_table_bags(family.table, data=draw.data)
    return fold_parts(
        bags, bags.slide_ids, folds=family.folds, seed=draw.seed, fold=draw.fold, part=draw.part
    )


def _slide_parts(family: SlideFamily, draw: Draw) -> Parts:
    bags, cases = _embedded_slides(family.settings, shuffled=family.shuffled)
    return fold_parts(bags, cases, folds=family.folds, seed=draw.seed, fold=draw.fold, part=draw.part)


DRAWERS: Final[dict[str, Callable[[Any, Draw], Parts]]] = {
    "gaussian": _gaussian_parts,
    "images": _image_parts,
    "table": _table_parts,
    "slides": _slide_parts,
}


class EmbeddedSlides(NamedTuple):
    """All slides of a run, and whose they are."""

    bags: BagSet
    cases: tuple[str, ...]


@cache
def _embedded_slides(settings: Path, *, shuffled: bool) -> EmbeddedSlides:
    run = read_settings(settings).run
    manifest = read_manifest(run.manifest, slides_dir=run.slides_dir, classes=run.classes)
    bags = load_bags(run.results_dir / "features", manifest.rows, manifest.classes)
    cases = tuple(row.case_id for row in manifest.rows)
    return EmbeddedSlides(shuffled_bags(bags) if shuffled else bags, cases)


@cache
def _image_features(family_json: str, data: Path, kept: Path) -> LabeledFeatures:
    """Features of the family's images; keyed by text because settings that hold mappings cannot be."""
    family = ImageFamily.model_validate_json(family_json)
    weights = family.embed.weights and data / family.embed.weights
    settings = family.embed.model_copy(update={"weights": weights})
    return embedded_images(family.images, data=data, settings=settings, cache=kept)


def _rates(family: ImageFamily) -> dict[str, float]:
    return {f"witness_rate_{100 * rate:g}": rate for rate in family.witness_rates}
