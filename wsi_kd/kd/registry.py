"""Distillation losses by name. A new loss is a file in `losses` and a line here."""

from typing import Final

from wsi_kd.kd.losses.attention_transfer import AttentionTransferLoss
from wsi_kd.kd.losses.contrastive import InBatchContrastiveLoss
from wsi_kd.kd.losses.correlation import CorrelationCongruenceLoss, NeighborErrorLoss
from wsi_kd.kd.losses.dist import DistLoss
from wsi_kd.kd.losses.dkd import DkdLoss
from wsi_kd.kd.losses.factor_transfer import CollapsedFactorTransferLoss, FactorTransferLoss
from wsi_kd.kd.losses.hcl import HierarchicalContextLoss
from wsi_kd.kd.losses.hint import HintLoss
from wsi_kd.kd.losses.kl import BinaryKdLoss, KdLoss
from wsi_kd.kd.losses.nst import NstLoss
from wsi_kd.kd.losses.pkt import PktLoss
from wsi_kd.kd.losses.rkd import RkdLoss
from wsi_kd.kd.losses.similarity_preserving import SimilarityPreservingLoss
from wsi_kd.kd.losses.task import BinaryCrossEntropyLoss, CrossEntropyLoss
from wsi_kd.kd.losses.vid import VidLoss
from wsi_kd.kd.outputs import DistillationLoss

LOSSES: Final[dict[str, type[DistillationLoss]]] = {
    "at": AttentionTransferLoss,
    "bce": BinaryCrossEntropyLoss,
    "bkd": BinaryKdLoss,
    "cc": CorrelationCongruenceLoss,
    "ce": CrossEntropyLoss,
    "contrastive_in_batch": InBatchContrastiveLoss,
    "correlation": NeighborErrorLoss,
    "dist": DistLoss,
    "dkd": DkdLoss,
    "ft": FactorTransferLoss,
    "ft_collapsed": CollapsedFactorTransferLoss,
    "hcl": HierarchicalContextLoss,
    "hint": HintLoss,
    "kd": KdLoss,
    "nst": NstLoss,
    "pkt": PktLoss,
    "rkd": RkdLoss,
    "sp": SimilarityPreservingLoss,
    "vid": VidLoss,
}
