"""Distillation losses and methods by name. A new loss is a file in `losses` and a line here."""

from typing import Final, NamedTuple

from wsi_kd.kd.losses.ae_kd import AeKdLoss
from wsi_kd.kd.losses.attention_transfer import AttentionTransferLoss
from wsi_kd.kd.losses.contrastive import InBatchContrastiveLoss
from wsi_kd.kd.losses.correlation import CorrelationCongruenceLoss, NeighborErrorLoss
from wsi_kd.kd.losses.crd import CrdLoss
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
from wsi_kd.kd.losses.slam import SlamLoss
from wsi_kd.kd.losses.task import BinaryCrossEntropyLoss, CrossEntropyLoss
from wsi_kd.kd.losses.vid import VidLoss
from wsi_kd.kd.outputs import FEATURES, LABELS, LOGITS, TEACHERS, UNLABELED, DistillationLoss
from wsi_kd.kd.search.searched import SearchedLoss

LOSSES: Final[dict[str, type[DistillationLoss]]] = {
    "ae_kd": AeKdLoss,
    "at": AttentionTransferLoss,
    "bce": BinaryCrossEntropyLoss,
    "bkd": BinaryKdLoss,
    "cc": CorrelationCongruenceLoss,
    "ce": CrossEntropyLoss,
    "contrastive_in_batch": InBatchContrastiveLoss,
    "correlation": NeighborErrorLoss,
    "crd": CrdLoss,
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
    "searched": SearchedLoss,
    "slam": SlamLoss,
    "sp": SimilarityPreservingLoss,
    "vid": VidLoss,
}


class Method(NamedTuple):
    """One paper's way to distill, with a config, a claim check and a line in docs/kd.md of the same name."""

    title: str
    paper: str
    """Authors, venue, arXiv."""
    needs: frozenset[str]
    """What it learns from; of `outputs.NEEDS`."""
    what: str
    """What it does, in a sentence."""


METHODS: Final[dict[str, Method]] = {
    "vanilla": Method(
        title="VanillaKD",
        paper="Hao, Guo, Han, Hu, Xu, Wang, NeurIPS 2023, arXiv 2305.15781",
        needs=frozenset({LOGITS, LABELS}),
        what="Cross entropy and the teacher's softened probabilities on the same strongly augmented batch: "
        "with enough data it needs no designed loss",
    ),
    "variance_reduction": Method(
        title="Distillation as partial variance reduction",
        paper="Safaryan, Peste, Alistarh, NeurIPS 2023, arXiv 2305.17581",
        needs=frozenset({LABELS}),
        what="The teacher's gradient of the same batch, times a weight, is taken off the student's: "
        "less noise against some bias",
    ),
    "slam": Method(
        title="SLaM: student-label mixing",
        paper="Kontonis, Iliopoulos, Trinh, Baykal, Menghani, Vee, NeurIPS 2023, arXiv 2302.03806",
        needs=frozenset({LOGITS, UNLABELED}),
        what="On unlabeled data the student's answer is mixed by how far the teacher can be trusted there, "
        "which a labeled validation part tells",
    ),
    "dynamic_loss": Method(
        title="L2T-DLN: learning to teach with a dynamic loss network",
        paper="Hai, Pan, Liu, Liu, Yunita, NeurIPS 2023, arXiv 2310.19313",
        needs=frozenset({LABELS}),
        what="A small network is the student's loss, and an LSTM changes it by the gradient of the "
        "validation loss through the student's update",
    ),
    "search": Method(
        title="KD-Zero: evolving the distiller",
        paper="Li, Dong, Li, Wei, Yang, NeurIPS 2023",
        needs=frozenset({LOGITS, FEATURES, LABELS}),
        what="Transformations, a distance and a weight are evolved for one pair of teacher and student; "
        "losses that teach nothing are rejected early",
    ),
    "ae_kd": Method(
        title="AE-KD: adaptive ensemble",
        paper="Du, You, Li, Wu, Wang, Qian, Zhang, NeurIPS 2020",
        needs=frozenset({LOGITS, TEACHERS}),
        what="Several teachers are weighted in every batch so that the step is good for all of them, not for "
        "the majority only",
    ),
    "factor_transfer": Method(
        title="Factor transfer",
        paper="Kim, Park, Kwak, NeurIPS 2018, arXiv 1802.04977",
        needs=frozenset({FEATURES}),
        what="The student's translated features become the factors of an autoencoder of the teacher's",
    ),
}
"""In the order of the documentation; the same names as configs/kd and the claim checks."""

TOOLS: Final[dict[str, Method]] = {
    "spectral": Method(
        title="How a student becomes a teacher: spectral students",
        paper="Giambagli, Buffoni, Chicchi, Fanelli, NeurIPS 2023",
        needs=frozenset(),
        what="Gates on neurons under L2 show how many of them a student needs; the rest is cut off",
    ),
    "wide_networks": Method(
        title="Distillation in wide networks",
        paper="Ji, Zhu, NeurIPS 2020, arXiv 2010.10090",
        needs=frozenset({LOGITS, LABELS}),
        what="Kernels tell which soft ratio and temperature to take before anything is trained",
    ),
    "copy_average": Method(
        title="Copy or average",
        paper="Simsek, Bendjeddou, Gerstner, Brea, NeurIPS 2023, arXiv 2311.01644",
        needs=frozenset(),
        what="A narrow network starts from a trained wide one: its main neurons copied, the rest averaged",
    ),
    "cautious": Method(
        title="Cautious pseudo labels",
        paper="Wang, Li, Liu, Cheng, Rong, Wang, Tsung, NeurIPS 2023, arXiv 2310.01634",
        needs=frozenset({LABELS}),
        what="A few more samples are labeled at a time, those that several views of a model agree on",
    ),
    "energy_compression": Method(
        title="Energy models for generators (experimental)",
        paper="Kang, Yoo, Kang, Ki, Lee, Han, NeurIPS 2022, arXiv 2303.16050",
        needs=frozenset({FEATURES}),
        what="A bound on what a small generator's output tells of the large one's, beside a base loss",
    ),
}
"""Beside the losses: called from Python on any network; docs/kd_theory.md. Their claim checks as above."""
