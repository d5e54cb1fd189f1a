"""Mining within a step: what the teacher learns from, the rest being hidden or cut off.

By rule `threshold` the student is asked, on the projection that the teacher is about to see; by `random` and
`sub_bags` chance decides, in bags of all classes alike.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wsi_kd.bags.packing import PackedBags, moved
from wsi_kd.core.draws import drawn_rows
from wsi_kd.kd.mining import mine_hard_positives
from wsi_kd.kd.sub_bags import cut_bags
from wsi_kd.mil.pooling import segment_mean
from wsi_kd.training.loop import Run
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.masking import hide_highest
from wsi_kd.training.plan import Mining


class TeacherView(NamedTuple):
    """What the teacher takes for bags in a step: the bags, or their pieces with the bags' labels."""

    bags: list[int]
    """Index in the training part of the bag that each is or belongs to."""
    packed: PackedBags
    share: float
    """How much of all that the teacher takes for bags in the batch these are; 1 where one process trains."""


def cut(
    run: Run, packed: PackedBags, *, bags: list[int], mining: Mining | None
) -> tuple[PackedBags, TeacherView]:
    """Return the bags, their instances in a new order, and their pieces by rule `sub_bags`; else as they are.

    Both share the instances, so that one projection serves teacher and student.
    """
    if mining is None or mining.rule != "sub_bags":
        return packed, TeacherView(bags, packed, run.ranks.share.bags)
    whole = run.ranks.share.whole
    pieces = cut_bags(
        np.diff(run.train.offsets)[bags], pieces=mining.pieces, generator=run.state.generator, whole=whole
    )
    order, offsets, owners = (moved(torch.from_numpy(part), packed.offsets.device) for part in pieces)
    reordered = packed._replace(instances=packed.instances[order])
    view = PackedBags(reordered.instances, offsets, packed.labels[owners])
    share = 1.0
    if whole is not None:
        of_all = sum(min(size, mining.pieces) for size in whole.sizes)
        share = 0.0 if run.ranks.share.idle else len(pieces.bags) / of_all
    return reordered, TeacherView([bags[owner] for owner in pieces.bags.tolist()], view, share)


@torch.no_grad()
def mine(
    run: Run, hidden: Float[Tensor, "instances hidden"], packed: PackedBags, *, mining: Mining | None
) -> Bool[Tensor, "instances"] | None:
    """Choose the instances that the teacher may see, by rule `threshold` or `random`; None: all.

    By `threshold` the student is asked, without dropout.
    """
    if mining is None or mining.rule == "sub_bags":
        return None
    if mining.rule == "random":
        # drawn on the generator's device, so that CPU and GPU hide the same instances for a seed
        lots = drawn_rows(
            lambda rows: torch.rand(rows, generator=run.state.generator),
            len(hidden),
            whole=run.ranks.share.whole,
        )
        draw = moved(lots, hidden.device)
        return hide_highest(draw, packed.offsets, ratio=mining.hidden_fraction)
    return mine_hard_positives(
        run.student(hidden.detach()),
        packed.offsets,
        packed.labels,
        threshold=mining.threshold,
        drop_probability=mining.drop_probability,
        max_drop_fraction=mining.max_drop_fraction,
        symmetric=mining.symmetric,
        generator=run.state.generator,
        whole=run.ranks.share.whole,
    )


def visible_scores(
    scores: Float[Tensor, "instances *classes"], keep: Bool[Tensor, "instances"]
) -> Float[Tensor, "instances *classes"]:
    """Put a visible instance's scores in place of the hidden ones': their range is that of the visible.

    Picking the visible ones would tell the host how many they are, and it would wait for the GPU.
    """
    visible = scores.index_select(0, keep.to(torch.uint8).argmax().view(1))
    return torch.where(keep.view(-1, *[1] * (scores.ndim - 1)), scores, visible)


def note_hidden(
    ledger: LossLedger, keep: Bool[Tensor, "instances"] | None, packed: PackedBags, *, bags: list[int]
) -> None:
    """Note the share of each bag that was hidden, where mining was on."""
    if keep is not None:
        ledger.add("hidden fraction", segment_mean((~keep).float(), packed.offsets), bags)
