"""One job of an experiment: draw the parts, train one method, measure its selected and its last epoch."""

import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from bag_parts import Parts
from experiment_file import Experiment, GaussianFamily
from experiment_problems import Draw, draw_parts, fold_count, problem_names, problem_settings
from experiment_scores import Measures, Pooling, Scored, measure, measure_accuracy, score_model
from gaussian_bags import GaussianProblem
from logistic_baselines import fit_baseline
from wsi_kd.core.files import content_hash
from wsi_kd.settings.all import Settings
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train import Job as TrainingJob
from wsi_kd.steps.train import train_recipe

CLASSES: Final = ("negative", "positive")
NO_EPOCH: Final = "none"
"""What stands for the epoch of a baseline."""


class Job(NamedTuple):
    """What one process measures."""

    experiment: Experiment
    method: str
    """Of the experiment's methods or baselines."""
    draw: Draw


class Row(NamedTuple):
    """One method on one draw of a problem."""

    problem: str
    method: str
    epoch: str
    """`selected` on validation, `last`, or `none`."""
    seed: int
    fold: int
    bags: dict[str, int]
    """Part -> number of bags."""
    seconds: float
    """CPU time of training and scoring, which both epochs share."""
    measures: Measures


def list_jobs(
    experiment: Experiment, *, part: str, data: Path, cache: Path, problems: tuple[str, ...] = ()
) -> list[Job]:
    """List all jobs of an experiment (of `problems`, if any are named), the first seed's first."""
    return [
        Job(experiment, method, Draw(problem, seed, fold, part, data, cache))
        for seed in experiment.seeds
        for problem in problems or problem_names(experiment.problem)
        for method in (*experiment.baselines, *experiment.methods)
        for fold in range(fold_count(experiment.problem))
    ]


def job_key(job: Job) -> str:
    """Hash what the file says of a job: an edit of one method leaves the keys of all others alone."""
    experiment, draw = job.experiment, job.draw
    told: dict[str, Any] = {"pooling": list(_pooling(_shared(experiment)))}
    if job.method in experiment.methods:
        settings = experiment.train_settings(job.method).model_dump(mode="json", exclude={"recipes", "seeds"})
        told = {"recipe": experiment.methods[job.method].recipe, "train": settings}
    place = {"method": job.method, "seed": draw.seed, "fold": draw.fold, "part": draw.part}
    return content_hash({"problem": problem_settings(experiment.problem, draw.problem), **place, **told})


def run_job(job: Job) -> list[Row]:
    """Measure one method on one draw: one row an epoch shown.

    Raises:
        BadInput: data or settings that cannot be used.
        RunFailed: a loss that is not finite.
    """
    torch.set_num_threads(1)
    parts = draw_parts(job.experiment.problem, job.draw)
    started = time.process_time()
    if job.method in job.experiment.methods:
        pairs = _train(job, parts)
    else:
        score = fit_baseline(
            job.method, parts, problem=_truth(job), pooling=_pooling(_shared(job.experiment))
        )
        pairs = {NO_EPOCH: (score(parts.scored), score(parts.val))}
    seconds = time.process_time() - started
    bags = {name: len(part.labels) for name, part in parts._asdict().items() if name != "hard"}
    return [
        Row(
            problem=job.draw.problem,
            method=job.method,
            epoch=epoch,
            seed=job.draw.seed,
            fold=job.draw.fold,
            bags=bags,
            seconds=round(seconds, 2),
            measures=measure(scored, parts.scored, hard=parts.hard)
            | measure_accuracy(scored, parts.scored, on_val=on_val, val=parts.val),
        )
        for epoch, (scored, on_val) in pairs.items()
    ]


def _train(job: Job, parts: Parts) -> dict[str, tuple[Scored, Scored]]:
    """Train; return the scores of the scored and the validation part by epoch shown."""
    settings = job.experiment.train_settings(job.method)
    recipe = job.experiment.methods[job.method].recipe
    training = TrainingJob(recipe, job.draw.seed, job.draw.fold, CLASSES, Settings(train=settings))
    with tempfile.TemporaryDirectory() as folder:
        trained = train_recipe(
            training, parts.train, parts.val, work_dir=Path(folder), on_epoch=lambda row: None
        )
    models = {"selected": trained.model, "last": trained.last_model}
    pooling = _pooling(settings)
    return {
        epoch: (score_model(model, parts.scored, pooling), score_model(model, parts.val, pooling))
        for epoch, model in models.items()
    }


def _truth(job: Job) -> GaussianProblem | None:
    family = job.experiment.problem
    if not isinstance(family, GaussianFamily):
        return None
    return GaussianProblem(**family.cases[job.draw.problem].model_dump())


def _pooling(settings: TrainSettings) -> Pooling:
    return Pooling(settings.student_pooling, settings.top_k)


def _shared(experiment: Experiment) -> TrainSettings:
    return TrainSettings.model_validate(experiment.train)
