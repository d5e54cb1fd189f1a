"""The loss `slam`: what it learns of the teacher, what it teaches, which batches it takes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    CLASSES,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
    same,
    sgd,
    weights_of,
)
from sklearn.isotonic import IsotonicRegression

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.losses.slam import POINTS, SlamLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.outputs import Outputs
from wsi_kd.kd.student_label_mixing import mixed_cross_entropy, teacher_margin, top_k_mask


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noisy_teacher(samples=300, classes=5, *, seed=0):
    """Logits whose largest is the truth's the more often the larger the margin; and the truth."""
    generator = np.random.default_rng(seed)
    logits = 2.0 * draw(seed, samples, classes)
    margin = teacher_margin(logits.softmax(dim=1)).numpy()
    order = logits.argsort(dim=1, descending=True).numpy()
    right = generator.random(samples) < 0.5 + 0.5 * margin
    guess = np.where(right, 0, generator.choice([1, 1, 2, 3], samples))
    return Outputs(logits), torch.tensor(order[np.arange(samples), guess])


def learned(**settings):
    loss = SlamLoss(**settings)
    teacher, labels = noisy_teacher()
    loss.prepare(teacher, teacher)
    halves = [(Outputs(teacher.logits[part]), labels[part]) for part in (slice(0, 120), slice(120, None))]
    return loss, loss.pretrain(halves), teacher, labels


def test_it_learns_alpha_as_scikit_learn_does():
    loss, told, teacher, labels = learned(lower_bound=0.6)
    margin = teacher_margin(teacher.logits.softmax(dim=1))
    correct = (teacher.logits.argmax(dim=1) == labels).numpy().astype(float)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(margin.numpy(), correct)

    asked = torch.linspace(-0.2, 1.2, 300, dtype=torch.float64)
    expected = theirs.predict(asked.numpy())
    np.testing.assert_allclose(loss.trust(asked).numpy(), np.maximum(expected, 0.6), rtol=0, atol=1e-12)
    fitted = theirs.predict(margin.numpy())
    assert told["teacher_accuracy"] == pytest.approx(correct.mean(), abs=1e-12)
    assert told["alpha_mean"] == pytest.approx(np.maximum(fitted, 0.6).mean(), abs=1e-12)
    assert told["alpha_raised"] == pytest.approx((fitted < 0.6).mean(), abs=1e-12)
    assert 0.0 < told["alpha_raised"] < 0.5


def test_it_learns_k():
    loss, told, teacher, labels = learned(top_k_accuracy=0.9)
    margin = teacher_margin(teacher.logits.softmax(dim=1))
    k = loss.candidates(margin)
    order = teacher.logits.argsort(dim=1, descending=True)
    rank = (order == labels[:, None]).float().argmax(dim=1)
    assert told["k_mean"] == pytest.approx(k.double().mean().item(), abs=1e-12)
    assert k.unique().numel() > 1
    assert (rank < k).double().mean().item() >= 0.88
    assert (rank < (k - 1).clamp(min=1)).double().mean().item() < 0.85


@pytest.mark.parametrize("normalize", [True, False])
def test_the_value_is_that_of_the_formula(normalize):
    loss, _, teacher, _ = learned(k=3, normalize=normalize)
    student = draw(9, 300, 5)
    probability = teacher.logits.softmax(dim=1)
    margin = teacher_margin(probability)
    expected = mixed_cross_entropy(
        student,
        probability,
        alpha=loss.trust(margin),
        mask=top_k_mask(probability, torch.full((300,), 3)),
        normalize=normalize,
    )
    assert loss(Outputs(student), teacher, None).item() == pytest.approx(expected.item(), abs=1e-15)


def test_given_alpha_and_k_need_nothing_learned():
    loss = SlamLoss(alpha=0.8, k=2)
    student, teacher = draw(0, 4, 3).requires_grad_(), Outputs(draw(1, 4, 3))
    loss.prepare(Outputs(student.detach()), teacher)
    assert loss.pretrain([]) == {}
    assert torch.autograd.gradcheck(lambda logits: loss(Outputs(logits), teacher, None), student)
    assert loss.trust(torch.tensor([0.1, 0.9])).tolist() == pytest.approx([0.8, 0.8])
    assert loss.candidates(torch.tensor([0.1, 0.9])).tolist() == [2, 2]


