"""Every loss against values and gradients of the released codes, in float64."""

import numpy as np
import pytest
import torch

from wsi_kd.kd.losses.attention_transfer import AttentionTransferLoss, attention_map
from wsi_kd.kd.losses.correlation import NeighborErrorLoss, neighbor_errors
from wsi_kd.kd.losses.dist import DistLoss
from wsi_kd.kd.losses.dkd import DkdLoss
from wsi_kd.kd.losses.factor_transfer import FACTOR_DISTANCES
from wsi_kd.kd.losses.hcl import hierarchical_context
from wsi_kd.kd.losses.hint import HintLoss
from wsi_kd.kd.losses.kl import BinaryKdLoss, KdLoss
from wsi_kd.kd.losses.nst import NstLoss
from wsi_kd.kd.losses.pairing import match_maps
from wsi_kd.kd.losses.pkt import PktLoss
from wsi_kd.kd.losses.rkd import RkdLoss
from wsi_kd.kd.losses.similarity_preserving import SimilarityPreservingLoss
from wsi_kd.kd.losses.unit import unit
from wsi_kd.kd.losses.vid import VidLoss
from wsi_kd.kd.outputs import Outputs

pytestmark = pytest.mark.shared_data

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
MDISTILLER = "kd_losses_mdistiller"
REPDISTILLER = "kd_losses_repdistiller"
VANILLA = "kd_losses_vanillakd"


@pytest.fixture(scope="module")
def read(shared_reference):
    def numbers(name):
        with np.load(shared_reference / f"{name}.npz", allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}

    return numbers


def assert_case(found, student, numbers, name):
    torch.testing.assert_close(found, numbers[f"{name}.value"], **CLOSE)
    (gradient,) = torch.autograd.grad(found, student)
    torch.testing.assert_close(gradient, numbers[f"{name}.grad"], **CLOSE)


def features(pair):
    return Outputs(torch.zeros(len(pair), 2, dtype=pair.dtype), {"pair": pair})


def on_features(loss, student, teacher):
    loss.pair = "pair"
    return loss(features(student), features(teacher), None)


LOGIT_CASES = [
    (MDISTILLER, "kd_T4", KdLoss(temperature=4.0)),
    (REPDISTILLER, "kl_T4", KdLoss(temperature=4.0)),
    (REPDISTILLER, "kl_T1", KdLoss(temperature=1.0)),
    (VANILLA, "kl_T1", KdLoss(temperature=1.0)),
    (VANILLA, "kl_T4", KdLoss(temperature=4.0)),
    (VANILLA, "bkd", BinaryKdLoss()),
    (MDISTILLER, "dkd_a1_b8_T4", DkdLoss(alpha=1.0, beta=8.0, temperature=4.0)),
    (MDISTILLER, "dkd_a1_b0_T4", DkdLoss(alpha=1.0, beta=0.0, temperature=4.0)),
    (MDISTILLER, "dkd_a0_b1_T4", DkdLoss(alpha=0.0, beta=1.0, temperature=4.0)),
    (MDISTILLER, "dkd_a1_b2_T1", DkdLoss(alpha=1.0, beta=2.0, temperature=1.0)),
    (VANILLA, "dkd_a1_b8_T4", DkdLoss(alpha=1.0, beta=8.0, temperature=4.0)),
    (VANILLA, "dkd_a1_b2_T1_soft", DkdLoss(alpha=1.0, beta=2.0, temperature=1.0)),
    (VANILLA, "dist_b1_g1_t1", DistLoss()),
    (VANILLA, "dist_b2_g2_t4", DistLoss(beta=2.0, gamma=2.0, temperature=4.0)),
    (VANILLA, "dist_inter_only", DistLoss(gamma=0.0)),
    (VANILLA, "dist_intra_only", DistLoss(beta=0.0)),
]


@pytest.mark.parametrize(("file", "name", "loss"), LOGIT_CASES, ids=lambda case: str(case)[:24])
def test_losses_of_logits(read, file, name, loss):
    numbers = read(file)
    student = numbers["z_s"].requires_grad_()
    labels = numbers["soft_target"] if name.endswith("_soft") else numbers["target"]

    found = loss(Outputs(student), Outputs(numbers["z_t"]), labels)

    assert_case(found, student, numbers, name)


FEATURE_CASES = [
    (REPDISTILLER, "at_p2", ("f_s", "f_t"), AttentionTransferLoss()),
    (REPDISTILLER, "at_p2_pool", ("f_s_5x5", "f_t_3x3"), AttentionTransferLoss()),
    (REPDISTILLER, "sp", ("f_s", "f_t"), SimilarityPreservingLoss()),
    (REPDISTILLER, "rkd", ("e_s", "e_t"), RkdLoss()),
    (REPDISTILLER, "rkd_dist_only", ("e_s", "e_t"), RkdLoss(distance_weight=1.0, angle_weight=0.0)),
    (REPDISTILLER, "rkd_angle_only", ("e_s", "e_t"), RkdLoss(distance_weight=0.0, angle_weight=1.0)),
    (VANILLA, "rkd", ("e_s", "e_t"), RkdLoss()),
    (REPDISTILLER, "pkt", ("e_s", "e_t"), PktLoss()),
    (REPDISTILLER, "nst", ("f_s", "f_t"), NstLoss()),
    (REPDISTILLER, "nst_pool", ("f_s_5x5", "f_t_3x3"), NstLoss()),
]


