"""Training on pixels: what is refused, how often the network runs, resuming, and that it learns."""

import functools

import numpy as np
import pytest
import torch

from wsi_kd.bags.images import image_bags
from wsi_kd.core.errors import BadInput
from wsi_kd.mil.projectors import ImageProjector
from wsi_kd.mil.stain_jitter import StainJitter
from wsi_kd.settings.models import TrainSettings
from wsi_kd.steps.train_plan import plan_optimization
from wsi_kd.training.bag_checks import bags_hash, check_bags, feature_moments
from wsi_kd.training.image_input import check_projector
from wsi_kd.training.loop import start_run
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.recipes.abmil import train_abmil
from wsi_kd.training.recipes.weno import train_weno
from wsi_kd.training.schedules import alternate_epoch, joint_epoch

PX = 16


def drawn_bags(seed, *, bags=12, instances=6):
    """Noise; in the first half of the bags two tiles have a bright cross, dark in none."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 140, (bags, instances, PX, PX, 3), dtype=np.uint8)
    tile_labels = np.zeros((bags, instances), np.int8)
    for bag in range(bags // 2):
        for tile in rng.permutation(instances)[:2]:
            row, column = rng.integers(4, 12, 2)
            images[bag, tile, row - 1 : row + 2, :, 0] = 230
            images[bag, tile, :, column - 1 : column + 2, 0] = 230
            tile_labels[bag, tile] = 1
    return image_bags(
        images.reshape(-1, PX, PX, 3),
        bag_sizes=[instances] * bags,
        labels=(np.arange(bags) < bags // 2).astype(np.int64),
        tile_labels=tile_labels.reshape(-1),
    )


@pytest.fixture(scope="module")
def parts():
    return drawn_bags(0), drawn_bags(1, bags=8)


@pytest.fixture
def image_plans(plans):
    return plans._replace(
        architecture=plans.architecture._replace(projector="cnn_small", dropout=0.1),
        optimization=plans.optimization._replace(epochs=3, image_chunk=4, learning_rate=2e-3),
    )


def test_moments_of_pixels_are_those_of_the_tiles_colors(parts):
    mean, deviation = feature_moments(parts[0])
    tiles = parts[0].features.reshape(-1, PX * PX, 3).astype(np.float64)
    colors = np.concatenate([tiles.mean(axis=1), tiles.std(axis=1)], axis=1)
    assert mean.tolist() == pytest.approx(colors.mean(axis=0), rel=1e-5)
    assert deviation.tolist() == pytest.approx(colors.std(axis=0), rel=1e-4)


def test_bags_of_pixels_pass_the_checks_and_are_hashed(parts):
    train, val = parts
    check_bags(train, classes=2, part="training")
    changed = train.features.copy()
    changed[3, 100] ^= 1
    assert bags_hash(train, val) != bags_hash(train._replace(features=changed), val)


@pytest.mark.parametrize(
    ("dtype", "projector", "message"),
    [
        (
            np.uint8,
            "linear",
            "these bags hold pixels; set train.projector to one of alexnet_cifar, cnn",
        ),
        (
            np.float16,
            "cnn_small",
            "these bags hold float16 features of encoder pixels; set embed.encoder to pixels and run anew",
        ),
    ],
)
def test_projector_and_features_must_fit(parts, image_plans, dtype, projector, message):
    bags = parts[0]._replace(features=parts[0].features.astype(dtype))
    with pytest.raises(BadInput, match=message):
        check_projector(bags, projector)
    architecture = image_plans.architecture._replace(projector=projector)
    started = start_run(
        bags,
        bags,
        classes=2,
        architecture=architecture,
        optimization=image_plans.optimization,
        with_student=False,
    )
    with pytest.raises(BadInput, match=message), started:
        pass


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize(("epoch", "passes"), [(joint_epoch, 1), (alternate_epoch, 3)])
def test_the_network_runs_no_oftener_than_it_must(parts, image_plans, epoch, passes, average):
    """Joint: once; alternate: teacher, labels, student. A moving average has a network of its own."""
    train, val = parts
    distillation = image_plans.distillation._replace(teacher_average=average)
    rows = {"model": 0, "average": 0}

    def count(name, _, inputs):
        rows[name] += len(inputs[0])

    with start_run(
        train,
        val,
        classes=2,
        architecture=image_plans.architecture,
        optimization=image_plans.optimization,
        with_student=True,
        teacher_average=average,
    ) as run:
        run.model.projector.register_forward_pre_hook(functools.partial(count, "model"))
        if run.state.average is not None:
            run.state.average.projector.register_forward_pre_hook(functools.partial(count, "average"))
        epoch(run, LossLedger(train.slide_ids), distillation=distillation, mining=None)
    own = passes - 1 if average and passes > 1 else passes
    assert rows == {"model": own * len(train.features), "average": len(train.features) if average else 0}


def test_settings_of_the_run_reach_the_projector(parts, image_plans):
    optimization = image_plans.optimization._replace(image_chunk=5, image_augmentation="none")
    with start_run(
        *parts,
        classes=2,
        architecture=image_plans.architecture,
        optimization=optimization,
        with_student=False,
        teacher_average=0.9,
    ) as run:
        for model in (run.model, run.state.average):
            assert isinstance(model.projector, ImageProjector)
            assert (model.projector.chunk, model.projector.augmentation) == (5, "none")


class KilledError(Exception):
    pass


@pytest.mark.parametrize("schedule", ["joint", "alternate"])
def test_resumed_equals_unkilled_bit_for_bit_with_augmentation(parts, image_plans, tmp_path, schedule):
    recipe = functools.partial(
        train_weno,
        *parts,
        classes=2,
        architecture=image_plans.architecture,
        optimization=image_plans.optimization,
        distillation=image_plans.distillation._replace(schedule=schedule),
        mining=None,
    )

    def kill(row):
        if row["epoch"] == 1:
            raise KilledError

    whole = recipe(work_dir=tmp_path / "whole", on_epoch=lambda row: None)
    with pytest.raises(KilledError):
        recipe(work_dir=tmp_path / "killed", on_epoch=kill)
    resumed = recipe(work_dir=tmp_path / "killed", on_epoch=lambda row: None)
    assert resumed.history == whole.history
    other = whole.last_model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in resumed.last_model.state_dict().items())


def test_augmentation_changes_what_is_learned(parts, image_plans, tmp_path):
    losses = []
    for augmentation, kind in (("none", "none"), ("dihedral", "none"), ("none", "hed"), ("none", "hed")):
        optimization = image_plans.optimization._replace(
            epochs=1, image_augmentation=augmentation, image_stains=StainJitter(kind, 0.2)
        )
        trained = train_abmil(
            *parts,
            classes=2,
            architecture=image_plans.architecture,
            optimization=optimization,
            work_dir=tmp_path / str(len(losses)),
            on_epoch=lambda row: None,
        )
        losses.append(trained.history[0]["train_teacher_loss"])
    assert len(set(losses)) == 3
    assert losses[2] == losses[3]


def test_stain_settings_reach_the_projector():
    settings = TrainSettings(stain_augmentation="stain_matrix", stain_strength=0.1, stain_bias=0.2)
    optimization = plan_optimization(settings, seed=0)
    assert optimization.image_stains == StainJitter("stain_matrix", 0.1, 0.2)
    assert plan_optimization(TrainSettings(), seed=0).image_stains.kind == "none"


@pytest.mark.slow
def test_end_to_end_training_finds_the_tiles(image_plans, tmp_path):
    train, val, test = drawn_bags(2, bags=60), drawn_bags(3, bags=20), drawn_bags(4, bags=40)
    trained = train_weno(
        train,
        val,
        classes=2,
        architecture=image_plans.architecture,
        optimization=image_plans.optimization._replace(epochs=20, image_chunk=64),
        distillation=image_plans.distillation,
        mining=None,
        work_dir=tmp_path,
        on_epoch=lambda row: None,
    )
    with torch.no_grad():
        output = trained.model(torch.from_numpy(test.features), torch.from_numpy(test.offsets))
    positive = torch.from_numpy(test.labels) == 1
    bag_scores = output.bag_logits[:, 1] - output.bag_logits[:, 0]
    assert bag_scores[positive].min() > bag_scores[~positive].max()
    witness = torch.from_numpy(test.tile_labels) == 1
    student = output.instance_logits.squeeze(-1)
    assert (student[witness][:, None] > student[~witness][None, :]).double().mean() > 0.98
