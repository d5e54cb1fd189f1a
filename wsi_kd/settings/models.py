"""Settings of the steps that make models: split, train."""

from pathlib import Path
from typing import Final, Literal, Self, TypeAlias, get_args

from pydantic import Field, model_validator

from wsi_kd.settings.base import Section
from wsi_kd.settings.recipes import (
    NOT_NARROWABLE,
    WITHOUT_ATTENTION,
    AutoSettings,
    DistillSettings,
    InsSettings,
    InstanceSettings,
    MhimSettings,
    ProjectorName,
    SpectralSettings,
    TeacherName,
)
from wsi_kd.settings.shared_training import not_shared


class SplitSettings(Section):
    """Section `split`: which case is trained on, selected on, tested on."""

    folds: int = Field(default=5, ge=3)
    """Patient-grouped, stratified folds; fold i tests on part i, selects on part i+1."""
    seed: int = 0
    """Seed of the draw."""
    given: Path | None = None
    """Splits made elsewhere: a folder of CLAM's splits_<i>.csv (or _bool.csv), or a table with fold_<i>
    columns; STAMP's and tables by case through `wsi-kd splits import`; see docs/interchange.md."""


class MiningSettings(Section):
    """Section `train.weno.mining`: hard positive mining, the teacher learning without what is too easy."""

    enabled: bool = False
    """Off by default: docs/weno.md says what each rule gains and costs; the paper's can ruin the teacher."""
    rule: Literal["random", "sub_bags", "threshold"] = "sub_bags"
    """random: the teacher sees a random share of every bag; sub_bags: bags are cut at random into pieces that
    carry their bag's label; threshold: the student hides what it finds too easy (the paper)."""
    start_epoch: int = Field(default=0, ge=0)
    """First epoch (from 0) that hides or cuts."""
    hidden_fraction: float = Field(default=0.9, gt=0, lt=1)
    """Rule random: share of every bag, positive or negative, that is hidden, anew at every step."""
    pieces: int = Field(default=50, ge=2)
    """Rule sub_bags: pieces a bag, anew at every step; a smaller bag becomes pieces of one instance."""
    threshold: float = Field(default=0.9, gt=0, lt=1)
    """Rule threshold: instances whose student probability is above this are too easy."""
    drop_probability: float = Field(default=0.5, gt=0, le=1)
    """Rule threshold: chance that a too easy instance is hidden; 1 is the paper's rule."""
    max_drop_fraction: float = Field(default=0.5, ge=0, le=1)
    """Rule threshold: largest share of a bag that may be hidden."""
    symmetric: bool = True
    """Rule threshold: hide too easy instances in negative bags too, so that their absence tells less."""
    guard: bool = True
    """Score whole validation bags every epoch; when they fall, roll back and stop mining."""
    guard_drop: float = Field(default=0.1, gt=0, lt=1)
    """Fall of the validation bag AUC that trips the guard."""


class WenoSettings(Section):
    """Section `train.weno`: the student and what it learns from."""

    schedule: Literal["joint", "alternate", "released"] = "joint"
    """joint: one step on both losses; alternate: a teacher epoch, then a student epoch (the paper);
    released: alternate with the details of the authors' code, for comparison; see docs/weno.md."""
    pseudo_label: Literal["minmax_global", "minmax_bag", "expmax", "attention_evidence", "evidence"] = (
        "evidence"
    )
    """How attention becomes a soft label; minmax_global is the paper's."""
    label_floor: float = Field(default=0.0, ge=0, le=1)
    """Share of the bag's own label in the soft labels of a positive bag; 1: tiles take their bag's label."""
    teacher_average: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the teacher's moving average that makes the labels, e.g. 0.99; 0: none."""
    negative_weight: float = Field(default=0.1, gt=0, lt=1)
    """Weight of the negative half of the student's loss, the positive half has 1 minus it."""
    student_weight: float = Field(default=1.0, ge=0)
    """Weight of the student's loss beside the teacher's (joint schedule)."""
    warm_up_epochs: int = Field(default=0, ge=0)
    """Epochs in which the teacher learns alone."""
    instance_batch: int = Field(default=512, ge=1)
    """Instances a student step (alternate schedule)."""
    bag_label_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the slide's own label in the student's loss, through the witness rate; 0: the teacher's soft
    labels alone (the paper); 1: no teacher; see docs/weno.md."""
    witness_rate: float = Field(default=0.1, gt=0, lt=1)
    """Share of a positive slide's tiles taken to be positive, where bag_label_share is above 0."""
    student_hidden_dim: int = Field(default=0, ge=0)
    """Width of the student's hidden layer; 0: a linear student on the shared projector."""
    student_prototypes: int = Field(default=1, ge=1)
    """Kinds of positive tiles that the student can hold: linear units a class, joined by log-sum-exp."""
    mining: MiningSettings = MiningSettings()

    @model_validator(mode="after")
    def _released_form(self) -> Self:
        if self.schedule == "released" and self.pseudo_label != "minmax_global":
            raise ValueError("schedule released makes minmax_global labels only; set pseudo_label to that")
        if self.schedule == "released" and (self.label_floor or self.teacher_average or self.bag_label_share):
            raise ValueError(
                "schedule released knows no label_floor, teacher_average or bag_label_share; set them to 0"
            )
        return self


