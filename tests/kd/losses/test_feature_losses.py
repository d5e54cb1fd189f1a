"""Losses of features: values worked by hand, what they must not see, where their gradients could break."""

import math

import pytest
import torch

from wsi_kd.kd.losses.attention_transfer import AttentionTransferLoss
from wsi_kd.kd.losses.contrastive import InBatchContrastiveLoss, in_batch_contrast
from wsi_kd.kd.losses.correlation import CorrelationCongruenceLoss, gaussian_series
from wsi_kd.kd.losses.hcl import HierarchicalContextLoss
from wsi_kd.kd.losses.hint import HintLoss
from wsi_kd.kd.losses.nst import NstLoss
from wsi_kd.kd.losses.pkt import PktLoss
from wsi_kd.kd.losses.rkd import RkdLoss, angle_cosines, relative_distances
from wsi_kd.kd.losses.similarity_preserving import SimilarityPreservingLoss
from wsi_kd.kd.losses.vid import VidLoss
from wsi_kd.kd.outputs import Outputs


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width):
    return torch.linalg.qr(draw(99, width, width)).Q


def outputs(features):
    return Outputs(features.new_zeros(len(features), 2), {"pair": features})


def call(loss, student, teacher):
    loss.pair = "pair"
    return loss(outputs(student), outputs(teacher), None)


def prepared(loss, student, teacher):
    loss.pair = "pair"
    loss.prepare(outputs(student), outputs(teacher))
    return loss


RELATIONAL = [RkdLoss(), SimilarityPreservingLoss(), PktLoss(), CorrelationCongruenceLoss()]
PLAIN = [*RELATIONAL, NstLoss(), AttentionTransferLoss()]


@pytest.mark.parametrize("loss", PLAIN, ids=lambda loss: type(loss).__name__)
def test_equal_features_cost_nothing(loss):
    features = draw(0, 5, 4, 3, 3)

    assert call(loss, features, features).item() == pytest.approx(0.0, abs=1e-9)
    assert call(loss, draw(1, 5, 4, 3, 3), features).item() > 1e-4


@pytest.mark.parametrize("loss", RELATIONAL, ids=lambda loss: type(loss).__name__)
def test_relations_do_not_see_rotation_or_scale(loss):
    features, student = draw(0, 6, 8), draw(1, 6, 8)
    before = call(loss, student, features)

    torch.testing.assert_close(
        call(loss, 3.0 * student @ rotation(8), features), before, rtol=1e-5, atol=1e-9
    )
    torch.testing.assert_close(
        call(loss, student, 0.2 * features @ rotation(8)), before, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("loss", RELATIONAL, ids=lambda loss: type(loss).__name__)
def test_relations_compare_layers_of_any_width(loss):
    teacher = draw(0, 6, 8)
    wider = torch.cat([teacher, torch.zeros(6, 5, dtype=torch.float64)], dim=1)

    assert call(loss, wider, teacher).item() == pytest.approx(0.0, abs=1e-12)


def test_distances_are_worked_by_hand():
    """3, 4 and 5 apart: the mean of the six entries above 0 is 4."""
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])

    found = relative_distances(corners)

    expected = torch.tensor([[0.0, 0.75, 1.0], [0.75, 0.0, 1.25], [1.0, 1.25, 0.0]])
    torch.testing.assert_close(found, expected)


def test_angles_are_worked_by_hand():
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])

    found = angle_cosines(corners)

    assert found[0, 1, 2].item() == pytest.approx(0.0, abs=1e-6)  # the right angle
    assert found[1, 0, 2].item() == pytest.approx(3 / 5)
    assert found[2, 0, 1].item() == pytest.approx(4 / 5)
    assert found[1, 1].tolist() == [0.0, 0.0, 0.0]


def test_moving_all_samples_keeps_rkd():
    student, teacher = draw(0, 6, 4), draw(1, 6, 4)

    torch.testing.assert_close(call(RkdLoss(), student + 7.0, teacher), call(RkdLoss(), student, teacher))


