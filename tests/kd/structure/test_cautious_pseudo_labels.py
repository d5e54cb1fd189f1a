"""Cautious pseudo labels: the authors' selection, quotas, and what must never change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.cautious_pseudo_labels import (
    PUBLISHED,
    UNLABELED,
    Caution,
    label_cautiously,
    select_cautiously,
    select_links,
)

GREEDY = Caution(per_round=4, threshold=0.0, per_class=False)


def logits(samples: int, classes: int = 3, *, seed: int = 0) -> Tensor:
    return 3.0 * torch.randn(samples, classes, generator=torch.Generator().manual_seed(seed))


def everyone(samples: int) -> Tensor:
    return torch.ones(samples, dtype=torch.bool)


@pytest.fixture
def authors(shared_data: Path) -> dict[str, Tensor]:
    stored = np.load(shared_data.parent / "reference" / "cpl_selection.npz")
    return {name: torch.from_numpy(values) for name, values in stored.items()}


@pytest.mark.shared_data
@pytest.mark.parametrize(("threshold", "top"), [(0.4, 4), (0.55, 20)])
def test_selection_is_the_authors(authors, threshold, top):
    key = f"fixed_thr{threshold}_top{top}"
    known = authors["idx_train"].clone()
    outputs = authors["fixed_outputs"]
    chosen = []
    for number, after in enumerate(authors[f"{key}.idx_train_after"]):
        found = select_cautiously(
            list(outputs[4 * number : 4 * number + 4]),
            candidates=~known,
            caution=PUBLISHED._replace(per_round=top, threshold=threshold),
        )
        known[found.rows] = True
        assert torch.equal(known, after)
        assert torch.equal(authors[f"{key}.pseudo_labels_after"][number][found.rows], found.labels)
        assert found.consistency == pytest.approx(authors[f"{key}.consistency"][number].item(), abs=1e-5)
        chosen += found.rows.tolist()
    assert sorted(chosen) == sorted(authors[f"{key}.selected_in_order"].tolist())


def test_chosen_are_the_most_confident_candidates():
    views = [logits(40)]
    candidates = everyone(40)
    candidates[::3] = False
    found = select_cautiously(views, candidates=candidates, caution=GREEDY)
    confidence = torch.softmax(views[0], dim=1).max(dim=1).values
    assert len(found.rows) == 4
    assert candidates[found.rows].all()
    rest = candidates.clone()
    rest[found.rows] = False
    assert confidence[rest].max() <= found.confidence.min()
    assert (found.confidence >= 1 / 3).all()


def test_quota_follows_the_predicted_shares():
    views = [torch.eye(3)[torch.tensor([0] * 6 + [1] * 3 + [2] * 1)] * torch.linspace(1, 3, 10)[:, None]]
    found = select_cautiously(views, candidates=everyone(10), caution=Caution(per_round=5))
    assert torch.bincount(found.labels, minlength=3).tolist() == [
        3,
        2,
        0,
    ]  # of 3, 1.5 and .5, the rest to the first
    within = found.rows[found.labels == 0]
    assert within.tolist() == [5, 4, 3]


def test_quota_follows_the_candidates_and_no_others():
    """Rows that cannot be labeled (other slides, held-out or labeled ones) do not shape a round."""
    predicted = torch.tensor([0] * 4 + [1] * 4 + [0] * 20 + [2] * 30)
    views = [torch.eye(3)[predicted] * torch.linspace(1, 3, 58)[:, None]]
    candidates = torch.arange(58) < 8
    found = select_cautiously(views, candidates=candidates, caution=Caution(per_round=4))
    assert torch.bincount(found.labels, minlength=3).tolist() == [2, 2, 0]
    nobody = select_cautiously(views, candidates=candidates & False, caution=Caution(per_round=4))
    assert len(nobody.rows) == 0


def test_never_more_than_asked_and_none_below_the_threshold():
    found = select_cautiously(
        [logits(50)], candidates=everyone(50), caution=Caution(per_round=50, threshold=0.9)
    )
    assert 0 < len(found.rows) < 50
    assert (found.confidence > 0.9).all()


def test_disagreement_can_be_refused():
    first = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    second = torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, 9.0]])
    plain = Caution(per_round=3, per_class=False)
    assert len(select_cautiously([first, second], candidates=everyone(3), caution=plain).rows) == 3
    strict = select_cautiously(
        [first, second], candidates=everyone(3), caution=plain._replace(require_agreement=True)
    )
    assert sorted(strict.rows.tolist()) == [0, 2]
    assert strict.consistency == pytest.approx(2 / 3)


def test_equal_views_are_one_view_and_consistency_falls_with_more():
    views = [logits(60), logits(60) + logits(60, seed=1), logits(60) + logits(60, seed=2)]
    one, same = (
        select_cautiously(views[:1] * count, candidates=everyone(60), caution=GREEDY) for count in (1, 4)
    )
    assert torch.equal(one.rows, same.rows)
    assert same.consistency == 1.0
    falling = [
        select_cautiously(views[:count], candidates=everyone(60), caution=GREEDY).consistency
        for count in (1, 2, 3)
    ]
    assert falling == sorted(falling, reverse=True)


def test_order_of_the_samples_does_not_matter():
    views, order = (
        [logits(30), logits(30, seed=4)],
        torch.randperm(30, generator=torch.Generator().manual_seed(1)),
    )
    plain = select_cautiously(views, candidates=everyone(30), caution=Caution(per_round=7))
    turned = select_cautiously(
        [view[order] for view in views], candidates=everyone(30), caution=Caution(per_round=7)
    )
    assert order[turned.rows].tolist() == plain.rows.tolist()


class Centers:
    """A nearest-center classifier: a model that is trained in no time."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points = points
        self.centers = torch.stack([points[labels == label].mean(dim=0) for label in range(2)])

    def logits(self, noise: Tensor | float = 0.0) -> Tensor:
        return -torch.cdist(self.points + noise, self.centers)