def test_a_given_alpha_of_1_is_cross_entropy_with_the_teacher():
    loss = SlamLoss(alpha=1.0, k=3)
    student, teacher = draw(0, 4, 3), draw(1, 4, 3)
    found = loss(Outputs(student), Outputs(teacher), None)
    assert found.item() == pytest.approx(F.cross_entropy(student, teacher.softmax(dim=1)).item(), abs=1e-14)


def test_a_given_alpha_still_learns_k():
    _, told, _, _ = learned(alpha=0.7)
    assert told["alpha_mean"] == pytest.approx(0.7)
    assert told["alpha_raised"] == 0.0
    assert told["k_mean"] > 1.0


def test_without_what_it_learns_it_says_how_to():
    loss = SlamLoss()
    with pytest.raises(
        BadInput, match=r"trust in the teacher is not learned; call Distiller.pretrain \(fit does\)"
    ):
        loss(Outputs(draw(0, 4, 3)), Outputs(draw(1, 4, 3)), None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lower_bound": 0.5}, "SlamLoss: lower_bound: alpha of 0.5: expected above 1/2 and at most 1"),
        ({"lower_bound": 0.5, "k": 3}, "expected above 1/2 and at most 1; at 1/2 the mix no longer depends"),
        ({"lower_bound": 0.25, "k": 4, "normalize": True}, "expected above 1/4 and at most 1"),
        ({"alpha": 0.4, "k": 3}, "SlamLoss: alpha: alpha of 0.4: expected above 1/2"),
        ({"alpha": 1.2}, "SlamLoss: alpha: alpha of 1.2"),
        ({"k": 0}, "SlamLoss: k is 0; expected at least 1 class"),
        ({"top_k_accuracy": 0.0}, "SlamLoss: top_k_accuracy is 0.0"),
    ],
)
def test_settings(settings, said):
    with pytest.raises(BadInput) as error:
        SlamLoss(**settings)
    assert said in str(error.value)


def test_bounds_below_a_half_are_for_normalized_mixes_of_many_classes():
    loss, _, _, _ = learned(lower_bound=0.26, k=4, normalize=True)
    assert loss.trust(torch.tensor([-1.0], dtype=torch.float64)).item() >= 0.26


def test_more_classes_than_there_are():
    loss = SlamLoss(k=6)
    with pytest.raises(BadInput, match="k is 6 of 5 classes; expected at most all"):
        loss.prepare(Outputs(draw(0, 4, 5)), Outputs(draw(1, 4, 5)))


def test_nothing_to_learn_from():
    loss = SlamLoss()
    with pytest.raises(BadInput, match="no validation batch to learn the trust in the teacher from"):
        loss.pretrain([])
    with pytest.raises(BadInput, match="it needs labels and the batch has none"):
        loss.pretrain([(Outputs(draw(0, 4, 5)), None)])


def test_soft_labels_of_the_validation_part_are_read_as_their_classes():
    _, told, teacher, labels = learned()
    other = SlamLoss()
    other.prepare(teacher, teacher)
    assert other.pretrain([(teacher, F.one_hot(labels, 5).double())]) == pytest.approx(told)


def test_a_curve_of_many_points_is_kept_in_those_that_a_state_file_has():
    """600 margins; at the i-th 20 + i samples, 8 of them wrong, so that each is a step of the regression."""
    loss = SlamLoss(k=2)
    share = torch.linspace(0.0, 1.0, 600, dtype=torch.float64)
    times = 20 + torch.arange(600)
    logits = torch.stack([2.0 * share, torch.zeros_like(share)], dim=1).repeat_interleave(times, dim=0)
    place = torch.cat([torch.arange(number) for number in times])
    labels = (place < 8).long()
    loss.prepare(Outputs(logits), Outputs(logits))
    loss.pretrain([(Outputs(logits), labels)])

    margin = teacher_margin(logits.softmax(dim=1))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(margin.numpy(), (labels == 0).double().numpy())
    assert len(theirs.X_thresholds_) > POINTS
    assert loss.alpha_margins.shape == (POINTS,)
    expected = np.maximum(theirs.predict(margin.numpy()), 0.6)
    np.testing.assert_allclose(loss.trust(margin).numpy(), expected, rtol=0, atol=2e-3)
    assert expected.max() - expected.min() > 0.35


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype):
    loss, _, teacher, _ = learned()
    student = Outputs(draw(5, 300, 5).to(dtype))
    halves = Outputs(teacher.logits.to(dtype))
    found = loss(student, halves, None)
    assert found.dtype == torch.float32
    assert found.item() == loss(Outputs(student.logits.float()), Outputs(halves.logits.float()), None).item()


