# What the rules share: the settings and the manifest, read once, and what each rule's inputs and parameters are.
# Parameters are plain strings that hold exactly what a step uses (wsi_kd/cli/plan.py): a change reruns that step.

import os
import sys
from pathlib import Path

from wsi_kd.cli.plan import read_plan
from wsi_kd.core.errors import WsiKdError
from wsi_kd.core.machine import gpus_for

# Jobs call the `wsi-kd` that stands beside this Snakemake, whether or not its environment is activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
)

try:
    plan = read_plan(config)
except WsiKdError as error:
    print(f"wsi-kd: error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

RESULTS = str(plan.layout.root)
TRAIN = plan.settings.train


wildcard_constraints:
    chunk=r"\d+",
    recipe="|".join(TRAIN.recipes),
    seed=r"\d+",
    fold=r"\d+",


def settings_of(step):
    """Parameter `settings` of a step's rule."""
    return lambda wildcards: plan.step_settings(step)


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
    return lambda wildcards: plan.all_rows_hash(step)


def slide_files(wildcards):
    """Slides of a chunk."""
    return plan.slide_files(int(wildcards.chunk))


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
