"""Mining within a step: the student is asked on the projection that the teacher is about to see."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from wsi_kd.bags.packing import PackedBags
from wsi_kd.kd.mining import mine_hard_positives
from wsi_kd.mil.pooling import segment_mean
from wsi_kd.training.loop import Run
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.plan import Mining


@torch.no_grad()
def mine(
    run: Run, hidden: Float[Tensor, "instances hidden"], packed: PackedBags, *, mining: Mining | None
) -> Bool[Tensor, "instances"] | None:
    """Ask the student, without dropout, which instances the teacher may see; None: all."""
    if mining is None:
        return None
    return mine_hard_positives(
        run.student(hidden.detach()),
        packed.offsets,
        packed.labels,
        threshold=mining.threshold,
        drop_probability=mining.drop_probability,
        max_drop_fraction=mining.max_drop_fraction,
        symmetric=mining.symmetric,
        generator=run.state.generator,
    )


def note_hidden(
    ledger: LossLedger, keep: Bool[Tensor, "instances"] | None, packed: PackedBags, *, bags: list[int]
) -> None:
    """Note the share of each bag that was hidden, where mining was on."""
    if keep is not None:
        ledger.add("hidden fraction", segment_mean((~keep).float(), packed.offsets), bags)
