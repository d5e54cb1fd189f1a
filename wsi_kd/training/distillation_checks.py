"""What a teacher must offer before a student can learn from it, asked before any step is taken."""

from typing import Final

import torch

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import pack
from wsi_kd.core.errors import BadInput
from wsi_kd.mil.image_networks import CHANNELS
from wsi_kd.mil.mean_pooling import MeanPooling
from wsi_kd.mil.projectors import ImageProjector, LinearProjector
from wsi_kd.mil.registry import FIXED_ATTENTION, SCORES_ALONE, WITHOUT_ATTENTION
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.plan import Compression, Distillation

RELEASED_CLASSES: Final = 2


def check_distillation(teacher: str, distillation: Distillation, *, classes: int) -> None:
    """Check that the teacher of that name can make the soft labels asked for.

    Raises:
        BadInput: labels made of attention with a teacher that has none; the schedule `released` with a
            teacher that cannot score an instance out of its bag, or with other than two classes.
    """
    if distillation.pseudo_label != "evidence" and teacher in WITHOUT_ATTENTION:
        raise BadInput(
            f"pseudo label {distillation.pseudo_label} is made of attention, teacher {teacher} has none; "
            "set train.weno.pseudo_label to evidence, or take another train.teacher"
        )
    if distillation.schedule != "released":
        return
    if teacher not in SCORES_ALONE:
        raise BadInput(
            f"schedule released scores instances out of their bags, teacher {teacher} cannot; "
            f"set train.teacher to one of {', '.join(SCORES_ALONE)}, or train.weno.schedule to alternate"
        )
    if classes != RELEASED_CLASSES:
        raise BadInput(
            f"schedule released is the authors' code, which knows two classes, found {classes}; "
            "set train.weno.schedule to joint or alternate, or merge classes"
        )


def check_compression(
    large: TeacherStudent, bags: BagSet, compression: Compression, *, classes: int, teacher: str
) -> None:
    """Check that the large model reads these bags, knows these classes, and has what is to be learned of it.

    `teacher` is the name of the small model's bag classifier.

    Raises:
        BadInput: another width of features, other classes, or attention where one side has none to learn.
    """
    _check_width(large, bags)
    large.eval()
    with torch.no_grad():
        packed = pack(bags, [0], device=next(large.parameters()).device, dtype=torch.float32)
        known = large(packed.instances, packed.offsets).bag_logits.shape[1]
    if known != classes:
        raise BadInput(
            f"the large model knows {known} classes and the bags have {classes}; "
            "train it anew on the classes of this run"
        )
    if compression.attention_weight == 0.0:
        return
    if isinstance(large.teacher, MeanPooling):
        raise BadInput(
            "the large model's teacher mean_pooling has no attention to learn from; "
            "set train.distill.attention_weight to 0"
        )
    if teacher in FIXED_ATTENTION:
        raise BadInput(
            f"the attention of teacher {teacher} is a fixed rule that no loss can train; "
            "set train.distill.attention_weight to 0, or take another train.distill.teacher"
        )


def _check_width(large: TeacherStudent, bags: BagSet) -> None:
    projector, width = large.projector, bags.features.shape[1]
    expected = projector.in_features if isinstance(projector, LinearProjector) else width
    if isinstance(projector, ImageProjector):
        expected = CHANNELS * projector.tile_px**2
    if expected != width:
        raise BadInput(
            f"the large model reads rows of {expected} values and these bags have {width}; "
            "train it anew on these features"
        )
