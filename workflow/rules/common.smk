# What the rules share: the settings and the manifest, read once, and what each rule's inputs and parameters are.
# Parameters are plain strings that hold exactly what a step uses (wsi_kd/cli/plan.py): a change reruns that step.

import os
import sys
from functools import cache
from pathlib import Path

from wsi_kd.cli.plan import read_plan
from wsi_kd.cli.reruns import schemas_written
from wsi_kd.core.errors import WsiKdError
from wsi_kd.core.machine import gpus_for
from wsi_kd.core.run_lock import RunLock

# Jobs call the `wsi-kd` that stands beside this Snakemake, whether or not its environment is activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
)

try:
    plan = read_plan(config, in_job=not workflow.is_main_process)
except WsiKdError as error:
    print(f"wsi-kd: error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

RESULTS = str(plan.layout.root)
run_lock = RunLock(plan.layout.root)
TRAIN = plan.settings.train


# Before the first job, and not in dry runs. The Snakemake of a cluster's job works for the one that holds the lock; the
# kernel lets go of it when that process ends, however.
onstart:
    try:
        if workflow.is_main_process:
            run_lock.hold()
            plan.changes.record()
    except WsiKdError as error:
        print(f"wsi-kd: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


wildcard_constraints:
    chunk=r"\d+",
    recipe="|".join(TRAIN.recipes),
    seed=r"\d+",
    fold=r"\d+",


def settings_of(step):
    """Parameter `settings` of a step's rule, written out once for all its jobs."""
    written = cache(plan.step_settings)
    return lambda wildcards: written(step)


def cards_of(step):
    """Resource `gpu` of a step's jobs: 1 where it may compute on a card. The profile lets one such job run at a time."""
    return gpus_for(getattr(plan.settings, step).device)


def cards_of_mask():
    """The same of rule mask, whose thumbnails need no card; a segmentation network may."""
    mask = plan.settings.mask
    return gpus_for(mask.network_device) if mask.source == "network" else 0


def train_settings(wildcards):
    """Parameter `settings` of one training."""
    return plan.train_settings(wildcards.recipe, int(wildcards.seed))


def large_model(wildcards):
    """Trained model that a training learns from: recipe distill has one."""
    return plan.large_model(wildcards.recipe, int(wildcards.seed), int(wildcards.fold))


def chunk_rows_of(step):
    """Parameter `rows` of a chunk's job: what the step uses of its manifest rows."""
    return lambda wildcards: plan.chunk_hash(step, int(wildcards.chunk))


def all_rows_of(step):
    """Parameter `rows` of a job for the whole manifest."""
    hashed = cache(plan.all_rows_hash)
    return lambda wildcards: hashed(step)


def slide_files(wildcards):
    """Slides of a chunk."""
    return plan.slide_files(int(wildcards.chunk))


def stored_slides(wildcards):
    """Slides of a chunk that lie in storage: fetched for the job, and removed after the last that reads them."""
    return [storage(address) for address in plan.stored_slides(int(wildcards.chunk))]


def all_stored_slides(wildcards):
    """The same of the whole cohort."""
    return [storage(address) for address in plan.all_stored_slides()]


def slides_state(wildcards):
    """Parameter `slides`: changes when a slide of the chunk does; empty where slides are inputs."""
    return plan.slides_state(int(wildcards.chunk))


def annotations_state(wildcards):
    """Parameter `annotations`: the same of annotations."""
    return plan.annotations_state(int(wildcards.chunk))


def checked_precision(wildcards):
    """What `wsi-kd check-precision` found, where somebody ran it: the page shows it and is drawn anew after it."""
    return [path for path in [f"{RESULTS}/evaluation/precision.json"] if Path(path).is_file()]


def edited_masks(wildcards):
    """Hand-drawn masks of a chunk."""
    return plan.edited_masks(int(wildcards.chunk))


def mask_network(wildcards):
    """Segmentation network that finds the tissue, if one does."""
    return plan.mask_network()


def annotation_files(wildcards):
    """Annotations of a chunk."""
    return plan.annotation_files(int(wildcards.chunk))


def stain_target(wildcards):
    """Slide or image whose staining is the target, if the settings name one."""
    return plan.stain_target()


def stain_fit(wildcards):
    """Stains of the whole cohort, if tiles are normalized by them."""
    return plan.stain_fit()


def encoder_weights(wildcards):
    """Local weight files of the encoder, if it has any."""
    return plan.encoder_files()


def given_features(wildcards):
    """Another program's features of a chunk."""
    return plan.given_features(int(wildcards.chunk))


def given_splits(wildcards):
    """Splits made elsewhere, if the settings name any."""
    return plan.given_split_files()


def every_chunk(folder):
    """Status tables of all chunks of a step."""
    return [f"{RESULTS}/{folder}/chunk-{chunk}.csv" for chunk in range(len(plan.chunks))]


def every_model(folder, name):
    """One file of every recipe, seed and fold."""
    return expand(
        f"{RESULTS}/{folder}/{{recipe}}/seed{{seed}}/fold{{fold}}/{name}",
        recipe=TRAIN.recipes,
        seed=TRAIN.seeds,
        fold=range(plan.folds),
    )
