"""What a recipe is told, as plain values. The defaults live in the settings, not here."""

from typing import Literal, NamedTuple, TypeAlias

from wsi_kd.kd.pseudo_labels import PseudoLabelMode
from wsi_kd.mil.projectors import LINEAR, Augmentation
from wsi_kd.mil.stain_jitter import StainJitter
from wsi_kd.mil.top_k_pooling import TOP_K

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]
StudentPooling: TypeAlias = Literal["max", "topk"]
Pooling: TypeAlias = Literal["max", "mean", "topk"]
"""How the logits of instances become the bag's, where there is no attention."""
MiningRule: TypeAlias = Literal["random", "sub_bags", "threshold"]
Schedule: TypeAlias = Literal["joint", "alternate", "released"]
GatedLayer: TypeAlias = Literal["projector", "student"]
"""The shared projector, or the student's hidden layer."""


class Architecture(NamedTuple):
    """The model's shape."""

    teacher: str
    hidden_dim: int
    attention_dim: int
    dropout: float
    student_hidden_dim: int
    """Width of the student's hidden layer; 0: linear."""
    student_prototypes: int = 1
    """Linear units a positive class that the student's logit is the log-sum-exp of."""
    projector: str = LINEAR
    """What makes the shared hidden vectors; see wsi_kd.mil.projectors."""
    top_k: int = TOP_K
    """Instances that the teacher top_k_pooling averages."""


class Gates(NamedTuple):
    """A layer whose neurons learn whether they are needed; see wsi_kd.training.gates."""

    layer: GatedLayer
    penalty: float
    """Weight of the squares of gates, directions and what reads the neurons."""
    rate: float
    """Learning rate of the gates, in learning rates of all else."""


class Optimization(NamedTuple):
    """How any recipe steps."""

    epochs: int
    patience: int
    """Epochs without a lower selection loss before training stops."""
    learning_rate: float
    """At the first epoch; falls to 0 along half a cosine over `epochs`."""
    weight_decay: float
    gradient_clip: float
    token_budget: int
    """Instances a step at most; a larger bag goes alone."""
    bags_per_step: int
    seed: int
    precision: Precision
    device: str
    feature_noise: float = 0.0
    """Standard deviation of what is added to each standardized feature that is learned from."""
    image_chunk: int = 256
    """Tiles whose activations an image projector keeps at a time."""
    image_augmentation: Augmentation = "dihedral"
    image_stains: StainJitter = StainJitter()
    """How an image projector is shown the tiles it learns from."""
    gates: Gates | None = None
    """None: no layer has gates."""


class Distillation(NamedTuple):
    """How WENO's student learns."""

    schedule: Schedule
    pseudo_label: PseudoLabelMode
    label_floor: float
    """Share of the bag's label in the soft labels of a positive bag."""
    teacher_average: float
    """Decay of the teacher's moving average that makes the labels; 0: the teacher itself does."""
    negative_weight: float
    student_weight: float
    """Weight of the student's loss beside the teacher's (joint schedule)."""
    warm_up_epochs: int
    """Epochs in which the teacher learns alone."""
    instance_batch: int
    """Instances a student step (alternate schedule)."""
    student_pooling: StudentPooling
    top_k: int
    bag_label_share: float = 0.0
    """Share of the loss on bag labels (wsi_kd.kd.bag_label_loss) in the student's; 0: soft labels alone."""
    witness_rate: float = 0.1
    """Share of a positive bag's instances taken to be positive (loss on bag labels)."""


class Mining(NamedTuple):
    """How hard positives are mined; see wsi_kd.kd.mining and wsi_kd.kd.sub_bags."""

    rule: MiningRule
    start_epoch: int
    hidden_fraction: float
    """Share of every bag that rule random hides, rounded up."""
    pieces: int
    """Into how many rule sub_bags cuts every bag; the next four are of rule threshold."""
    threshold: float
    drop_probability: float
    max_drop_fraction: float
    symmetric: bool
    guard: bool
    guard_drop: float
    """Fall of the validation bag AUC below its best that ends mining."""


class Masking(NamedTuple):
    """How recipe mhim hides the most telling instances; see wsi_kd.training.recipes.mhim."""

    mask_ratio: float
    """Share of every bag that is hidden, rounded up."""
    average: float
    """Decay of the moving average that chooses what is hidden."""
    consistency_weight: float
    """Weight of the cross entropy with the average's word on the whole bag."""
    warm_up_epochs: int
    """Epochs in which the model learns from whole bags."""


class Compression(NamedTuple):
    """What recipe distill learns of a large model; see wsi_kd.training.recipes.distill."""

    temperature: float
    """Softens the bag logits of both."""
    label_weight: float
    bag_weight: float
    attention_weight: float
    instance_weight: float
    hint_weight: float
    narrow_start: bool
    """Start from the large model's neurons instead of random ones."""
    student_pooling: StudentPooling
    top_k: int


class Prototyping(NamedTuple):
    """How recipe ins labels instances by prototypes; see wsi_kd.training.recipes.ins."""

    pooling: Pooling
    prototype_decay: float
    """What a prototype keeps of itself at a step."""
    label_decay: float
    """What a pseudo label keeps of itself at an epoch."""
    positive_fraction: float
    """Share of every positive bag, rounded up, that moves the positive prototype."""
    temperature: float
    """Of the contrastive softmax."""
    contrast_instances: int
    """Instances a step that are contrasted with each other; the cost is quadratic."""
    contrast_weight: float
    bag_weight: float
    warm_up_epochs: int
    """Epochs in which every instance has its bag's label."""