def two_clouds() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(200) % 2
    return torch.randn(200, 2, generator=generator) + 2.0 * truth[:, None], truth


def run(caution: Caution, given: Tensor, *, rounds: int = 5):
    points, truth = two_clouds()
    held_out = slice(150, 200)
    candidates = everyone(200)
    candidates[held_out] = False
    return label_cautiously(
        lambda labels, _: Centers(points, labels),
        [lambda model: model.logits(), lambda model: model.logits(0.1)],
        given,
        candidates=candidates,
        caution=caution,
        rounds=rounds,
        validate=lambda model: (model.logits().argmax(1) == truth)[held_out].double().mean().item(),
    )


@pytest.mark.parametrize("caution", [Caution(per_round=20), PUBLISHED._replace(per_round=20)])
def test_labels_once_given_stay_and_held_out_samples_get_none(caution):
    _, truth = two_clouds()
    given = torch.full((200,), UNLABELED)
    given[:4] = truth[:4]
    found = run(caution, given)
    assert torch.equal(found.labels[:4], truth[:4])
    assert (found.labels[150:] == UNLABELED).all()
    assert [one.labeled for one in found.rounds] == [4, 24, 44, 64, 84, 104]
    assert found.rounds[found.best_round].score == max(one.score for one in found.rounds)
    assert (found.labels != UNLABELED).sum() == found.rounds[found.best_round].labeled


def test_it_ends_where_nothing_is_left():
    _, truth = two_clouds()
    given = torch.full((200,), UNLABELED)
    given[:4] = truth[:4]
    assert [one.labeled for one in run(Caution(per_round=100), given).rounds][-1] == 150


def test_truth_of_unlabeled_samples_is_never_read():
    points, _ = two_clouds()
    seen: list[Tensor] = []

    def train(labels: Tensor, _: object) -> Centers:
        seen.append(labels.clone())
        return Centers(points, labels)

    given = torch.full((200,), UNLABELED)
    given[:2] = torch.tensor([0, 1])
    label_cautiously(
        train,
        [lambda model: model.logits()],
        given,
        candidates=everyone(200),
        caution=Caution(per_round=10),
        rounds=2,
        validate=lambda _: 0.0,
    )
    assert (seen[0] == given).all()
    assert [int((labels != UNLABELED).sum()) for labels in seen] == [2, 12, 22]


def test_published_ranks_with_the_first_model_and_goes_on_from_it():
    points, truth = two_clouds()
    starts: list[object] = []
    ranked: list[object] = []

    def train(labels: Tensor, start: object) -> Centers:
        starts.append(start)
        return Centers(points, labels)

    def view(model: Centers) -> Tensor:
        ranked.append(model)
        return model.logits()

    given = torch.full((200,), UNLABELED)
    given[:2] = truth[:2]
    label_cautiously(
        train,
        [view],
        given,
        candidates=everyone(200),
        caution=PUBLISHED._replace(per_round=5),
        rounds=3,
        validate=lambda _: 0.0,
    )
    assert starts[0] is None
    assert all(start is ranked[0] for start in starts[1:])
    assert all(model is ranked[0] for model in ranked)


def test_links_are_the_most_probable_above_the_threshold():
    views = [torch.tensor([0.99, 0.2, 0.97, 0.999]), torch.tensor([0.99, 0.2, 0.93, 0.995])]
    assert select_links(views, threshold=0.96, count=10).tolist() == [3, 0]
    assert select_links(views, threshold=0.5, count=1).tolist() == [3]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: select_cautiously([], candidates=everyone(3), caution=GREEDY), "no view"),
        (lambda: select_cautiously([logits(4)], candidates=everyone(3), caution=GREEDY), "for 3 samples"),
        (
            lambda: select_cautiously([logits(3) * torch.nan], candidates=everyone(3), caution=GREEDY),
            "not finite",
        ),
        (
            lambda: select_cautiously(
                [logits(3)], candidates=everyone(3), caution=GREEDY._replace(per_round=0)
            ),
            "per_round 0",
        ),
        (lambda: run(GREEDY, torch.tensor([0] * 3 + [UNLABELED] * 197)), "class 1 has no labeled sample"),
        (lambda: run(GREEDY, torch.full((200,), UNLABELED)), "no sample has a label"),
        (lambda: select_links([], threshold=0.5, count=1), "no view"),
        (lambda: select_links([torch.tensor([2.0])], threshold=0.5, count=1), r"in \[0, 1\]"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()
