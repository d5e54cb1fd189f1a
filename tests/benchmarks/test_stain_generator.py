"""The benchmark of a small stain normalizer: its pairs, its training loop, its verdicts and tables."""

import json
from xml.etree import ElementTree

import pytest
import torch
from drawn_tissue import overview

import stain_generator
from stain_generator import BASES, SAMPLERS, Plan, batches, kept_rows, kept_teacher, teach_base, teach_vem
from stain_generator_tables import ALONE, FIGURES, MAX_GAP, gap_chart, table, verdict
from stain_judge import run
from stain_pairs import DARKER_THAN, MIN_TISSUE, PARTS, Pairs, draw_pairs, normalized
from wsi_kd.core.errors import BadInput
from wsi_kd.features.stain.normalizer import fit_stains
from wsi_kd.features.stain.reference import built_in_target
from wsi_kd.kd.cost import count_parameters
from wsi_kd.kd.dense_networks import UNet
from wsi_kd.kd.energy_compression import ImageEnergy

TINY = Plan(
    teacher_width=3,
    student_width=1,
    crops=8,
    student_crops=8,
    crop_px=16,
    batch=4,
    teacher_steps=2,
    start_steps=1,
    steps=3,
)


class Levels:
    """In the judge's place: mean levels stand for features."""

    def __init__(self, pairs):
        self.pairs = pairs

    def figures(self, outputs):
        return dict.fromkeys(FIGURES, float((outputs - self.pairs.targets).abs().mean()))


@pytest.fixture(scope="module")
def pairs():
    return draw_pairs(
        [overview(eosin=0.8, hematoxylin=0.7, seed=seed) for seed in (0, 1)], count=8, edge=16, seed=0
    )


def test_no_source_is_in_two_parts_and_the_student_is_an_eighth_at_most():
    sources = [name for names in PARTS.values() for name in names]
    assert len(set(sources)) == len(sources) == 12
    plan = Plan()
    assert count_parameters(UNet(plan.student_width)) <= count_parameters(UNet(plan.teacher_width)) / 8


def test_targets_are_stained_like_the_reference():
    shown = normalized(overview(eosin=0.8, hematoxylin=0.7))
    found, wanted = fit_stains(shown.reshape(-1, 3), "macenko"), built_in_target("macenko")
    assert found.strength.tolist() == pytest.approx(wanted.strength.tolist(), rel=0.1)


