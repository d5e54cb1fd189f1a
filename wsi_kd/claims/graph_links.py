"""Pseudo links: an autoencoder of a graph of which few links are known."""

from functools import cache
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from wsi_kd.kd.cautious_pseudo_labels import select_links
from wsi_kd.kd.graphs import GraphAutoencoder, drop_edges, planted_partition, propagation

NODES: Final = 200
CLASSES: Final = 4
WIDTH: Final = 16
KNOWN: Final = 0.15
EPOCHS: Final = 100
ROUNDS: Final = 2
PER_ROUND: Final = 100
THRESHOLD: Final = 0.5
DROPPED: Final = 0.2
LINK_WAYS: Final = ("known links alone", "all at once", "cautious", "random")


class _Links(NamedTuple):
    features: Tensor
    known: Tensor
    candidates: Tensor
    """(2, pairs): all pairs that are not known to be linked."""
    truth: Tensor
    """(pairs,): whether the candidates are linked; for the AUC alone."""


def link_auc(way: str, seed: int) -> float:
    """Return the AUC of the candidates' scores after pseudo links were added in one of `LINK_WAYS`."""
    graph = _graph(seed)
    known = graph.known
    network = _train(graph, known, seed)
    generator = torch.Generator().manual_seed(seed + 5)
    open_pairs = torch.ones(graph.candidates.shape[1], dtype=torch.bool)
    for _ in range({"known links alone": 0, "all at once": 1}.get(way, ROUNDS)):
        rows = open_pairs.nonzero()[:, 0]
        pairs = graph.candidates[:, rows]
        if way == "random":
            chosen = torch.randperm(len(rows), generator=generator)[:PER_ROUND]
        else:
            views = [
                _probabilities(network, graph, edges=dropped, pairs=pairs)
                for dropped in (known, *(drop_edges(known, DROPPED, generator=generator) for _ in range(2)))
            ]
            count = PER_ROUND * ROUNDS if way == "all at once" else PER_ROUND
            chosen = select_links(
                views[:1] if way == "all at once" else views, threshold=THRESHOLD, count=count
            )
        known = torch.cat([known, pairs[:, chosen]], dim=1)
        open_pairs[rows[chosen]] = False
        network = _train(graph, known, seed)
    scores = _probabilities(network, graph, edges=known, pairs=graph.candidates)
    return float(roc_auc_score(graph.truth.numpy(), scores.numpy()))


@cache
def _graph(seed: int) -> _Links:
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (NODES,), generator=generator)
    edges = planted_partition(classes, inside=0.2, between=0.02, generator=generator)
    features = F.one_hot(classes, CLASSES).float() @ torch.randn(CLASSES, WIDTH, generator=generator)
    features = features * 0.5 + torch.randn(NODES, WIDTH, generator=generator)
    order = torch.randperm(edges.shape[1], generator=generator)
    known = edges[:, order[: int(KNOWN * len(order))]]
    every = torch.triu_indices(NODES, NODES, offset=1)
    codes, hidden = every[0] * NODES + every[1], known[0] * NODES + known[1]
    candidates = every[:, ~torch.isin(codes, hidden)]
    truth = torch.isin(candidates[0] * NODES + candidates[1], edges[0] * NODES + edges[1])
    return _Links(features, known, candidates, truth)


def _train(graph: _Links, known: Tensor, seed: int) -> GraphAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GraphAutoencoder(WIDTH, 32, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    spread = propagation(known, NODES)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        negative = torch.randint(NODES, (2, known.shape[1]), generator=generator)
        embedded = network(graph.features, spread)
        there, not_there = (network.link_logits(embedded, pairs) for pairs in (known, negative))
        loss = F.softplus(-there).mean() + F.softplus(not_there).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return network.eval()


@torch.no_grad()
def _probabilities(network: GraphAutoencoder, graph: _Links, *, edges: Tensor, pairs: Tensor) -> Tensor:
    return torch.sigmoid(network.link_logits(network(graph.features, propagation(edges, NODES)), pairs))
