"""Factor transfer: its bounds and invariances, the two stages, and paraphrasers that died."""

import math

import pytest
import torch

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.losses.factor_transfer import (
    FACTOR_DISTANCES,
    CollapsedFactorTransferLoss,
    FactorTransferLoss,
)
from wsi_kd.kd.losses.paraphraser import (
    Paraphraser,
    pretrain_paraphraser,
    unexplained_variance,
)
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.outputs import Outputs


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def outputs(maps):
    return Outputs(maps.new_zeros(len(maps), 2), {"ft": maps})


def seen(*maps):
    return [(outputs(batch), None) for batch in maps]


def one_pattern(seed, samples):
    """Maps of four channels that are multiples of one."""
    hidden = torch.rand((samples, 1, 5, 5), generator=torch.Generator().manual_seed(seed))
    return hidden * torch.tensor([2.0, 4.0, 1.0, 2.0])[:, None, None]


@pytest.fixture(params=[FactorTransferLoss, CollapsedFactorTransferLoss])
def loss(request):
    torch.manual_seed(0)
    loss = request.param(rate=0.5, epochs=1, max_unexplained=math.inf)
    loss.pair = "ft"
    loss.prepare(outputs(draw(0, 4, 3, 5, 5)), outputs(one_pattern(1, 4)))
    return loss


def test_the_distances_of_unit_vectors():
    """As ||u_s - u_t||^2 = 2 (1 - cos); means over D = 12 elements, at most 2 / sqrt(D) in l1."""
    student, teacher = unit(draw(0, 7, 12), dim=1), unit(draw(1, 7, 12), dim=1)
    cosines = (student * teacher).sum(dim=1)

    squared = FACTOR_DISTANCES["squared"](student, teacher)
    euclidean = FACTOR_DISTANCES["euclidean"](student, teacher)
    torch.testing.assert_close(squared, (2.0 * (1.0 - cosines) / 12.0).mean())
    torch.testing.assert_close(euclidean, (2.0 * (1.0 - cosines)).sqrt().mean())
    assert 0.0 < FACTOR_DISTANCES["l1"](student, teacher).item() < 2.0 / math.sqrt(12.0)
    opposite = torch.full((1, 12), 1.0 / math.sqrt(12.0))
    assert FACTOR_DISTANCES["l1"](opposite, -opposite).item() == pytest.approx(2.0 / math.sqrt(12.0))


@pytest.mark.parametrize("distance", ["l1", "squared", "euclidean"])
@pytest.mark.parametrize("kind", [FactorTransferLoss, CollapsedFactorTransferLoss])
def test_factors(kind, distance):
    """Equal factors cost nothing, each sample's scale is not seen, and a factor of 0 stays finite."""
    loss, factor = kind(distance=distance), draw(0, 4, 2, 3, 3)
    scales = torch.tensor([0.1, 1.0, 5.0, 100.0])[:, None, None, None]
    zero = torch.zeros(4, 2, 3, 3, requires_grad=True)

    def compare(student, teacher):
        return FACTOR_DISTANCES[distance](loss.vectors(student), loss.vectors(teacher))

    assert compare(factor, factor).item() == 0.0
    torch.testing.assert_close(
        compare(scales * factor, draw(1, 4, 2, 3, 3)), compare(factor, draw(1, 4, 2, 3, 3))
    )
    found = compare(zero, factor)
    assert found.isfinite()
    assert torch.autograd.grad(found, zero)[0].abs().max().item() < 10.0


def test_the_collapsed_loss_sees_neither_signs_nor_order_of_channels():
    authors, collapsed = FactorTransferLoss(), CollapsedFactorTransferLoss()
    factor, other = draw(0, 4, 2, 3, 3), -draw(0, 4, 2, 3, 3).flip(1)

    assert (collapsed.vectors(factor) - collapsed.vectors(other)).abs().max().item() < 1e-7
    assert (authors.vectors(factor) - authors.vectors(other)).abs().max().item() > 0.1


def test_networks_have_the_rate_s_channels():
    for rate, expected in ((0.5, 3), (0.6, 3), (0.75, 4), (0.01, 1), (5 / 6, 5)):
        loss = FactorTransferLoss(rate=rate)
        loss.pair = "ft"
        loss.prepare(outputs(draw(0, 2, 5, 4, 4)), outputs(draw(1, 2, 6, 4, 4)))
        assert loss.paraphraser.encoder(draw(1, 2, 6, 4, 4)).shape == (2, expected, 4, 4)
        assert loss.translator(draw(0, 2, 5, 4, 4)).shape == (2, expected, 4, 4)
        assert loss.paraphraser(draw(1, 2, 6, 4, 4)).shape == (2, 6, 4, 4)


def test_an_untrained_paraphraser_is_refused(loss):
    with pytest.raises(
        BadInput, match=r"of the pair 'ft': its paraphraser is not trained; after prepare, call Distiller"
    ):
        loss(outputs(draw(0, 4, 3, 5, 5)), outputs(one_pattern(1, 4)), None)


def test_the_second_stage_teaches_student_and_translator_alone(loss):
    loss.pretrain(seen(one_pattern(1, 4)))
    before = [parameter.clone() for parameter in loss.paraphraser.parameters()]
    loss.train()
    student = draw(0, 4, 3, 5, 5).requires_grad_()

    loss(outputs(student), outputs(one_pattern(9, 4)), None).backward()

    assert not loss.paraphraser.training
    assert [parameter.grad for parameter in loss.paraphraser.parameters()] == [None] * len(before)
    assert student.grad.abs().max().item() > 0.0
    assert all(parameter.grad.abs().max() > 0.0 for parameter in loss.translator.parameters())