def test_pairs_show_the_same_tissue_in_other_stains(pairs):
    assert pairs.inputs.shape == pairs.targets.shape == (8, 3, 16, 16)
    assert -1.0 <= pairs.inputs.min() <= pairs.inputs.max() <= 1.0
    apart = (pairs.inputs - pairs.targets).abs().mean(dim=(1, 2, 3))
    assert apart.min() > 0.005
    for first, second in zip(pairs.inputs.mean(dim=1), pairs.targets.mean(dim=1), strict=True):
        both = torch.stack([first.flatten(), second.flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.9
    darkest = ((pairs.targets.amin(dim=1) + 1) * 127.5).round() < DARKER_THAN
    assert darkest.float().mean(dim=(1, 2)).min() >= MIN_TISSUE


def test_pairs_repeat_with_their_seed_and_leave_the_global_generator_alone():
    images = [overview(eosin=0.8, hematoxylin=0.7)]
    state = torch.get_rng_state()
    first, again, other = (draw_pairs(images, count=3, edge=16, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)


def test_an_image_smaller_than_a_crop_is_refused():
    with pytest.raises(BadInput, match="240 x 180 px: no crop of 200 px"):
        draw_pairs([overview(eosin=0.8, hematoxylin=0.7)], count=1, edge=200, seed=0)


def test_batches_take_each_row_once_an_epoch():
    drawn = [rows.tolist() for rows in batches(10, size=4, steps=6, seed=0)]
    epochs = [sorted(drawn[at] + drawn[at + 1]) for at in (0, 2, 4)]
    assert all(len(set(one)) == 8 for one in epochs)
    assert [rows.tolist() for rows in batches(10, size=4, steps=6, seed=0)] == drawn


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_trains_and_repeats_with_its_seed(pairs, sampler):
    def trained(seed):
        torch.manual_seed(0)
        return teach_vem(UNet(2), pairs, base="complete", sampler=sampler, plan=TINY, seed=seed)

    first, again, other = trained(0), trained(0), trained(1)
    assert first.failure is None
    assert len(first.gaps) == 1  # 3 steps, one mean
    assert first.gaps == again.gaps
    assert first.gaps != other.gaps
    assert not torch.equal(run(first.network, pairs.inputs), pairs.inputs)


def test_energies_that_fail_end_the_training_and_are_told(pairs, monkeypatch):
    class Broken(ImageEnergy):
        def forward(self, outputs, student):
            return super().forward(outputs, student) * float("nan")

    monkeypatch.setattr(stain_generator, "ImageEnergy", Broken)
    student = UNet(2)
    taught = teach_vem(student, pairs, base="complete", sampler="persistent", plan=TINY, seed=0)
    assert "not finite" in str(taught.failure)
    assert taught.gaps == []
    assert torch.equal(run(student, pairs.inputs), pairs.inputs)  # as it was


def test_green_alone_leaves_red_and_blue_where_they_were(pairs):
    torch.manual_seed(0)
    taught = teach_base(UNet(3), pairs, base="green alone", steps=100, plan=TINY, seed=0)
    outputs = run(taught.network, pairs.inputs)
    assert torch.equal(outputs[:, [0, 2]], pairs.inputs[:, [0, 2]])
    before, after = (BASES["green alone"](images, pairs.targets) for images in (pairs.inputs, outputs))
    assert after < 0.95 * before


def test_a_second_run_takes_what_the_first_one_left(pairs, tmp_path, monkeypatch):
    parts = {"train": pairs, "val": pairs, "test": pairs}
    teacher = kept_teacher(tmp_path, parts, TINY)
    rows = kept_rows(tmp_path, pairs, Levels(pairs), base="complete", plan=TINY, seed=0)
    assert list(rows) == [ALONE, *SAMPLERS]
    monkeypatch.setattr(stain_generator, "compare", None)
    monkeypatch.setattr(stain_generator, "train_teacher", None)
    again = kept_teacher(tmp_path, parts, TINY)
    assert torch.equal(run(again, pairs.inputs), run(teacher, pairs.inputs))
    kept = kept_rows(tmp_path, pairs, Levels(pairs), base="complete", plan=TINY, seed=0)
    assert kept == json.loads(json.dumps(rows))
    other = TINY._replace(weight=0.01)
    assert len(list(tmp_path.glob("teacher-*"))) == 1
    kept_teacher(tmp_path, parts, other)  # a student's weight does not change the teacher
    with pytest.raises(TypeError):  # another plan is another run
        kept_rows(tmp_path, pairs, Levels(pairs), base="complete", plan=other, seed=0)


def seed_rows(*, lost=0.0, gaps=(0.5, 0.1), failure=None, alone_db=30.0):
    values = dict(zip(FIGURES, (25.0, 0.9, 10.0, alone_db, 4.0), strict=True))
    alone = {**values, "gaps": [], "failure": None, "ms_per_step": 40.0}
    own = {
        **alone,
        "psnr_teacher": alone_db - lost,
        "frechet_teacher": 5.0,
        "gaps": list(gaps),
        "failure": failure,
    }
    return {ALONE: alone, "persistent": own}


def test_stable_is_finite_bounded_and_no_worse_than_noise():
    noisy = {"alone_db": 30.2}  # 30 and 30.2: a standard deviation of .141
    assert verdict([seed_rows(lost=0.1), seed_rows(lost=0.15, **noisy)], "persistent").stable
    worse = verdict([seed_rows(lost=-1.0), seed_rows(lost=1.4, **noisy)], "persistent")
    assert (worse.lost_db, worse.stable) == (pytest.approx(0.2), False)  # its own noise is no excuse
    assert (worse.noise_db, worse.spread_db) == (
        pytest.approx(0.1414, abs=1e-4),
        pytest.approx(1.697, abs=1e-3),
    )
    early, late = seed_rows(gaps=(9.0, 0.1)), seed_rows(gaps=(0.1, -2 * MAX_GAP))
    assert verdict([early], "persistent").stable  # the first half does not count
    assert not verdict([early, late], "persistent").stable
    assert verdict([late], "persistent").gap == 2 * MAX_GAP
    assert not verdict([seed_rows(failure="energies are not finite")], "persistent").stable


def test_table_and_chart_say_what_was_found():
    costs = {"parameters": 1000, "latency_ms": 8.0}
    figures = dict(zip(FIGURES, (20.0, 0.8, 30.0, 19.0, 28.0), strict=True))
    seeds = [seed_rows(lost=1.0), seed_rows(lost=2.0)]
    found = {
        "costs": {"teacher": costs, "student": {"parameters": 125, "latency_ms": 2.0}},
        "input": figures,
        "teacher": {name: figures[name] for name in FIGURES[:3]},
        "bases": {"complete": seeds},
    }
    text = table(found)
    assert "Teacher 1,000 parameters, 8.0 ms; student 125 (1/8.0), 2.0 ms." in text
    assert "| the teacher | 20.00 | 0.800 | 30.00 |  |  |" in text
    assert "| complete: persistent | 25.00 ± 0.00 | 0.900 ± 0.000 | 10.00 ± 0.00 | 28.50 ± 0.71 |" in text
    assert "| complete, persistent | 0 of 2 | 0.1 | -1.50 ± 0.71 | 1.25 ± 0.00 | 40 | no |" in text
    drawn = ElementTree.fromstring(gap_chart(seeds, every=20))
    named = [one.attrib["id"] for one in drawn.iter() if "id" in one.attrib]
    assert named
    assert all(name.startswith("stain-generator-") for name in named)


@pytest.mark.shared_data
def test_real_sources_have_crops(shared_data):
    from stain_pairs import read_source

    for part in ("val", "test"):
        images = [read_source(shared_data / name) for name in PARTS[part]]
        drawn = draw_pairs(images, count=len(images), edge=128, seed=0)
        assert isinstance(drawn, Pairs)
        assert (drawn.inputs - drawn.targets).abs().mean() > 0.02