@pytest.mark.parametrize(("file", "name", "sides", "loss"), FEATURE_CASES, ids=lambda case: str(case)[:24])
def test_losses_of_features(read, file, name, sides, loss):
    numbers = read(file)
    student = numbers[sides[0]].requires_grad_()

    found = on_features(loss, student, numbers[sides[1]])

    assert_case(found, student, numbers, name)


def test_the_hint_is_the_mean_square_after_its_regressor(read):
    """The released loss has its regressor outside: with the identity for one, both are the same."""
    numbers = read(REPDISTILLER)
    student, loss = numbers["f_s"].requires_grad_(), HintLoss()
    loss.pair = "pair"
    loss.prepare(features(numbers["f_s"]), features(numbers["f_t"]))
    loss.load_state_dict(
        {
            "regressor.weight": torch.eye(6, dtype=torch.float64)[:, :, None, None],
            "regressor.bias": torch.zeros(6, dtype=torch.float64),
        }
    )

    assert_case(on_features(loss, student, numbers["f_t"]), student, numbers, "hint")


@pytest.mark.parametrize(("name", "sides"), [("vid", ("f_s", "f_t")), ("vid_pool", ("f_s_5x5", "f_t_3x3"))])
def test_vid_and_what_its_predictor_learns(read, name, sides):
    numbers = read(REPDISTILLER)
    student, loss = numbers[sides[0]].requires_grad_(), VidLoss()
    loss.pair = "pair"
    loss.prepare(features(numbers["f_s"]), features(numbers["f_t"]))
    first = loss.predictor.raw_variance[0].item()
    assert first == pytest.approx(numbers["vid.init_log_scale_default"].item(), rel=1e-7)
    theirs = {f"mean.{layer}.weight": f"regressor.{layer}.weight" for layer in (0, 2, 4)}
    theirs["raw_variance"] = "log_scale"
    # the numbers are of a predictor five channels wide; ours is as wide as the teacher
    weights = {ours: numbers[f"vid.w.{their}"] for ours, their in theirs.items()}
    loss.predictor.mean = torch.nn.Sequential(
        torch.nn.Conv2d(6, 5, 1, bias=False, dtype=torch.float64),
        torch.nn.ReLU(),
        torch.nn.Conv2d(5, 5, 1, bias=False, dtype=torch.float64),
        torch.nn.ReLU(),
        torch.nn.Conv2d(5, 6, 1, bias=False, dtype=torch.float64),
    )
    loss.predictor.load_state_dict(weights)

    found = on_features(loss, student, numbers[sides[1]])
    parameters = dict(loss.predictor.named_parameters())
    gradients = torch.autograd.grad(found, list(parameters.values()), retain_graph=True)

    assert_case(found, student, numbers, name)
    for ours, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(gradient, numbers[f"{name}.grad.w.{theirs[ours]}"], **CLOSE)


def test_products_of_errors_without_embeddings(read):
    numbers = read(REPDISTILLER)
    student = numbers["e_s"].requires_grad_()

    assert_case(neighbor_errors(student, numbers["e_t"]), student, numbers, "cc")


def test_products_of_errors_of_embeddings(read):
    numbers = read(VANILLA)
    student, loss = numbers["e_s"].requires_grad_(), NeighborErrorLoss(width=5)
    loss.pair = "pair"
    loss.prepare(features(numbers["e_s"]), features(numbers["e_t"]))
    loss.load_state_dict(
        {
            f"{ours}_embedding.{part}": numbers[f"correlation.w.embed_{theirs}.linear.{part}"]
            for ours, theirs in (("student", "s"), ("teacher", "t"))
            for part in ("weight", "bias")
        }
    )

    found = 0.02 * on_features(loss, student, numbers["e_t"])

    assert_case(found, student, numbers, "correlation")


@pytest.mark.parametrize(
    ("name", "sides"),
    [("hcl_5x5", ("f_s", "f_t")), ("hcl_3x3", ("f_s_c", "f_t_c")), ("hcl_1x1", ("f_s_1x1", "f_t_1x1"))],
)
def test_hierarchical_context(read, name, sides):
    numbers = read(MDISTILLER)
    student = numbers[sides[0]].requires_grad_()

    assert_case(hierarchical_context(student, numbers[sides[1]]), student, numbers, name)


@pytest.mark.parametrize(
    ("name", "sides", "distance"),
    [
        ("ft_p2_1", ("f_s", "f_t"), "l1"),
        ("ft_p2_2", ("f_s", "f_t"), "squared"),
        ("ft_p2_1_pool", ("f_s_5x5", "f_t_3x3"), "l1"),
    ],
)
def test_the_collapsed_factor_transfer(read, name, sides, distance):
    numbers = read(REPDISTILLER)
    student = numbers[sides[0]].requires_grad_()
    ours, theirs = (attention_map(maps) for maps in match_maps(student, numbers[sides[1]]))

    assert_case(FACTOR_DISTANCES[distance](ours, theirs), student, numbers, name)


@pytest.mark.parametrize(
    ("name", "distance", "sum_over"),
    [
        ("ft_p1_mean", "l1", 1),
        ("ft_p1_sum", "l1", 8 * 75),
        ("ft_p2_mean", "euclidean", 1),
        ("ft_p2_sum", "euclidean", 8),
    ],
)
def test_factor_transfer_of_torchdistill(read, name, distance, sum_over):
    numbers = read("kd_factor_transfer_torchdistill")
    student = numbers["translator_out"].requires_grad_()
    ours, theirs = (unit(factor.flatten(1), dim=1) for factor in (student, numbers["paraphraser_out"]))

    found = sum_over * FACTOR_DISTANCES[distance](ours, theirs)

    assert_case(found, student, numbers, name)