def test_a_trained_paraphraser_comes_back_with_the_state(loss):
    loss.pretrain(seen(one_pattern(1, 4)))
    student, teacher = outputs(draw(0, 4, 3, 5, 5)), outputs(one_pattern(9, 4))
    again = type(loss)(rate=0.5)
    again.pair = "ft"
    again.prepare(student, teacher)

    again.load_state_dict(loss.state_dict())

    assert again(student, teacher, None).item() == loss(student, teacher, None).item()


def test_a_paraphraser_is_adopted(loss):
    student, teacher = outputs(draw(0, 4, 3, 5, 5)), outputs(one_pattern(9, 4))
    other = type(loss)(rate=0.5, distance="squared")
    other.pair = "ft"
    with pytest.raises(BadInput, match="layers that are not built"):
        other.adopt(loss)
    other.prepare(student, teacher)
    with pytest.raises(BadInput, match="its paraphraser is not trained"):
        other.adopt(loss)
    loss.pretrain(seen(one_pattern(1, 4)))

    other.adopt(loss)

    ours, theirs = (each.paraphraser.encoder(one_pattern(9, 4)) for each in (other, loss))
    assert torch.equal(ours, theirs)
    assert other.pretrain([]) == {}
    assert other(student, teacher, None).isfinite()
    wider = type(loss)(rate=0.75)
    wider.pair = "ft"
    wider.prepare(student, teacher)
    with pytest.raises(BadInput, match="is of other channels"):
        wider.adopt(loss)


def test_the_larger_factor_is_averaged():
    """The teacher's maps are twice as large; they reach the paraphraser as they are."""
    loss = FactorTransferLoss(rate=0.5, epochs=1, max_unexplained=math.inf)
    teacher = one_pattern(1, 16).repeat_interleave(2, dim=2)
    loss.pair = "ft"
    loss.prepare(outputs(draw(0, 16, 3, 5, 5)), outputs(teacher))
    loss.pretrain(seen(teacher))

    found = loss(outputs(draw(0, 16, 3, 5, 5)), outputs(teacher), None)

    with torch.no_grad():
        pooled = loss.paraphraser.encoder(teacher).unflatten(2, (5, 2)).mean(dim=3)
        ours = loss.translator(draw(0, 16, 3, 5, 5))
    expected = (unit(ours.flatten(1), dim=1) - unit(pooled.flatten(1), dim=1)).abs().mean()
    torch.testing.assert_close(found, expected)


def test_unexplained_variance_of_known_reconstructions():
    """A constant explains nothing; half the distance from each channel's mean leaves a quarter."""
    batches = [one_pattern(seed, 8) + 3.0 for seed in range(3)]
    mean = torch.cat(batches).mean(dim=(0, 2, 3), keepdim=True)

    class Fixed(Paraphraser):
        share = 0.0

        def forward(self, maps):
            return mean + self.share * (maps - mean)

    fixed = Fixed(4, factor_channels=2)
    for share, expected in ((0.0, 1.0), (0.5, 0.25), (1.0, 0.0)):
        fixed.share = share
        assert unexplained_variance(fixed, batches) == pytest.approx(expected, abs=1e-6)


def test_the_paraphraser_learns_what_the_features_hold():
    torch.manual_seed(0)
    paraphraser, batches = Paraphraser(4, factor_channels=2), [one_pattern(seed, 32) for seed in range(4)]

    # So many that processors whose sums differ by a rounding end alike: after 60 some leave 0.01, some 0.45.
    done = pretrain_paraphraser(paraphraser, batches, epochs=150, learning_rate=0.01)

    assert len(done.losses) == 150
    assert done.losses[-1] < 0.1 * done.losses[0]
    assert done.unexplained < 0.35
    assert unexplained_variance(paraphraser, [one_pattern(9, 32)]) < 0.35


def test_a_dead_paraphraser_is_refused():
    torch.manual_seed(0)
    paraphraser = Paraphraser(4, factor_channels=2)

    with pytest.raises(RunFailed, match="of the variance of the teacher's features unexplained"):
        pretrain_paraphraser(paraphraser, [one_pattern(0, 32)], epochs=1, learning_rate=1e-6)


def test_the_absolute_difference_is_the_authors_distance():
    torch.manual_seed(0)
    paraphraser, maps = Paraphraser(4, factor_channels=2), one_pattern(0, 32)
    with torch.no_grad():
        expected = (paraphraser(maps) - maps).abs().mean().item()

    done = pretrain_paraphraser(
        paraphraser, [maps], epochs=1, learning_rate=1e-6, distance="l1", max_unexplained=10.0
    )

    assert done.losses == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize(
    ("batches", "epochs", "said"),
    [
        ([torch.ones(4, 4, 5, 5)], 1, "the teacher's features are constant"),
        ([], 1, "there are no features"),
        (iter([one_pattern(0, 4)]), 2, "not an iterator that ends after one pass"),
        ([one_pattern(0, 4)], 0, "epochs is 0; it must be at least 1"),
    ],
)
def test_features_that_cannot_train_it_are_refused(batches, epochs, said):
    with pytest.raises(BadInput, match=said):
        pretrain_paraphraser(Paraphraser(4, factor_channels=2), batches, epochs=epochs, learning_rate=1e-3)