SCORES_ALONE: Final = ("abmil", "gated_abmil", "additive_mil", "clam_sb", "clam_mb", "dsmil")
"""Teachers that score a tile without the rest of its slide."""
RELEASED_CLASSES: Final = 2
"""Classes that the schedule `released` knows."""
INS_CLASSES: Final = 2
"""Classes that recipe ins tells apart."""
DISTILLING: Final = frozenset({"weno", "auto"})
"""Recipes that make soft labels."""
RecipeName: TypeAlias = Literal["abmil", "weno", "instance", "ins", "mhim", "auto", "distill"]
RECIPE_NAMES: Final[tuple[RecipeName, ...]] = get_args(RecipeName)


class TrainSettings(Section):
    """Section `train`: the recipes and everything they share."""

    recipes: tuple[RecipeName, ...] = (
        "abmil",
        "weno",
    )
    """abmil: the teacher alone, the baseline; weno: teacher and student; instance: an instance classifier and
    no teacher; ins: the same with prototypes; mhim: a teacher that hides what its average finds most telling;
    auto: abmil or weno, as the validation part says; distill: a small model taught by one of these, trained;
    docs/recipes.md compares them."""
    teacher: TeacherName = "gated_abmil"
    """Bag classifier of abmil, weno, mhim and auto; docs/teachers.md compares them."""
    seeds: tuple[int, ...] = (0,)
    """Every recipe is trained once a seed and fold."""
    epochs: int = Field(default=60, ge=1)
    patience: int = Field(default=20, ge=1)
    """Epochs without a better validation loss before training stops."""
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    gradient_clip: float = Field(default=5.0, gt=0)
    """Largest gradient norm."""
    token_budget: int = Field(default=16_384, ge=1)
    """Instances a step: whole bags are packed together up to this many (one larger bag goes alone)."""
    bags_per_step: int = Field(default=4, ge=1)
    """Bags a step at most."""
    projector: ProjectorName = "linear"
    """What makes the vectors that teacher and student share: linear (with ReLU) and affine (without) read an
    encoder's features; the others learn from the pixels of `embed.encoder: pixels`; see docs/images.md."""
    feature_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of the noise added to each standardized feature that is learned from, e.g. 0.5."""
    image_chunk: int = Field(default=256, ge=1)
    """Tiles whose activations an image projector keeps at a time: less memory in smaller pieces."""
    image_augmentation: Literal["none", "dihedral"] = "dihedral"
    """How an image projector is shown what it learns from: dihedral turns and mirrors each tile by chance."""
    stain_augmentation: Literal["none", "hed", "stain_matrix"] = "none"
    """Beside it, another staining of each tile by chance: hed scales and shifts hematoxylin, eosin and a
    third stain (Tellez et al. 2018); stain_matrix moves the colors of both; see docs/color.md."""
    stain_strength: float = Field(default=0.05, ge=0, lt=1)
    """hed: a stain becomes at most this share stronger or weaker; stain_matrix: deviation of the noise on the
    stains' colors (of length 1)."""
    stain_bias: float = Field(default=0.0, ge=0)
    """hed: optical density added to or taken from each stain at most; above 0 it tints the glass too."""
    hidden_dim: int = Field(default=128, ge=1)
    """Width of the shared projector."""
    attention_dim: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.25, ge=0, lt=1)
    student_pooling: Literal["max", "topk"] = "topk"
    """How the student's instance logits become one for the bag."""
    top_k: int = Field(default=5, ge=1)
    """Instances averaged by topk (bags with fewer average all)."""
    threshold_rule: Literal["youden", "sensitivity"] = "youden"
    """How the operating point is chosen on the validation part; the checkpoint carries it."""
    min_sensitivity: float = Field(default=0.95, gt=0, le=1)
    """Sensitivity that the rule `sensitivity` keeps on the validation part."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 for matrix products on a GPU, float32 on a CPU."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    processes: int = Field(default=1, ge=1)
    """Processes that train one model together, each on a card of its own or a share of the cores: a step's
    slides are split over them, so give bags_per_step and token_budget room; see docs/performance.md."""
    features_in: Literal["auto", "memory", "disk"] = "auto"
    """Where the features that are trained on are: memory, or disk, from which each slide's are read whenever
    they are needed; auto: memory where they fill less than half of what is available. Models are the same."""
    weno: WenoSettings = WenoSettings()
    instance: InstanceSettings = InstanceSettings()
    ins: InsSettings = InsSettings()
    mhim: MhimSettings = MhimSettings()
    auto: AutoSettings = AutoSettings()
    distill: DistillSettings = DistillSettings()
    spectral: SpectralSettings = SpectralSettings()

    @model_validator(mode="after")
    def _labels_can_be_made(self) -> Self:
        if not DISTILLING & set(self.recipes):
            return self
        if self.weno.pseudo_label != "evidence" and self.teacher in WITHOUT_ATTENTION:
            raise ValueError(
                f"weno.pseudo_label {self.weno.pseudo_label} is made of attention, teacher {self.teacher} "
                "has none; set weno.pseudo_label to evidence, or take another teacher"
            )
        if self.weno.schedule == "released" and self.teacher not in SCORES_ALONE:
            raise ValueError(
                f"weno.schedule released scores instances out of their bags, teacher {self.teacher} cannot; "
                f"set teacher to one of {', '.join(SCORES_ALONE)}, or weno.schedule to alternate"
            )
        return self

    @model_validator(mode="after")
    def _attention_can_teach(self) -> Self:
        large = self._large_teacher()
        if "distill" in self.recipes and self.distill.attention_weight and large in WITHOUT_ATTENTION:
            raise ValueError(
                f"distill.attention_weight {self.distill.attention_weight:g} learns from attention, and "
                f"{large}, the teacher of recipe {self.distill.teacher_recipe}, has none; "
                "set distill.attention_weight to 0"
            )
        return self

    @model_validator(mode="after")
    def _processes_can_share(self) -> Self:
        if self.processes > 1 and (reason := not_shared(self.recipes, self.projectors)):
            raise ValueError(f"processes {self.processes}: {reason}")
        return self

    @property
    def projectors(self) -> tuple[str, ...]:
        """Projectors of all recipes."""
        small = () if "distill" not in self.recipes else (self.distill.projector or self.projector,)
        return (self.projector, *small)

    @model_validator(mode="after")
    def _layer_can_have_gates(self) -> Self:
        if self.spectral.layer == "student" and not self.weno.student_hidden_dim:
            raise ValueError(
                "spectral.layer student is the student's hidden layer, and it has none; set "
                "weno.student_hidden_dim to the width to start from"
            )
        if self.spectral.layer != "projector":
            return self
        teachers = {self.distill.teacher if recipe == "distill" else self.teacher for recipe in self.recipes}
        for teacher in sorted(teachers & set(NOT_NARROWABLE)):
            raise ValueError(
                f"spectral.layer projector: teacher {teacher} has layers of the projector's width, so the "
                "projector cannot be narrowed alone; take another teacher, or spectral.layer student"
            )
        if "distill" in self.recipes and self.distill.start != "random":
            raise ValueError(
                f"spectral.layer projector and distill.start {self.distill.start} both decide which neurons "
                "the small model has; set one of them to its default"
            )
        return self

    def _large_teacher(self) -> str:
        """Return the bag classifier of the model that recipe distill learns from."""
        pooled = {"instance": self.instance.pooling, "ins": self.ins.pooling}
        pooling = pooled.get(self.distill.teacher_recipe)
        return (
            self.teacher if pooling is None else {"topk": "top_k_pooling"}.get(pooling, f"{pooling}_pooling")
        )
