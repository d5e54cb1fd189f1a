"""Pseudo labels on tiles: what is annotated, chosen and measured, on tiles whose answer is known."""

import pytest
import torch

import tile_labels
from tile_graphs import (
    WIDTH,
    Tiles,
    components,
    equal_edges,
    fit,
    measure,
    measured_on,
    nearest_edges,
    view,
    wrong_share,
)
from tile_labels import Fitted, annotate, gains, table
from weno_labels import CLEANED, Labels, clean
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.kd.cautious_pseudo_labels import UNLABELED
from wsi_kd.kd.graphs import grid_edges

SLIDES, SIDE = 9, 8


def drawn_tiles(shift: float = 2.0) -> Tiles:
    """Square slides whose two left columns are positive; one feature tells it, by `shift` deviations."""
    x, y = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    coords = torch.stack([x.flatten(), y.flatten()], dim=1)
    truth = (coords[:, 0] < 2).long().repeat(SLIDES)
    features = torch.randn(len(truth), WIDTH, generator=torch.Generator().manual_seed(0))
    features[:, 0] += shift * truth
    edges = grid_edges(coords, 1)
    every = torch.cat([edges + slide * SIDE**2 for slide in range(SLIDES)], dim=1)
    return Tiles(features, every, truth, torch.arange(SLIDES).repeat_interleave(SIDE**2))


def test_components_are_the_directions_of_most_variance():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(500, 1, generator=generator)
    noise = torch.randn(500, 5, generator=generator)
    values = torch.cat([hidden.expand(-1, 3) + 0.1 * noise[:, :3], 7.0 + 100.0 * noise[:, 3:]], dim=1)
    found = components(values.numpy(), width=1)
    assert found.square().mean().item() == pytest.approx(1.0, abs=1e-4)
    correlation = torch.corrcoef(torch.stack([found[:, 0], hidden[:, 0]]))[0, 1]
    assert abs(correlation.item()) > 0.99


def test_nearest_tiles_are_joined_once():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert nearest_edges(features, 1).T.tolist() == [[0, 1], [2, 3]]
    assert nearest_edges(features, 9).shape == (2, 6)


def test_equal_edges_of_a_slide_worked_by_hand():
    tiles = Tiles(
        torch.zeros(4, WIDTH),
        torch.tensor([[0, 1, 2], [1, 2, 3]]),
        torch.tensor([0, 0, 1, 1]),
        torch.zeros(4, dtype=torch.int64),
    )
    found = equal_edges(tiles)
    assert found["per_tile"] == 1.5
    assert found["equal"] == pytest.approx(2 / 3)
    assert found["by_chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("count", "first", "second"), [(1, (0, 1), (1, 0)), (5, (2, 3), (3, 2)), (20, (12, 8), (12, 8))]
)
def test_annotated_tiles_are_of_both_labels_and_leave_some(count, first, second):
    """16 positive tiles a slide: 10 are wanted, and half of them is the most."""
    tiles = drawn_tiles()
    labels = annotate(tiles, [0, 3], count, generator=torch.Generator().manual_seed(0))
    given = [
        tuple(int(((labels == label) & (tiles.slide == slide)).sum()) for label in (0, 1))
        for slide in range(SLIDES)
    ]
    assert [given[0], given[3]] == [first, second]
    assert sum(map(sum, given)) == sum(given[0]) + sum(given[3])
    assert torch.equal(labels[labels != UNLABELED], tiles.truth[labels != UNLABELED])


def test_measures_are_means_over_slides_of_both_labels():
    truth = torch.tensor([1, 0, 0, 1, 0, 0])
    slide = torch.tensor([0, 0, 0, 1, 1, 2])
    found = measure(torch.tensor([1.0, 2.0, -1.0, -1.0, -2.0, 9.0]), truth, slide=slide)
    assert found["accuracy"] == pytest.approx((0.75 + 0.5) / 2)
    assert found["auc"] == pytest.approx((0.5 + 1.0) / 2)


def test_wrong_labels_count_by_slide_and_only_those_given():
    labels = torch.tensor([1, 0, UNLABELED, 1, UNLABELED])
    assert wrong_share(
        labels, torch.tensor([0, 0, 0, 1, 1]), slide=torch.tensor([0, 0, 0, 1, 2])
    ) == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["logistic", "mlp", "gcn"])
