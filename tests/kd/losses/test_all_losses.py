"""What every registered loss holds: one scalar, its gradient right and the student's alone, any samples."""

import math

import pytest
import torch

from wsi_kd.kd.losses.factor_transfer import FactorTransferLoss
from wsi_kd.kd.outputs import FEATURES, LABELS, LOGITS, NEEDS, Outputs
from wsi_kd.kd.registry import LOSSES

MINE = [
    "at",
    "bce",
    "bkd",
    "cc",
    "ce",
    "contrastive_in_batch",
    "correlation",
    "dist",
    "dkd",
    "ft",
    "ft_collapsed",
    "hcl",
    "hint",
    "kd",
    "nst",
    "pkt",
    "rkd",
    "searched",
    "sp",
    "vid",
]
LEARNED = {
    "contrastive_in_batch": 4,
    "correlation": 4,
    "ft": 6,
    "ft_collapsed": 6,
    "hcl": 2,
    "hint": 2,
    "vid": 4,
}
"""Parameters that take part in training, of those losses that have any."""
BARELY_TRAINED = {"epochs": 1, "max_unexplained": math.inf}
CLASSES = 3


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sides(samples):
    """Teacher maps are wider and larger than the student's."""
    student = Outputs(draw(0, samples, CLASSES), {"pair": draw(1, samples, 4, 3, 3)})
    teacher = Outputs(draw(2, samples, CLASSES), {"pair": draw(3, samples, 6, 6, 6)})
    return student, teacher, torch.arange(samples) % CLASSES


def build(name, student, teacher):
    """Build a loss of default settings; a paraphraser is trained for one step only."""
    torch.manual_seed(0)
    loss = LOSSES[name](**(BARELY_TRAINED if issubclass(LOSSES[name], FactorTransferLoss) else {}))
    loss.pair = "pair" if FEATURES in loss.needs else ""
    loss.prepare(student, teacher)
    if isinstance(loss, FactorTransferLoss):
        loss.pretrain([(teacher, None)])
    return loss


def with_inputs(logits, features):
    return Outputs(logits, {"pair": features})


@pytest.mark.parametrize("name", MINE)
def test_the_gradient_is_right_and_the_student_s_alone(name):
    student, teacher, labels = sides(4)
    loss = build(name, student, teacher)
    ours = (student.logits.requires_grad_(), student.features["pair"].requires_grad_())
    theirs = (teacher.logits.requires_grad_(), teacher.features["pair"].requires_grad_())

    found = loss(student, teacher, labels)
    gradients = torch.autograd.grad(found, [*ours, *theirs], allow_unused=True, retain_graph=True)

    read = [LOGITS in loss.needs, FEATURES in loss.needs]
    assert [gradient is not None for gradient in gradients] == [*read, False, False]
    assert found.shape == ()
    assert torch.autograd.gradcheck(lambda *of: loss(with_inputs(*of), teacher, labels), ours)


@pytest.mark.parametrize("name", MINE)
def test_what_a_loss_says_it_needs_is_what_it_reads(name):
    student, teacher, labels = sides(4)
    loss = build(name, student, teacher)
    before = loss(student, teacher, labels)

    assert loss.needs <= NEEDS
    assert len(loss.needs & {LOGITS, FEATURES}) == 1
    given = student if FEATURES in loss.needs else Outputs(student.logits)
    torch.testing.assert_close(loss(given, teacher, labels if LABELS in loss.needs else None), before)
    other = with_inputs(draw(5, 4, CLASSES), draw(6, 4, 6, 6, 6))
    changed = loss(student, other, labels)
    assert loss.reads_teacher == (abs(changed.item() - before.item()) > 1e-9)


@pytest.mark.parametrize("name", MINE)
def test_learned_layers_get_gradients(name):
    student, teacher, labels = sides(4)
    loss = build(name, student, teacher)

    if parameters := [parameter for parameter in loss.parameters() if parameter.requires_grad]:
        loss(student, teacher, labels).backward()

    assert len(parameters) == LEARNED.get(name, 0)
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in parameters)
    assert all(parameter.dtype == torch.float64 for parameter in parameters)


@pytest.mark.parametrize("name", MINE)
def test_the_order_of_samples_does_not_matter_but_to_neighbors(name):
    student, teacher, labels = sides(5)
    loss, order = build(name, student, teacher), torch.tensor([3, 0, 4, 2, 1])
    before = loss(student, teacher, labels)

    shuffled = [with_inputs(side.logits[order], side.features["pair"][order]) for side in (student, teacher)]
    gap = abs(loss(*shuffled, labels[order]).item() - before.item())

    assert (gap > 1e-3) if name == "correlation" else (gap < 1e-9)


@pytest.mark.parametrize("name", MINE)
def test_a_last_batch_of_one_sample_is_finite(name):
    student, teacher, _ = sides(4)
    loss = build(name, student, teacher)
    one = with_inputs(student.logits[:1].requires_grad_(), student.features["pair"][:1].requires_grad_())
    other = with_inputs(teacher.logits[:1], teacher.features["pair"][:1])

    found = loss(one, other, torch.tensor([1]))
    read = one.features["pair"] if FEATURES in loss.needs else one.logits
    (gradient,) = torch.autograd.grad(found, read)

    assert found.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MINE)
def test_halves_are_computed_in_float32(name, dtype):
    """Features of several hundred: their squares are above what float16 holds."""
    student, teacher, labels = sides(4)
    halves = [
        with_inputs(side.logits.to(dtype), (300.0 * side.features["pair"]).to(dtype))
        for side in (student, teacher)
    ]
    floats = [with_inputs(side.logits.float(), side.features["pair"].float()) for side in halves]
    loss = build(name, *floats)

    found = loss(*halves, labels)

    assert found.dtype == torch.float32
    assert found.isfinite()
    torch.testing.assert_close(found, loss(*floats, labels))


@pytest.mark.gpu
@pytest.mark.parametrize("name", MINE)
def test_the_gpu_s_value_and_layers_are_the_cpu_s(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    student, teacher, labels = sides(4)
    near = build(name, student, teacher)
    far = [with_inputs(side.logits.cuda(), side.features["pair"].cuda()) for side in (student, teacher)]
    loss = build(name, *far)

    found = loss(*far, labels.cuda())

    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), near(student, teacher, labels), rtol=1e-6, atol=1e-9)
