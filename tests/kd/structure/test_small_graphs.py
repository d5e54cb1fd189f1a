"""Small graph networks: the authors' forward pass, neighbors, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.graphs import Gcn, GraphAutoencoder, drop_edges, grid_edges, planted_partition, propagation


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


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: propagation(torch.zeros(2, 0, dtype=torch.int64), 3), "one edge at least"),
        (lambda: propagation(torch.tensor([[0], [3]]), 3), "nodes of 0 to 2"),
        (lambda: propagation(torch.tensor([[1], [1]]), 3), "different nodes"),
        (lambda: grid_edges(torch.zeros(1, 2, dtype=torch.int64), 0), "step 0"),
    ],
)
def test_what_cannot_be_is_refused(ask, says):
    with pytest.raises(BadInput, match=says):
        ask()
