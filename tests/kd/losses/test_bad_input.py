"""Bad input ends in one line that names the loss, the pair of layers and what was found."""

import pytest
import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.attention_transfer import AttentionTransferLoss
from wsi_kd.kd.losses.contrastive import InBatchContrastiveLoss
from wsi_kd.kd.losses.correlation import CorrelationCongruenceLoss, NeighborErrorLoss
from wsi_kd.kd.losses.dist import DistLoss
from wsi_kd.kd.losses.dkd import DkdLoss
from wsi_kd.kd.losses.factor_transfer import FactorTransferLoss
from wsi_kd.kd.losses.hint import HintLoss
from wsi_kd.kd.losses.kl import BinaryKdLoss, KdLoss
from wsi_kd.kd.losses.paraphraser import Paraphraser, pretrain_paraphraser
from wsi_kd.kd.losses.rkd import RkdLoss
from wsi_kd.kd.losses.similarity_preserving import SimilarityPreservingLoss
from wsi_kd.kd.losses.task import BinaryCrossEntropyLoss, CrossEntropyLoss
from wsi_kd.kd.losses.vid import VidLoss
from wsi_kd.kd.outputs import Outputs


def features(*shape, dtype=torch.float32, name="stage3"):
    return Outputs(torch.zeros(shape[0], 2), {name: torch.ones(shape, dtype=dtype)})


def logits(*shape):
    return Outputs(torch.zeros(shape))


def pair(loss):
    loss.pair = "stage3"
    return loss


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: KdLoss(temperature=0.0), "KdLoss: temperature is 0.0; it must be above 0"),
        (lambda: KdLoss(temperature=float("nan")), "KdLoss: temperature is nan"),
        (lambda: DkdLoss(temperature=-1.0), "DkdLoss: temperature is -1.0"),
        (lambda: DistLoss(temperature=0.0), "DistLoss: temperature is 0.0"),
        (lambda: InBatchContrastiveLoss(temperature=0.0), "InBatchContrastiveLoss: temperature is 0.0"),
        (lambda: InBatchContrastiveLoss(width=0), "InBatchContrastiveLoss: width is 0"),
        (lambda: NeighborErrorLoss(width=-2), "NeighborErrorLoss: width is -2"),
        (lambda: CorrelationCongruenceLoss(gamma=0.0), "CorrelationCongruenceLoss: gamma is 0.0"),
        (lambda: CorrelationCongruenceLoss(order=0), "CorrelationCongruenceLoss: order is 0"),
        (lambda: DkdLoss(alpha=0.0, beta=0.0), "alpha is 0.0 and beta 0.0"),
        (lambda: DistLoss(beta=-1.0), "beta is -1.0 and gamma 1.0"),
        (
            lambda: RkdLoss(distance_weight=0.0, angle_weight=0.0),
            "distance_weight is 0.0 and angle_weight 0.0",
        ),
        (lambda: VidLoss(first_variance=1e-6), "VidLoss: first_variance is 1e-06; it must be above 1e-05"),
        (lambda: FactorTransferLoss(rate=0.0), "FactorTransferLoss: rate is 0.0"),
        (
            lambda: CrossEntropyLoss(smoothing=1.0),
            "CrossEntropyLoss: smoothing is 1.0; it must be at least 0",
        ),
        (lambda: BinaryCrossEntropyLoss(smoothing=-0.1), "BinaryCrossEntropyLoss: smoothing is -0.1"),
    ],
)
def test_settings(build, said):
    with pytest.raises(BadInput) as error:
        build()
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (logits(4, 3), logits(4, 5), "KdLoss: the student has 3 classes and the teacher 5"),
        (logits(4, 3), logits(2, 3), "(4, 3) and the teacher's (2, 3) are not of the same samples"),
        (logits(4, 3, 7), logits(4, 3, 7), "the student's logits are torch.float32 of shape (4, 3, 7)"),
        (logits(4, 3), Outputs(torch.zeros(4, 3, dtype=torch.int64)), "the teacher's logits are torch.int64"),
        (logits(4, 1), logits(4, 1), "the student has 1 class and at least 2 are needed; for one logit"),
    ],
)
def test_logits_that_cannot_be_compared(student, teacher, said):
    with pytest.raises(BadInput) as error:
        KdLoss()(student, teacher, None)
    assert said in str(error.value)


