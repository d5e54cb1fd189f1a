"""The questions before a training: each finds what it is for, all planted losses are rejected."""

import itertools
import math
from random import Random

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.operations import OPERATIONS, Operations
from wsi_kd.kd.search.probes import collect_probes, random_probe
from wsi_kd.kd.search.rejection import NO_GAIN, NO_GRADIENT, NOT_FINITE, NOT_LEAST, REASONS, Screen, signature
from wsi_kd.kd.search.similarity import cka, representation_gap, sharpness_gap
from wsi_kd.kd.search.space import WEIGHTS, SearchSpace, draw_genome

PAIR = ("ours", "theirs")


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def teacher_logits(seed):
    """Of five classes, as sure as a trained network's."""
    return 2.0 * draw(seed, 40, 5) + 5.0 * torch.eye(5)[torch.arange(40) % 5]


def teacher_maps(seed):
    """Three patterns of six channels, each sample's own mixture, cut off at 0 as by a ReLU."""
    return torch.einsum("np,pchw->nchw", draw(seed, 40, 3).abs(), draw(99, 3, 6, 4, 4)).relu()


def make_screen(operations=OPERATIONS):
    maps = {None: teacher_logits, PAIR: teacher_maps}
    probes = {
        layers: tuple(random_probe(make(seed), seed=seed) for seed in range(3))
        for layers, make in maps.items()
    }
    return Screen(probes, operations=operations)


SCREEN = make_screen()


@pytest.mark.parametrize(
    "genome",
    [
        Genome(temperature=4.0),
        Genome(distance="l2"),
        Genome(transforms=("norm_n",), distance="l1", weight=10.0),
        Genome(transforms=("softmax_c",), distance="cosine", temperature=4.0),
        Genome(PAIR, ("spatial_attention", "norm_hw"), "l2"),
        Genome(PAIR, ("batch_similarity",), "l2", weight=300.0),
        Genome(PAIR, ("channel_similarity",), "pearson"),
        Genome(PAIR, (), "l1", weight=0.1),
    ],
)
def test_losses_that_teach_pass(genome):
    verdict = SCREEN(genome)

    assert verdict.reason == ""
    assert len(verdict.signature) == 16
    assert SCREEN(genome) == verdict


@pytest.mark.parametrize(
    ("genome", "reason"),
    [
        (Genome(transforms=("norm_hw",), distance="l2"), NO_GRADIENT),  # a logit is one position: always 0
        (Genome(transforms=("spatial_attention", "norm_c"), distance="l2"), NO_GRADIENT),  # one channel
        (Genome(transforms=("norm_hw",), distance="cosine"), NOT_LEAST),  # 1 - the cosine of zeros
    ],
)
def test_losses_that_teach_nothing(genome, reason):
    assert SCREEN(genome).reason == reason
    assert SCREEN(genome).signature == ""


def zero(maps, temperature):
    return 0.0 * maps


def endless(maps, temperature):
    return maps / 0.0


def shuffled(maps, temperature):
    """What the student gives has no bearing on what is compared."""
    return maps.detach()


def negative(student, teacher, temperature):
    return -(student - teacher).square().mean()


def offset(student, teacher, temperature):
    return teacher.square().mean() + (student - teacher).square().mean()


def backwards(student, teacher, temperature):
    """Never below 0, and least where both are equal or infinitely far apart."""
    return (-(student - teacher).square().mean()).exp() * (student - teacher).square().mean()


PLANTED = {
    "zero": NO_GRADIENT,
    "endless": NOT_FINITE,
    "shuffled": NO_GRADIENT,
    "negative": NOT_LEAST,
    "offset": NOT_LEAST,
    "backwards": NO_GAIN,
}
SOWN = Operations(
    {**OPERATIONS.transforms, "zero": zero, "endless": endless, "shuffled": shuffled},
    {**OPERATIONS.distances, "negative": negative, "offset": offset, "backwards": backwards},
)


def planted_genomes():
    """Every planted operation, with each operation that there is before, behind or beside it."""
    for name in ("zero", "endless", "shuffled"):
        for distance in OPERATIONS.distances:
            yield Genome(transforms=(name,), distance=distance)
            for other in OPERATIONS.transforms:
                yield Genome(transforms=(name, other), distance=distance)
                yield Genome(transforms=(other, name), distance=distance)
    for name in ("negative", "offset"):
        for many in (0, 1, 2):
            for transforms in itertools.permutations(OPERATIONS.transforms, many):
                yield Genome(transforms=transforms, distance=name)


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_a_planted_operation_is_rejected_for_its_reason(name):
    transforms = (name,) if name in SOWN.transforms else ()
    distance = name if name in SOWN.distances else "l2"

    assert make_screen(SOWN)(Genome(transforms=transforms, distance=distance)).reason == PLANTED[name]


def test_all_planted_genomes_are_rejected():
    screen, genomes = make_screen(SOWN), list(planted_genomes())

    passed = [genome.told for genome in genomes if not screen(genome).reason]

    assert len(genomes) == 3 * 6 * 31 + 2 * (1 + 15 + 210)
    assert passed == []