@pytest.mark.parametrize("loss", PLAIN, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("features", ["zero", "equal", "two equal"])
def test_dead_features_keep_finite_values_and_gradients(loss, features):
    """A dead layer, a collapsed one, and two equal samples: lengths and distances of 0."""
    student = draw(0, 5, 4, 2, 2)
    if features == "zero":
        student = torch.zeros_like(student)
    elif features == "equal":
        student[:] = student[0]
    else:
        student[1] = student[0]
    student.requires_grad_()

    found = call(loss, student, draw(1, 5, 4, 2, 2))
    (gradient,) = torch.autograd.grad(found, student)

    assert found.isfinite()
    assert gradient.abs().max().item() < 1e3


def test_the_attention_of_a_scaled_map_is_the_same():
    student, teacher = draw(0, 3, 4, 5, 5), draw(1, 3, 6, 5, 5)
    scales = torch.tensor([0.1, 1.0, 50.0]).double()[:, None, None, None]
    before = call(AttentionTransferLoss(), student, teacher)

    torch.testing.assert_close(call(AttentionTransferLoss(), scales * student, teacher), before)
    torch.testing.assert_close(call(AttentionTransferLoss(), -student.flip(1), teacher), before)


def test_the_set_of_channels_has_no_order():
    student, teacher = draw(0, 3, 4, 5, 5), draw(1, 3, 6, 5, 5)
    before = call(NstLoss(), student, teacher)

    torch.testing.assert_close(call(NstLoss(), student[:, [2, 0, 3, 1]], teacher.flip(1)), before)
    assert before.item() > 0.0


def test_attention_is_worked_by_hand():
    """Squares of 1 and 2 at length 1 are (1, 4) / sqrt(17), of 1 and 1 they are (1, 1) / sqrt(2)."""
    student, teacher = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0, 1.0]]]])

    gaps = [1.0 / math.sqrt(17.0) - 1.0 / math.sqrt(2.0), 4.0 / math.sqrt(17.0) - 1.0 / math.sqrt(2.0)]
    expected = (gaps[0] ** 2 + gaps[1] ** 2) / 2.0
    assert call(AttentionTransferLoss(), student, teacher).item() == pytest.approx(expected)


def test_vid_of_a_student_that_tells_nothing():
    """Its mean is 0 and its variance the first one, 5: half of 2^2 / 5 + log 5."""
    student, teacher = torch.zeros(3, 4, 2, 2), torch.full((3, 6, 2, 2), 2.0)
    loss = prepared(VidLoss(), student, teacher)

    assert call(loss, student, teacher).item() == pytest.approx((4.0 / 5.0 + math.log(5.0)) / 2.0)
    wide = prepared(VidLoss(first_variance=20.0), student, teacher)
    assert call(wide, student, teacher).item() == pytest.approx((4.0 / 20.0 + math.log(20.0)) / 2.0)


def test_contrast_is_taken_in_both_directions():
    """Students that are all alike: each teacher is found by chance, and each student finds the first."""
    student, teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)

    rows = math.log(1.0 + math.e) - 0.5
    found = in_batch_contrast(student, teacher, temperature=1.0).item()
    assert found == pytest.approx((rows + math.log(2.0)) / 2.0)


def test_nst_of_patterns_that_never_overlap():
    """One channel each, at different positions: 1 + 1 - 2 * 0."""
    student, teacher = torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]])

    assert call(NstLoss(), student, teacher).item() == pytest.approx(2.0)


def test_similarity_is_worked_by_hand():
    """Two samples at a right angle to the student, one and the same to the teacher."""
    student, teacher = torch.eye(2), torch.ones(2, 2)

    half = 1.0 / math.sqrt(2.0)  # rows (1, 0) against (half, half)
    expected = 2.0 * ((1.0 - half) ** 2 + half**2) / 4.0
    assert call(SimilarityPreservingLoss(), student, teacher).item() == pytest.approx(expected)


