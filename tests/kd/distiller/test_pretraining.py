"""Losses that learn of the teacher before the student does: once, from what they ask for; resumes keep it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from distillation_parts import (
    CLASSES,
    LogitMatch,
    MeanTeacher,
    Task,
    batch_of,
    make_distiller,
    make_loader,
    make_network,
    same,
    weights_of,
)
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.kd.augmentation import GaussianNoise
from wsi_kd.kd.fitting import FitResult
from wsi_kd.kd.outputs import LOGITS, TRAIN, VAL, DistillationLoss, Outputs


class Trusting(DistillationLoss):
    """Matches logits by as much as the teacher was right on the validation part; draws while it learns."""

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS})
    learns_from: ClassVar[str] = VAL
    trust: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("trust", torch.zeros(()))
        self.calls = 0
        self.seen: list[list[tuple[Tensor, Tensor | None]]] = []

    def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
        self.calls += 1
        assert self.training
        assert torch.is_grad_enabled()
        self.seen = [[(outputs.logits, labels) for outputs, labels in seen] for _ in range(2)]
        right = torch.cat([logits.argmax(1) == labels for logits, labels in self.seen[0]])
        self.trust.copy_(right.float().mean())
        torch.rand(5)
        return {"trust": self.trust.item()}

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Tensor:
        return self.trust * F.mse_loss(student.logits, teacher.logits)


class Watching(Trusting):
    """As well, of the training part."""

    learns_from: ClassVar[str] = TRAIN

    def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
        self.calls += 1
        self.seen = [[(outputs.logits, labels) for outputs, labels in seen]]
        self.trust.fill_(0.5)
        return {}


def distill(loss: DistillationLoss, **settings: Any) -> Any:
    return make_distiller(criteria={"ce": (Task(), 0.5), "odd": (loss, 2.0)}, **settings)


def fit(distiller: Any, epochs: int = 2, **settings: Any) -> FitResult:
    return distiller.fit(make_loader(shuffle=True), make_loader(18, seed=1), epochs=epochs, **settings)


def test_fit_lets_a_loss_learn_of_the_validation_part_first() -> None:
    teacher = make_network(1, hidden=7)
    loss = Trusting()
    result = fit(distill(loss, teachers=teacher))
    inputs, labels = batch_of(18, seed=1)
    teacher.eval()
    expected = teacher(inputs)
    trust = (expected.argmax(1) == labels).float().mean().item()
    assert 0.0 < trust < 1.0
    assert loss.calls == 1
    for walked in loss.seen:
        assert [len(logits) for logits, _ in walked] == [6, 6, 6]
        assert torch.allclose(torch.cat([logits for logits, _ in walked]), expected, atol=1e-6)
        assert torch.equal(torch.cat([labels for _, labels in walked]), labels)
        assert not any(logits.requires_grad for logits, _ in walked)
    assert result.pretrained == {"odd": {"trust": pytest.approx(trust)}}
    assert loss.trust.item() == pytest.approx(trust)


def test_a_loss_learns_once_whatever_is_fitted_later() -> None:
    loss = Trusting()
    distiller = distill(loss)
    told = distiller.pretrain(make_loader(), make_loader(18, seed=1))  # in a loop of one's own: prepares too
    assert distiller.pretrain(make_loader(), make_loader(6, seed=2)) is told
    fit(distiller, 1)
    assert fit(distiller, 2).pretrained == told
    assert loss.calls == 1
    assert len(list(distiller.optimizer.param_groups[0]["params"])) == 6


def test_a_resumed_training_has_what_was_learned(tmp_path: Path) -> None:
    whole = distill(Trusting())
    expected = fit(whole, 3)
    state = tmp_path / "state"

    class Stopped(Exception):
        pass

    def stop(row: dict[str, float | int]) -> None:
        if row["epoch"] == 0:
            raise Stopped

    with pytest.raises(Stopped):
        fit(distill(Trusting()), 3, state_path=state, on_epoch=stop)
    loss = Trusting()
    resumed = distill(loss)
    assert fit(resumed, 3, state_path=state) == expected
    assert same(weights_of(resumed), weights_of(whole))
    assert loss.calls == 0
    assert loss.trust.item() == expected.pretrained["odd"]["trust"] > 0.0


def test_what_is_drawn_while_a_loss_learns_moves_no_epoch() -> None:
    class Silent(Trusting):
        def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
            figures = super().pretrain(list(seen))
            torch.rand(7)
            return figures

    assert fit(distill(Silent())) == fit(distill(Trusting()))


def test_what_a_loss_draws_is_seeded_and_the_callers_draws_are_left_alone() -> None:
    class Drawing(Trusting):
        def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
            return {"drawn": torch.rand(()).item()}

    def drawn(seed: int, *, before: int) -> float:
        torch.manual_seed(before)
        distiller = distill(Drawing(), seed=seed)
        own = torch.get_rng_state()
        figures = distiller.pretrain(make_loader(), make_loader(18, seed=1))
        assert torch.equal(torch.get_rng_state(), own)
        return figures["odd"]["drawn"]

    assert drawn(0, before=0) == drawn(0, before=1) != drawn(1, before=0)


def test_the_training_part_is_seen_as_it_is_trained_on() -> None:
    inputs, labels = batch_of(6)
    teacher = make_network(1)
    noisy, plain = Watching(), Trusting()
    criteria = {"noisy": (noisy, 1.0), "plain": (plain, 1.0)}
    distiller = make_distiller(teachers=teacher, criteria=criteria, augment=GaussianNoise(0.5))
    distiller.pretrain([(inputs, None)], [(inputs, labels)])
    ((augmented, none),), ((untouched, same_labels),) = noisy.seen[0], plain.seen[0]
    assert none is None  # a loss that learns from the training part gets labels only where there are any
    assert torch.equal(same_labels, labels)
    teacher.eval()
    assert torch.allclose(untouched, teacher(inputs), atol=1e-6)
    assert (augmented - untouched).abs().max() > 0.01


def test_several_teachers_are_seen_together() -> None:
    class Several(MeanTeacher):
        learns_from: ClassVar[str] = TRAIN

        def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
            return {"teachers": len(next(iter(seen))[0])}

    distiller = distill(Several(), teachers=[make_network(1), make_network(2)])
    assert fit(distiller, 1).pretrained == {"odd": {"teachers": 2.0}}


def test_labels_of_the_validation_part_must_be_there() -> None:
    inputs, labels = batch_of()
    with pytest.raises(
        BadInput,
        match=r"^criterion 'odd' \(Trusting\): it learns from the labels of .* val_loader has none; ",
    ):
        distill(Trusting()).fit([(inputs, labels)], [inputs], epochs=1)


def test_a_teacher_that_emits_nan_is_named_before_anything_is_learned_of_it() -> None:
    teacher = make_network(1)
    nn.init.constant_(teacher[4].bias, float("nan"))
    loss = Trusting()
    with pytest.raises(
        BadInput, match=r"^criterion 'odd' \(Trusting\): teacher 1 of 1 gave logits that are not finite"
    ):
        fit(distill(loss, teachers=teacher))
    assert loss.trust.item() == 0.0


@pytest.mark.parametrize("kind", [BadInput, RunFailed])
def test_a_loss_that_cannot_learn_is_named(kind: type[Exception]) -> None:
    class Failing(Trusting):
        def pretrain(self, seen: Iterable[tuple[Any, Tensor | None]]) -> dict[str, float]:
            raise kind("too few")

    with pytest.raises(kind, match=r"^criterion 'odd' \(Failing\): too few$"):
        fit(distill(Failing()))


def test_what_a_loss_says_of_itself_is_checked() -> None:
    class Elsewhere(LogitMatch):
        learns_from: ClassVar[str] = "test"

    class Blind(Task):
        learns_from: ClassVar[str] = VAL

    with pytest.raises(BadInput, match=r"unknown learns_from of Elsewhere 'test'; known: train, val"):
        distill(Elsewhere())
    with pytest.raises(BadInput, match=r"'odd' \(Blind\): .* never looks at a teacher; set reads_teacher"):
        distill(Blind())


def test_most_losses_learn_nothing_beforehand() -> None:
    assert LogitMatch.learns_from == ""
    assert LogitMatch().pretrain([(Outputs(torch.zeros(2, CLASSES)), None)]) == {}
    assert fit(make_distiller()).pretrained == {}
