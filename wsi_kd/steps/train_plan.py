"""Section `train` of the settings -> the plain values that recipes take: where the settings stop."""

from wsi_kd.mil.stain_jitter import StainJitter
from wsi_kd.settings.models import TrainSettings
from wsi_kd.training.plan import (
    Architecture,
    Compression,
    Distillation,
    Gates,
    Masking,
    Mining,
    Optimization,
    Prototyping,
)


def plan_architecture(settings: TrainSettings) -> Architecture:
    """Return the model's shape."""
    return Architecture(
        teacher=settings.teacher,
        hidden_dim=settings.hidden_dim,
        attention_dim=settings.attention_dim,
        dropout=settings.dropout,
        student_hidden_dim=settings.weno.student_hidden_dim,
        student_prototypes=settings.weno.student_prototypes,
        projector=settings.projector,
        top_k=settings.top_k,
    )


def plan_optimization(settings: TrainSettings, *, seed: int) -> Optimization:
    """Return how a recipe steps."""
    return Optimization(
        epochs=settings.epochs,
        patience=settings.patience,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        gradient_clip=settings.gradient_clip,
        token_budget=settings.token_budget,
        bags_per_step=settings.bags_per_step,
        seed=seed,
        precision=settings.precision,
        device=settings.device,
        feature_noise=settings.feature_noise,
        image_chunk=settings.image_chunk,
        image_augmentation=settings.image_augmentation,
        image_stains=StainJitter(settings.stain_augmentation, settings.stain_strength, settings.stain_bias),
        gates=_plan_gates(settings),
    )


def _plan_gates(settings: TrainSettings) -> Gates | None:
    """Return which layer learns how many neurons it needs; None where none does."""
    spectral = settings.spectral
    if spectral.layer == "none":
        return None
    return Gates(spectral.layer, spectral.penalty, spectral.gate_rate)


def plan_distillation(settings: TrainSettings) -> Distillation:
    """Return how the student learns."""
    weno = settings.weno
    return Distillation(
        schedule=weno.schedule,
        pseudo_label=weno.pseudo_label,
        label_floor=weno.label_floor,
        teacher_average=weno.teacher_average,
        negative_weight=weno.negative_weight,
        student_weight=weno.student_weight,
        warm_up_epochs=weno.warm_up_epochs,
        instance_batch=weno.instance_batch,
        student_pooling=settings.student_pooling,
        top_k=settings.top_k,
        bag_label_share=weno.bag_label_share,
        witness_rate=weno.witness_rate,
    )


def plan_mining(settings: TrainSettings) -> Mining | None:
    """Return how hard positives are mined; None where that is off."""
    mining = settings.weno.mining
    return Mining(**mining.model_dump(exclude={"enabled"})) if mining.enabled else None


def plan_masking(settings: TrainSettings) -> Masking:
    """Return how recipe mhim masks."""
    return Masking(**settings.mhim.model_dump())


def plan_prototyping(settings: TrainSettings) -> Prototyping:
    """Return how recipe ins labels instances."""
    return Prototyping(**settings.ins.model_dump())


def plan_compression(settings: TrainSettings) -> Compression:
    """Return what recipe distill learns of the large model."""
    distill = settings.distill
    return Compression(
        temperature=distill.temperature,
        label_weight=distill.label_weight,
        bag_weight=distill.bag_weight,
        attention_weight=distill.attention_weight,
        instance_weight=distill.instance_weight,
        hint_weight=distill.hint_weight,
        narrow_start=distill.start == "copy_average",
        student_pooling=settings.student_pooling,
        top_k=settings.top_k,
    )


def small_architecture(settings: TrainSettings) -> Architecture:
    """Return the shape of recipe distill's model; its student is linear."""
    distill = settings.distill
    return plan_architecture(settings)._replace(
        teacher=distill.teacher,
        projector=distill.projector or settings.projector,
        hidden_dim=distill.hidden_dim,
        attention_dim=distill.attention_dim,
        student_hidden_dim=0,
        student_prototypes=1,
    )