def test_pkt_is_worked_by_hand():
    """Right angles to the student: (1, 1/2) / 1.5; opposite to the teacher: (1, 0)."""
    teacher = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])

    assert call(PktLoss(), torch.eye(2), teacher).item() == pytest.approx(2.0 * math.log(1.5) / 4.0, rel=1e-4)


def test_the_series_nears_the_gaussian_kernel():
    vectors = draw(0, 5, 3)
    directions = vectors / vectors.norm(dim=1, keepdim=True)
    kernel = (-0.4 * torch.cdist(directions, directions).square()).exp()

    gaps = [
        (gaussian_series(vectors, gamma=0.4, order=order) - kernel).abs().max().item() for order in (1, 2, 12)
    ]
    assert gaps[0] > 2.0 * gaps[1] > 0.0
    assert gaps[2] < 1e-10


def test_contrast_of_a_batch_that_tells_nothing_is_the_log_of_its_size():
    assert in_batch_contrast(torch.ones(8, 3), torch.ones(8, 3), temperature=0.07).item() == pytest.approx(
        math.log(8.0)
    )


def test_contrast_falls_when_each_sample_finds_its_own():
    teacher = draw(0, 8, 6)
    found = in_batch_contrast(teacher, teacher, temperature=0.07)
    swapped = in_batch_contrast(teacher.flip(0), teacher, temperature=0.07)

    assert found.item() < 0.1
    assert swapped.item() > 5.0


@pytest.mark.parametrize(
    "loss", [HintLoss(), HierarchicalContextLoss(), VidLoss()], ids=lambda loss: type(loss).__name__
)
def test_what_is_learned_brings_other_channels_and_sizes_together(loss):
    """A teacher that is a linear map of the student, at another size, is matched by what the loss learns."""
    student = draw(0, 64, 3, 4, 4).float()
    teacher = torch.einsum("oc,bchw->bohw", draw(1, 5, 3).float(), student).repeat_interleave(2, dim=2)
    torch.manual_seed(0)
    prepared(loss, student, teacher)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    first = call(loss, student, teacher).item()
    for _ in range(80):
        optimizer.zero_grad()
        value = call(loss, student, teacher)
        value.backward()
        optimizer.step()

    assert value.item() < 0.5 * first


def test_the_embeddings_of_the_contrast_learn_on_both_sides():
    student, teacher = draw(0, 16, 6).float(), draw(1, 16, 9).float()
    loss = prepared(InBatchContrastiveLoss(width=8), student, teacher)

    call(loss, student, teacher).backward()

    assert all(parameter.grad.abs().max() > 0 for parameter in loss.parameters())


def test_vectors_and_tokens_are_maps():
    torch.manual_seed(0)
    vectors = prepared(HintLoss(), draw(0, 4, 3), draw(1, 4, 5))
    weight, bias = vectors.regressor.weight[:, :, 0, 0], vectors.regressor.bias
    expected = (draw(0, 4, 3) @ weight.T + bias - draw(1, 4, 5)).square().mean()
    torch.testing.assert_close(call(vectors, draw(0, 4, 3), draw(1, 4, 5)), expected)

    tokens = prepared(HintLoss(), draw(0, 4, 7, 3), draw(1, 4, 7, 5))
    weight, bias = tokens.regressor.weight[:, :, 0, 0], tokens.regressor.bias
    expected = (draw(0, 4, 7, 3) @ weight.T + bias - draw(1, 4, 7, 5)).square().mean()
    torch.testing.assert_close(call(tokens, draw(0, 4, 7, 3), draw(1, 4, 7, 5)), expected)


def test_a_larger_map_is_averaged_to_the_smaller_one():
    small = draw(0, 2, 3, 2, 2)
    large = small.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)

    assert call(AttentionTransferLoss(), large, small).item() == pytest.approx(0.0, abs=1e-20)
    assert call(AttentionTransferLoss(), small, large).item() == pytest.approx(0.0, abs=1e-20)
