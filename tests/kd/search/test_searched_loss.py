"""The loss of a genome: classical distillation as a special case, features of unlike layers, JSON."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import LOSSES
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.losses.similarity_preserving import SimilarityPreservingLoss
from wsi_kd.kd.outputs import FEATURES, LOGITS, Outputs
from wsi_kd.kd.search.genome import Genome
from wsi_kd.kd.search.searched import SearchedFeatureLoss, SearchedLoss, build


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def outputs(seed, channels, size=4, samples=6):
    return Outputs(draw(seed, samples, 5), {"pair": draw(seed + 1, samples, channels, size, size)})


def prepared(genome, student, teacher):
    torch.manual_seed(0)
    loss = build(genome)
    loss.pair = "pair"
    loss.prepare(student, teacher)
    return loss


def test_classical_distillation_is_a_genome():
    student, teacher = outputs(0, 3), outputs(2, 3)

    found = build(Genome(distance="kl", temperature=4.0, weight=9.0))(student, teacher, None)

    torch.testing.assert_close(found, KdLoss(temperature=4.0)(student, teacher, None))


def test_similarity_preserving_is_nearly_a_genome():
    """Its rows of products are normalized once more, so that they agree for samples of one length only."""
    student, teacher = outputs(0, 3), outputs(2, 4)
    genome = Genome(("a", "b"), ("batch_similarity",), "l2")
    found = prepared(genome, student, teacher)(student, teacher, None)
    rows = [F.normalize(side.features["pair"].flatten(1)) for side in (student, teacher)]
    gram = [row @ row.T for row in rows]

    torch.testing.assert_close(found, (gram[0] - gram[1]).square().mean())
    theirs = SimilarityPreservingLoss()
    theirs.pair = "pair"
    assert theirs(student, teacher, None).item() != pytest.approx(found.item(), rel=1e-3)


def test_the_genome_says_what_is_needed():
    on_logits, on_features = build(Genome()), build(Genome(layers=("a", "b")))

    assert (type(on_logits), on_logits.needs) == (SearchedLoss, frozenset({LOGITS}))
    assert (type(on_features), on_features.needs) == (SearchedFeatureLoss, frozenset({FEATURES}))


@pytest.mark.parametrize(
    ("transforms", "learns"),
    [
        ((), True),
        (("norm_c",), True),
        (("channel_similarity",), True),
        (("spatial_attention", "norm_hw"), False),
    ],
)
def test_unlike_channels_are_carried_over_where_they_must(transforms, learns):
    student, teacher = outputs(0, 3, size=8), outputs(2, 6)
    loss = prepared(Genome(("a", "b"), transforms, "l2"), student, teacher)
    maps = student.features["pair"].requires_grad_()

    found = loss(student, teacher, None)
    found.backward()

    assert (loss.regressor is not None) == learns
    assert len(list(loss.parameters())) == 2 * learns
    assert maps.grad.abs().max().item() > 0.0
    assert all(parameter.grad.abs().max().item() > 0.0 for parameter in loss.parameters())


def test_two_transforms_are_applied_in_turn():
    student, teacher = outputs(0, 3), outputs(2, 3)
    found = prepared(Genome(("a", "b"), ("channel_attention", "pow2"), "l1"), student, teacher)
    means = [side.features["pair"].mean(dim=(2, 3)) for side in (student, teacher)]

    expected = (means[0].square() - means[1].square()).abs().mean()

    torch.testing.assert_close(found(student, teacher, None), expected)


def test_copies_are_the_same_loss():
    student, teacher = outputs(0, 3), outputs(2, 6)
    for genome in (Genome(), Genome(("a", "b"), ("norm_c",), "l2")):
        loss = prepared(genome, student, teacher)
        for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert type(copied) is type(loss)
            assert copied(student, teacher, None).item() == loss(student, teacher, None).item()


@pytest.mark.parametrize("layers", [None, ["a", "b"]])
def test_a_file_s_genome_is_built(layers):
    genome = Genome(layers and tuple(layers), ("norm_n",), "l1", 10.0)

    loss = LOSSES["searched"](genome=genome.to_json())

    assert loss.genome == genome
    assert (FEATURES in loss.needs) == (layers is not None)


@pytest.mark.parametrize(
    ("genome", "said"),
    [
        ({"distance": "l1"}, "genome of SearchedLoss: schema is None; expected 1"),
        ({**Genome().to_json(), "weight": -1.0}, "genome of SearchedLoss: weight: found -1.0"),
        ({**Genome().to_json(), "distance": "pearsn"}, "did you mean 'pearson'?"),
        (Genome(weight=-1.0), "genome of SearchedLoss: weight: found -1.0"),
    ],
)
def test_other_genomes_are_refused(genome, said):
    with pytest.raises(BadInput, match=said.replace("?", r"\?")):
        SearchedLoss(genome)


def test_batches_of_other_channels_are_refused():
    student, teacher = outputs(0, 3), outputs(2, 3)
    loss = prepared(Genome(("a", "b"), (), "l2"), student, teacher)

    with pytest.raises(
        BadInput, match=r"of the pair 'pair': the transforms leave \(6, 3, 4, 4\) and \(6, 4, 4, 4\)"
    ):
        loss(student, outputs(4, 4), None)