def test_a_softmax_over_one_class_is_refused():
    with pytest.raises(BadInput, match="use 'bkd' with activation sigmoid"):
        BinaryKdLoss()(logits(4, 1), logits(4, 1), None)
    assert BinaryKdLoss(activation="sigmoid")(logits(4, 1), logits(4, 1), None).item() > 0.0


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), BinaryCrossEntropyLoss(), DkdLoss()], ids=repr)
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "it needs labels and the batch has none"),
        (torch.tensor([0, 1, 3]), "labels run from 0 to 3 and the student has 3 classes; expected 0 to 2"),
        (torch.tensor([0, -1, 2]), "labels run from -1 to 2"),
        (torch.tensor([0, 1]), "labels are torch.int64 of shape (2,); expected integers of shape (3,)"),
        (torch.tensor([0.0, 1.0, 2.0]), "labels are torch.float32 of shape (3,)"),
        (torch.zeros(3, 4), "or soft labels of shape (3, 3)"),
        (torch.tensor([True, False, True]), "labels are torch.bool"),
    ],
)
def test_labels(loss, labels, said):
    with pytest.raises(BadInput) as error:
        loss(logits(3, 3), logits(3, 3), labels)
    assert said in str(error.value)
    assert type(loss).__name__ in str(error.value)


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (features(2, 3, 4, 4, name="stage2"), features(2, 3, 4, 4), "those it has: stage2"),
        (features(2, 3, 4, 4), features(3, 3, 4, 4), "are not of the same samples"),
        (features(2, 9, 4), features(2, 3, 4, 4), "cannot be paired; tap layers of one kind"),
        (features(2, 3, 4, 4, 4), features(2, 3, 4, 4, 4), "cannot be paired"),
        (features(2, 9, 4), features(2, 16, 4), "and the tokens differ"),
        (features(2), features(2), "torch.float32 of shape (2,); expected floating numbers"),
        (features(2, 3, dtype=torch.int64), features(2, 3), "torch.int64 of shape (2, 3)"),
    ],
)
def test_features_that_cannot_be_paired(student, teacher, said):
    with pytest.raises(BadInput) as error:
        pair(AttentionTransferLoss())(student, teacher, None)
    assert said in str(error.value)
    assert "AttentionTransferLoss of the pair 'stage3'" in str(error.value)


def test_a_teacher_without_the_features_is_named():
    with pytest.raises(BadInput, match=r"the teacher has no features of that name; those it has: none"):
        pair(SimilarityPreservingLoss())(features(2, 3), logits(2, 2), None)


@pytest.mark.parametrize("loss", [HintLoss, VidLoss, InBatchContrastiveLoss, FactorTransferLoss])
def test_layers_that_were_not_built(loss):
    maps = features(2, 3, 4, 4)
    with pytest.raises(
        BadInput, match=rf"{loss.__name__} of the pair 'stage3': it learns layers .* call prepare"
    ):
        pair(loss())(maps, maps, None)


def test_other_channels_than_the_layer_was_built_for():
    loss = pair(HintLoss())
    loss.prepare(features(2, 3, 4, 4), features(2, 5, 4, 4))

    with pytest.raises(
        BadInput, match=r"of shape \(2, 7, 4, 4\) came, and the layer was built for 3 channels"
    ):
        loss(features(2, 7, 4, 4), features(2, 5, 4, 4), None)


def test_factor_transfer_needs_maps():
    with pytest.raises(BadInput, match=r"the teacher's layer gives \(2, 9, 4\); expected feature maps"):
        pair(FactorTransferLoss()).prepare(features(2, 3, 4, 4), features(2, 9, 4))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: BinaryKdLoss(activation="sigmoidal"), "(did you mean 'sigmoid'?)"),
        (lambda: FactorTransferLoss(distance="euclid"), "(did you mean 'euclidean'?)"),
        (
            lambda: pretrain_paraphraser(
                Paraphraser(4, factor_channels=2), [], epochs=1, learning_rate=1e-3, distance="l2"
            ),
            "unknown distance of the reconstruction 'l2'; known: l1, squared",
        ),
    ],
)
def test_unknown_names(build, said):
    with pytest.raises(BadInput) as error:
        build()
    assert said in str(error.value)
