"""Training on augmented batches: teachers see what students see, and a resume draws the same again."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    CLASSES,
    adamw,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
    same,
    weights_of,
)
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput
from wsi_kd.kd import LOSSES
from wsi_kd.kd.augmentation import Augment, GaussianNoise, InOrder, Mixup

STRONG = InOrder((GaussianNoise(0.3), Mixup(alpha=0.4, classes=CLASSES)))


class Witness(nn.Module):
    """Notes the tensors that it is called with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(inputs)
        return self.network(inputs)


def test_student_and_teacher_see_one_augmented_tensor() -> None:
    """Consistent teaching: the very same object, and never what the loader yielded."""
    student, teacher = Witness(make_network(0)), Witness(make_network(1))
    distiller = make_distiller(student, teacher, augment=Mixup(alpha=1.0, classes=CLASSES))
    loader = make_loader()
    distiller.fit(loader, make_loader(seed=1), epochs=2)
    trained = [tensor for tensor in student.seen[1:] if len(tensor)]
    by_teacher = {id(tensor) for tensor in teacher.seen}
    plain = torch.cat([inputs for inputs, _ in loader])
    learned_from = [tensor for tensor in trained if id(tensor) in by_teacher]
    assert len(teacher.seen) == 1 + 2 * len(loader)
    assert len(learned_from) == 2 * len(loader)
    for tensor in learned_from:
        distances = torch.cdist(tensor, plain).min(dim=1).values
        assert distances.max() > 1e-3


def test_only_batches_of_the_training_are_augmented() -> None:
    calls = []

    def noting(inputs: Any, labels: Tensor | None) -> tuple[Any, Tensor | None]:
        calls.append(len(inputs))
        return inputs, labels

    distiller = make_distiller(augment=noting)
    distiller.fit(make_loader(12, batch=6), make_loader(15, batch=5), epochs=2)
    assert calls == [6] * 5  # one prepares
    distiller.evaluate(make_loader())
    distiller.eval()
    distiller.training_step(batch_of())
    assert calls == [6] * 5


@pytest.mark.parametrize("name", ["ce", "bce", "kd", "bkd", "dkd", "dist"])
def test_losses_of_logits_learn_from_mixtures(name: str) -> None:
    distiller = make_distiller(
        criteria={name: (LOSSES[name](), 1.0)}, augment=Mixup(alpha=0.2, classes=CLASSES), optimizer=adamw
    )
    history = distiller.fit(make_loader(), make_loader(seed=1), epochs=12).history
    assert history[-1][name] < history[0][name]


def test_the_labels_that_are_learned_from_are_the_mixed_ones() -> None:
    augment = Mixup(alpha=1.0, classes=CLASSES)
    distiller = make_distiller(criteria={"ce": (LOSSES["ce"](), 1.0)}, augment=augment, teachers=[])
    distiller.prepare(batch_of())
    for module in distiller.student[1:]:
        module.eval()
    torch.manual_seed(7)
    step = distiller.training_step(batch_of())
    torch.manual_seed(7)
    mixed, soft = augment(*batch_of())
    expected = F.cross_entropy(distiller.student(mixed), soft)
    assert step.loss.item() == pytest.approx(expected.item())


def test_an_augmentation_of_another_form_is_told() -> None:
    with pytest.raises(BadInput, match=r"augment returned float32 tensor .*; expected \(inputs, labels\)"):
        make_distiller(augment=lambda inputs, labels: inputs).prepare(batch_of())
    odd = make_distiller(augment=lambda inputs, labels: (inputs, labels[:2]))
    odd.prepare(batch_of())
    with pytest.raises(BadInput, match=r"labels are int64 tensor \(2,\); expected \(6,\)"):
        odd.training_step(batch_of())


def test_a_resumed_training_draws_the_same_mixtures(tmp_path: Path) -> None:
    def run(epochs: int, **settings: Any) -> tuple[Any, dict[str, Tensor]]:
        distiller = make_distiller(augment=STRONG)
        result = distiller.fit(make_loader(shuffle=True), make_loader(seed=1), epochs=epochs, **settings)
        return result, weights_of(distiller)

    expected = run(3)
    run(2, state_path=tmp_path / "state")
    torch.rand(5)
    resumed = run(3, state_path=tmp_path / "state")
    assert resumed[0] == expected[0]
    assert same(resumed[1], expected[1])


def test_a_state_of_another_augmentation_is_refused(tmp_path: Path) -> None:
    def run(augment: Augment | None) -> None:
        loaders = (make_loader(), make_loader(seed=1))
        make_distiller(augment=augment).fit(*loaders, epochs=1, state_path=tmp_path / "state")

    run(GaussianNoise(0.3))
    run(GaussianNoise(0.3))
    with pytest.raises(
        BadInput,
        match=r"augmentation was GaussianNoise\(deviation=0\.3\), now it is GaussianNoise\(devi.*0\.4",
    ):
        run(GaussianNoise(0.4))
    with pytest.raises(BadInput, match="now it is none"):
        run(None)