def test_classifiers_learn_from_the_labeled_tiles_alone(name):
    tiles = drawn_tiles(shift=8.0)
    labels = annotate(tiles, range(5), 20, generator=torch.Generator().manual_seed(0))
    other = labels == UNLABELED
    network = fit(name, tiles, labels, decay=0.1, seed=0)
    assert measured_on(network, tiles, other)["auc"] > 0.95
    garbage = tiles._replace(truth=1 - tiles.truth)
    again = fit(name, garbage, labels, decay=0.1, seed=0)
    assert torch.equal(view(network, tiles=tiles, number=0), view(again, tiles=tiles, number=0))
    first, second = (view(network, tiles=tiles, number=number) for number in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, view(network, tiles=tiles, number=1))


def test_neighbors_help_where_the_tiles_features_say_little():
    tiles = drawn_tiles(shift=1.0)
    labels = annotate(tiles, range(SLIDES), 10, generator=torch.Generator().manual_seed(0))
    other = labels == UNLABELED
    auc = {
        name: measured_on(fit(name, tiles, labels, decay=0.1, seed=0), tiles, other)["auc"]
        for name in ("mlp", "gcn")
    }
    assert auc["gcn"] > auc["mlp"] + 0.05


def test_each_way_is_measured_against_the_annotated_tiles_alone(monkeypatch):
    monkeypatch.setattr(tile_labels, "MODELS", ("logistic",))
    tiles = drawn_tiles(shift=3.0)
    slides = [
        SlideRow(f"s{n}", None, "tumor", f"c{n}", split="", slide_mpp=None, annotation=None, site="")
        for n in range(SLIDES)
    ]
    rows = gains(
        tile_labels.annotated_rows(tiles, slides, count=5, seed=0),
        over="alone",
        key=("model", "tiles", "seed"),
    )
    assert [row["way"] for row in rows] == list(tile_labels.WAYS)
    assert rows[0]["accuracy_gain"] == rows[0]["last_accuracy_gain"] == 0.0
    assert "wrong" not in rows[0]
    wrong = {row["way"]: row["wrong"] for row in rows[1:]}
    assert wrong["half at once"] < wrong["all at once"]
    assert rows[4]["accuracy"] - rows[0]["accuracy"] == pytest.approx(rows[4]["accuracy_gain"])


def test_a_network_already_trained_is_not_trained_again():
    tiles = drawn_tiles(shift=3.0)
    labels = annotate(tiles, range(6), 5, generator=torch.Generator().manual_seed(0))
    network = fit("logistic", tiles, labels, decay=0.1, seed=0)
    scored = (tiles.slide < 6) & (labels == UNLABELED)
    found = tile_labels._spread_labels(
        "alone",
        tiles,
        labels,
        scored=scored,
        val=tiles.slide >= 6,
        fitted=Fitted("logistic", 0.1, 0, network),
    )
    assert found["accuracy"] == found["last_accuracy"] == measured_on(network, tiles, scored)["accuracy"]


def test_a_student_is_cleaned_as_each_way_says():
    """Slides 5 to 8 are negative; the student is right where it is sure."""
    tiles = drawn_tiles(shift=4.0)
    candidates = tiles.slide < 5
    truth = torch.where(candidates, tiles.truth, 0)
    noise = torch.randn(5, len(truth), generator=torch.Generator().manual_seed(2))
    student = 2.0 * (2.0 * truth - 1.0) + 1.5 * noise[:1] + 0.1 * noise
    labels = Labels(tiles, torch.where(candidates, UNLABELED, 0), student, candidates)
    kept, wrong = {}, {}
    for way in CLEANED:
        found = clean(way, labels, seed=0, validate=lambda _: 0.0)
        assert (found.network is None) == (way == "student itself")
        assert (found.labels[~candidates] == 0).all()
        pseudo = torch.where(candidates, found.labels, UNLABELED)
        kept[way] = int((pseudo != UNLABELED).sum())
        wrong[way] = wrong_share(pseudo, truth, slide=tiles.slide)
    assert (kept["all"], kept["half at once"], kept["eighth at once"]) == (320, 160, 40)
    assert kept["in rounds, chosen"] == 40
    assert kept["half, in rounds"] > 100
    assert wrong["half at once"] < 0.3 * wrong["all"]


def test_table_has_a_column_for_each_value_of_the_split():
    rows = [
        {"way": "a", "tiles": 1, "auc": 0.5},
        {"way": "a", "tiles": 1, "auc": 0.7},
        {"way": "a", "tiles": 5, "auc": 1.0},
        {"way": "b", "tiles": 1, "auc": -0.25},
        {"way": "b", "tiles": 5},
    ]
    assert table(rows, first=("way",), values=("auc",), split="tiles").splitlines() == [
        "| way | auc, 1 | auc, 5 |",
        "|---|---|---|",
        "| a | .600 ± .141 | 1.000 |",
        "| b | -.250 |  |",
    ]