def test_a_good_part_of_random_genomes_passes():
    random, space = Random(0), SearchSpace(layers=(None, PAIR))
    verdicts = [SCREEN(draw_genome(space, random)) for _ in range(80)]

    reasons = [verdict.reason for verdict in verdicts]
    assert set(reasons) <= {"", *REASONS}
    assert 0.3 < reasons.count("") / 80 < 0.95
    assert all((verdict.reason == "") == (verdict.signature != "") for verdict in verdicts)


def test_equal_teaching_has_one_signature():
    """Correlation is the cosine of what is centered; one position's mean is itself; the mean over two equal
    halves of a map is that of the map."""
    pairs = [
        (Genome(distance="pearson"), Genome(transforms=("norm_c",), distance="cosine")),
        (Genome(distance="l2"), Genome(transforms=("channel_attention",), distance="l2")),
        (Genome(distance="kl", temperature=2.0), Genome(transforms=("multi_scale",), temperature=2.0)),
    ]
    for first, second in pairs:
        assert SCREEN(first).signature == SCREEN(second).signature


def test_other_teaching_has_other_signatures():
    genomes = [
        *(Genome(distance="l2", weight=weight) for weight in WEIGHTS),
        *(Genome(temperature=temperature) for temperature in (1.0, 2.0, 4.0)),
        Genome(distance="l1"),
        Genome(PAIR, (), "l1"),
        Genome(("ours", "others"), (), "l1"),
    ]
    probes = {**SCREEN._probes, ("ours", "others"): SCREEN._probes[PAIR]}

    assert len({Screen(probes)(genome).signature for genome in genomes}) == len(genomes)


def test_a_factor_of_a_loss_is_made_up_for_by_its_weight():
    gradient = draw(0, 4, 5)

    assert signature("logits", [0.5 * gradient * 2.0]) == signature("logits", [gradient])
    assert signature("logits", [gradient * (1.0 + 1e-6)]) == signature("logits", [gradient])
    assert signature("logits", [2.0 * gradient]) != signature("logits", [gradient])
    assert signature("logits", [-gradient]) != signature("logits", [gradient])
    assert signature("logits", [gradient, gradient]) != signature("logits", [gradient])


def test_representations_are_compared_up_to_rotation_and_scale():
    x, y = draw(0, 200, 4).double(), draw(1, 200, 3).double()
    rotation = torch.linalg.qr(draw(2, 4, 4).double())[0]
    assert cka(x, 3.0 * x @ rotation + 1.0).item() == pytest.approx(1.0, abs=1e-12)
    assert cka(x, y).item() < 0.1
    centered = [values - values.mean(dim=0) for values in (x, y)]
    by_features = (centered[1].T @ centered[0]).square().sum() / (
        (centered[0].T @ centered[0]).norm() * (centered[1].T @ centered[1]).norm()
    )
    torch.testing.assert_close(cka(x, y), by_features)
    assert cka(x, torch.ones(200, 3).double()).item() == 0.0
    assert representation_gap(x, x) == pytest.approx(0.0, abs=1e-12)


def test_sharpness_sees_confidence_and_no_constant():
    """log(1 + e^-2) + 1 for two classes that are 2 apart, log 2 for equal ones."""
    far, near = torch.tensor([[7.0, 5.0]]), torch.tensor([[1.0, 1.0]])

    assert sharpness_gap(far, near) == pytest.approx(
        math.log(1 + math.exp(-2.0)) + 1.0 - math.log(2.0), abs=1e-6
    )
    assert sharpness_gap(far, far + 9.0) == pytest.approx(0.0, abs=1e-6)


def test_probes_are_of_the_networks():
    """The student's maps are half as large: the teacher's are averaged to that."""
    torch.manual_seed(0)
    student = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 2, stride=2), torch.nn.Flatten(), torch.nn.Linear(32, 3)
    )
    teacher = torch.nn.Sequential(
        torch.nn.Conv2d(1, 5, 1), torch.nn.Dropout(0.9), torch.nn.Flatten(), torch.nn.Linear(320, 3)
    )
    images = draw(0, 16, 1, 8, 8)
    found = collect_probes(student, teacher, [images, images], layers=[None, ("0", "0")], seed=3)

    with torch.no_grad():
        maps = teacher[0](images).unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean(dim=(3, 5))
        teacher.eval()
        logits = teacher(images)
    torch.testing.assert_close(found["0", "0"][1].teacher, maps)
    torch.testing.assert_close(found[None][0].teacher[:, :, 0, 0], logits)
    drawn = found["0", "0"][0].student
    assert drawn.shape == maps.shape
    assert drawn.mean().item() == pytest.approx(maps.mean().item(), abs=0.1)
    assert drawn.std().item() == pytest.approx(maps.std().item(), rel=0.1)
    assert not torch.equal(drawn, found["0", "0"][1].student)
    assert student.training


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: random_probe(draw(0, 4, 3), seed=0), "4 samples .* expected at least 8 samples that differ"),
        (lambda: random_probe(torch.ones(9, 3), seed=0), "of standard deviation 0"),
        (lambda: Screen({None: ()}), "a source has no probes"),
        (lambda: SCREEN(Genome(("a", "b"))), r"no probes of a \| b; those it has: logits, ours \| theirs"),
    ],
)
def test_probes_that_tell_nothing_are_refused(make, said):
    with pytest.raises(BadInput, match=said):
        make()
