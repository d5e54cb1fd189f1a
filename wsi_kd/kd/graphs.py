"""Small graph networks in plain torch, for cautious pseudo labels on graphs: GCN, autoencoder, augmentation.

Graphs here are of tiles of a slide or of the like: undirected, their edges a (2, edges) tensor of pairs. What
torch_geometric calls `edge_index` is one, with each pair both ways and perhaps loops: `undirected` brings any
to one form, each pair once and no loops, which `propagation` does by itself. Propagation is
P = D^-1/2 (A + I) D^-1/2, a sparse matrix; torch_geometric's `gcn_norm` of an undirected graph is the same.

Source: Kipf and Welling, ICLR 2017 (arXiv 1609.02907); the autoencoder is arXiv 1611.07308.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput


def propagation(
    edges: Int64[Tensor, "two edges"], nodes: int, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the (nodes, nodes) sparse propagation matrix of an undirected graph.

    Raises:
        BadInput: as `undirected`.
    """
    edges = undirected(edges, nodes)
    loops = torch.arange(nodes, device=edges.device).expand(2, nodes)
    both = torch.cat([edges, edges.flip(0), loops], dim=1)
    degrees = torch.bincount(both[0], minlength=nodes).to(dtype)
    values = (degrees[both[0]] * degrees[both[1]]).rsqrt()
    return torch.sparse_coo_tensor(both, values, (nodes, nodes), check_invariants=False).coalesce()


def undirected(edges: Int64[Tensor, "two edges"], nodes: int) -> Int64[Tensor, "two pairs"]:
    """Return each pair of joined nodes once, the lower node first, in order; loops are left out.

    >>> undirected(torch.tensor([[1, 0, 2, 2, 1], [0, 1, 2, 1, 2]]), 3).tolist()
    [[0, 1], [1, 2]]

    Raises:
        BadInput: no edge between two nodes, nodes that are not there.
    """
    if edges.ndim != 2 or len(edges) != 2 or not edges.shape[1]:  # noqa: PLR2004  # from, to
        raise BadInput(f"edges of shape {tuple(edges.shape)}; expected (2, edges), one edge at least")
    if int(edges.min()) < 0 or int(edges.max()) >= nodes:
        raise BadInput(
            f"edges join nodes {int(edges.min())} to {int(edges.max())}; expected 0 to {nodes - 1}"
        )
    low, high = edges.min(dim=0).values, edges.max(dim=0).values
    pairs = torch.unique((low * nodes + high)[low < high])
    if not len(pairs):
        raise BadInput("all edges are loops; expected one edge between two different nodes at least")
    return torch.stack([pairs // nodes, pairs % nodes])


def grid_edges(coords: Int64[Tensor, "tiles two"], step: int) -> Int64[Tensor, "two edges"]:
    """Return the edges between tiles that touch, diagonally too: a tile has up to 8 neighbors.

    Args:
        coords: (tiles, 2) x and y, on a grid.
        step: of that grid, in the same unit.

    Raises:
        BadInput: a step below 1.
    """
    if step < 1:
        raise BadInput(f"step {step}: expected the tiles' grid step, at least 1")
    places = {place: row for row, place in enumerate(map(tuple, coords.tolist()))}
    pairs = [
        (row, places[x + dx * step, y + dy * step])
        for (x, y), row in places.items()
        for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1))
        if (x + dx * step, y + dy * step) in places
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T


def drop_edges(
    edges: Int64[Tensor, "two edges"], share: float, *, generator: torch.Generator
) -> Int64[Tensor, "two left"]:
    """Return the edges without a random share of them; one is left at least.

    Of edges that stand both ways, as in an `edge_index`, take `undirected` first: else one way may stay.

    Raises:
        BadInput: no edges, a share outside [0, 1].
    """
    if not edges.shape[1] or not 0.0 <= share <= 1.0:
        raise BadInput(f"share {share:g} of {edges.shape[1]} edges: expected 0 to 1, of one edge at least")
    kept = torch.rand(edges.shape[1], generator=generator) >= share
    kept[0] |= not bool(kept.any())
    return edges[:, kept]


def planted_partition(
    labels: Int64[Tensor, "nodes"], *, inside: float, between: float, generator: torch.Generator
) -> Int64[Tensor, "two edges"]:
    """Draw a graph whose edges have one probability inside a class and another between classes."""
    nodes = len(labels)
    first, second = torch.triu_indices(nodes, nodes, offset=1)
    same = labels[first] == labels[second]
    chance = torch.where(same, inside, between)
    drawn = torch.rand(len(first), generator=generator) < chance
    return torch.stack([first[drawn], second[drawn]])


class Gcn(nn.Module):
    """Two graph convolutions: logits = P relu(P X W1 + b1) W2 + b2."""

    def __init__(self, inputs: int, hidden: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features: Float[Tensor, "nodes inputs"], spread: Tensor
    ) -> Float[Tensor, "nodes classes"]:
        """Return each node's logits; `spread` is what `propagation` gives."""
        hidden = F.relu(torch.sparse.mm(spread, F.linear(features, self.first.weight)) + self.first.bias)
        second = F.linear(self.dropout(hidden), self.second.weight)
        logits: Tensor = torch.sparse.mm(spread, second) + self.second.bias
        return logits


class GraphAutoencoder(nn.Module):
    """Two graph convolutions to embeddings z; two nodes are linked with probability sigmoid(z_i.z_j)."""

    def __init__(self, inputs: int, hidden: int, width: int) -> None:
        super().__init__()
        self.encoder = Gcn(inputs, hidden, width)

    def forward(
        self, features: Float[Tensor, "nodes inputs"], spread: Tensor
    ) -> Float[Tensor, "nodes width"]:
        """Return the embeddings."""
        embedded: Tensor = self.encoder(features, spread)
        return embedded

    def link_logits(
        self, embedded: Float[Tensor, "nodes width"], pairs: Int64[Tensor, "two pairs"]
    ) -> Float[Tensor, "pairs"]:
        """Return the logit of each pair's link."""
        return (embedded[pairs[0]] * embedded[pairs[1]]).sum(dim=1)


def mask_of(rows: Int64[Tensor, "chosen"], nodes: int) -> Bool[Tensor, "nodes"]:
    """Return a mask of these rows."""
    mask = torch.zeros(nodes, dtype=torch.bool)
    mask[rows] = True
    return mask
