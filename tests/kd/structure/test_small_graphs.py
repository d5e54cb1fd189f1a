"""Small graph networks: the authors' forward pass, neighbors, what is refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.cautious_pseudo_labels import UNLABELED, Caution, label_cautiously
from wsi_kd.kd.graphs import (
    Gcn,
    GraphAutoencoder,
    drop_edges,
    grid_edges,
    planted_partition,
    propagation,
    undirected,
)


@pytest.fixture
def authors(shared_data: Path) -> dict[str, Tensor]:
    stored = np.load(shared_data.parent / "reference" / "cpl_selection.npz")
    return {name: torch.from_numpy(values) for name, values in stored.items()}


@pytest.mark.shared_data
def test_graph_network_is_the_authors(authors):
    edges = authors["adjacency"].triu(1).nonzero().T
    spread = propagation(edges, 30, dtype=torch.float64)
    torch.testing.assert_close(spread.to_dense(), authors["adj_normalised"], rtol=1e-12, atol=1e-14)
    network = Gcn(6, 5, 3).double()
    with torch.no_grad():
        for ours, theirs in ((network.first, "gcn.gc1"), (network.second, "gcn.gc2")):
            ours.weight.copy_(authors[f"{theirs}.weight"].T)
            ours.bias.copy_(authors[f"{theirs}.bias"])
    found = network(authors["features"], spread)
    torch.testing.assert_close(found, authors["gcn.logits"], rtol=1e-12, atol=1e-13)


def test_graph_network_learns_a_planted_partition():
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(120) % 3
    edges = planted_partition(truth, inside=0.2, between=0.02, generator=generator)
    features = torch.nn.functional.one_hot(truth, 3).float() + torch.randn(120, 3, generator=generator)
    spread = propagation(edges, 120)
    torch.manual_seed(0)
    network = Gcn(3, 16, 3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(network(features, spread)[:30], truth[:30])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network(features, spread).argmax(1) == truth)[30:].double().mean() > 0.9


def test_autoencoder_scores_links_by_the_product_of_embeddings():
    torch.manual_seed(0)
    edges = torch.tensor([[0, 1], [1, 2]])
    network = GraphAutoencoder(2, 4, 3)
    embedded = network(torch.randn(3, 2), propagation(edges, 3))
    scores = network.link_logits(embedded, edges)
    torch.testing.assert_close(scores[0], embedded[0] @ embedded[1])


def test_grid_neighbors_touch():
    coords = torch.tensor([[x * 10, y * 10] for y in range(3) for x in range(3)])
    edges = grid_edges(coords, 10)
    degrees = torch.bincount(edges.flatten(), minlength=9)
    assert degrees.tolist() == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    assert grid_edges(coords[[0, 8]], 10).shape == (2, 0)


def test_edges_can_be_dropped_and_one_stays():
    edges = grid_edges(torch.tensor([[x, y] for y in range(9) for x in range(9)]), 1)
    generator = torch.Generator().manual_seed(0)
    assert 0.3 < drop_edges(edges, 0.5, generator=generator).shape[1] / edges.shape[1] < 0.7
    assert torch.equal(drop_edges(edges, 0.0, generator=generator), edges)
    assert drop_edges(edges, 1.0, generator=generator).shape == (2, 1)


def drawn():
    return torch.Generator().manual_seed(0)


def as_torch_geometric_has_it():
    """A `Data` object's members: each pair both ways, one of them twice, and a loop."""
    pairs = torch.tensor([[0, 1, 1, 2, 3, 0], [1, 2, 3, 3, 4, 4]])
    both = torch.cat([pairs, pairs.flip(0), torch.tensor([[1, 2], [0, 2]])], dim=1)
    order = torch.randperm(both.shape[1], generator=drawn())
    return SimpleNamespace(
        x=torch.randn(5, 3, generator=drawn()),
        edge_index=both[:, order],
        y=torch.tensor([0, -1, -1, 1, -1]),
        num_nodes=5,
    ), pairs


def test_edge_index_of_torch_geometric_is_the_same_graph():
    data, pairs = as_torch_geometric_has_it()
    found = undirected(data.edge_index, data.num_nodes)
    assert sorted(found.T.tolist()) == sorted(pairs.T.tolist())
    ours, theirs = propagation(pairs, 5).to_dense(), propagation(data.edge_index, data.num_nodes).to_dense()
    assert torch.equal(ours, theirs)
    joined = torch.eye(5)
    joined[pairs[0], pairs[1]] = joined[pairs[1], pairs[0]] = 1.0
    roots = joined.sum(dim=1).rsqrt()
    torch.testing.assert_close(theirs, roots[:, None] * joined * roots[None, :])


def test_its_nodes_can_be_labeled_cautiously():
    data, _ = as_torch_geometric_has_it()
    spread = propagation(data.edge_index, data.num_nodes)

    def train(labels, _):
        torch.manual_seed(0)
        network = Gcn(3, 8, 2)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
        known = labels != UNLABELED
        for _step in range(40):
            optimizer.zero_grad()
            logits = network(data.x, spread)[known]
            torch.nn.functional.cross_entropy(logits, labels[known]).backward()
            optimizer.step()
        return network.eval()

    def plain(network):
        return network(data.x, spread).detach()

    def dropped(network):
        edges = drop_edges(undirected(data.edge_index, 5), 0.2, generator=drawn())
        return network(data.x, propagation(edges, 5)).detach()

    found = label_cautiously(
        train,
        [plain, dropped],
        data.y,
        candidates=data.y == UNLABELED,
        caution=Caution(per_round=2),
        rounds=2,
        validate=lambda network: network(data.x, spread)[0, 0].item(),
    )
    assert found.labels[[0, 3]].tolist() == [0, 1]
    assert [one.labeled for one in found.rounds] == [2, 4, 5]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: propagation(torch.zeros(2, 0, dtype=torch.int64), 3), "one edge at least"),
        (lambda: propagation(torch.tensor([[0], [3]]), 3), "nodes 0 to 3; expected 0 to 2"),
        (lambda: propagation(torch.tensor([[1], [1]]), 3), "all edges are loops"),
        (lambda: undirected(torch.tensor([[-1], [1]]), 3), "nodes -1 to 1"),
        (lambda: drop_edges(torch.zeros(2, 0, dtype=torch.int64), 0.1, generator=drawn()), "of 0 edges"),
        (lambda: drop_edges(torch.tensor([[0], [1]]), 1.5, generator=drawn()), r"share 1\.5"),
        (lambda: grid_edges(torch.zeros(1, 2, dtype=torch.int64), 0), "step 0"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()