def test_a_last_batch_of_one_sample_is_finite():
    loss, _, teacher, _ = learned()
    student = draw(5, 1, 5).requires_grad_()
    found = loss(Outputs(student), Outputs(teacher.logits[:1]), None)
    (gradient,) = torch.autograd.grad(found, student)
    assert gradient.isfinite().all()
    assert gradient.abs().max().item() > 0.0


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_samples_does_not_matter(seed):
    loss, _, teacher, _ = learned()
    student, order = draw(5, 300, 5), torch.randperm(300, generator=torch.Generator().manual_seed(seed))
    before = loss(Outputs(student), teacher, None)
    after = loss(Outputs(student[order]), Outputs(teacher.logits[order]), None)
    assert after.item() == pytest.approx(before.item(), abs=1e-14)


def mixed_batches():
    """Two labeled batches, and one without labels."""
    return [batch_of(seed=1), batch_of(seed=2)[0], batch_of(seed=3)]


def criteria():
    return {"ce": (CrossEntropyLoss(), 1.0), "slam": (SlamLoss(lower_bound=0.6), 1.0)}


def test_labeled_batches_are_cross_entropy_s_and_the_others_slam_s():
    distiller = make_distiller(criteria=criteria())
    distiller.prepare(batch_of())
    told = distiller.pretrain(mixed_batches(), make_loader())
    assert set(told["slam"]) == {"teacher_accuracy", "alpha_mean", "alpha_raised", "k_mean"}
    assert [set(distiller.training_step(batch).terms) for batch in mixed_batches()] == [
        {"ce"},
        {"slam"},
        {"ce"},
    ]


def test_labels_everywhere_leave_it_nothing_and_that_is_said():
    distiller = make_distiller(criteria=criteria())
    with pytest.raises(
        BadInput, match=r"\(SlamLoss\): it needs batches without labels, and train_loader yielded none"
    ):
        distiller.fit(make_loader(), make_loader(), epochs=1)
    alone = make_distiller(criteria={"slam": (SlamLoss(), 1.0)})
    with pytest.raises(BadInput, match="the batch has labels, and all criteria are for batches without any"):
        alone.fit(mixed_batches(), make_loader(), epochs=1)


def test_a_resumed_training_knows_what_was_learned(tmp_path):
    def trained(epochs, path):
        distiller = make_distiller(student=make_network(0), criteria=criteria(), optimizer=sgd)
        distiller.fit(mixed_batches(), make_loader(seed=5), epochs=epochs, state_path=path)
        return distiller

    whole = trained(3, tmp_path / "whole.safetensors")
    trained(1, tmp_path / "state.safetensors")
    resumed = trained(3, tmp_path / "state.safetensors")
    assert same(weights_of(resumed), weights_of(whole))
    assert bool(resumed.criteria["slam"].learned)
    assert resumed.criteria["slam"].k_margins.shape == (CLASSES - 1,)


def test_it_learns_on_unlabeled_data_what_a_noisy_teacher_hides():
    """The teacher says one of two other classes in 4 of 10 samples; its margin tells nothing."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1000, 4, generator=generator)
    truth = inputs[:, :CLASSES].argmax(dim=1)
    flipped = torch.rand(1000, generator=generator) < 0.4
    other = (truth + torch.randint(1, CLASSES, (1000,), generator=generator)) % CLASSES
    said = F.one_hot(torch.where(flipped, other, truth), CLASSES).float()
    student = torch.nn.Linear(4, CLASSES)
    loss, optimizer = (
        SlamLoss(alpha=0.6, k=3, normalize=True),
        torch.optim.Adam(student.parameters(), lr=0.1),
    )
    for _ in range(200):
        optimizer.zero_grad()
        loss(Outputs(student(inputs)), Outputs(30.0 * said), None).backward()
        optimizer.step()
    probability = student(inputs).softmax(dim=1)
    assert (probability.argmax(dim=1) == truth).float().mean().item() > 0.95
    assert probability.max(dim=1).values.mean().item() > 0.9
    assert math.isfinite(probability.log().min().item())
