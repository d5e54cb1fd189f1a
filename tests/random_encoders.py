"""Encoders of the table with narrow and shallow networks: their tokens, patches and registers stay."""

import torch
from safetensors.torch import save_file

from wsi_kd.features.encoder_table import ENCODERS
from wsi_kd.features.known_network import build_known

WIDTH = 48
CONCH_FEATURES = 32
VIT = {"embed_dim": WIDTH, "depth": 2, "num_heads": 3}
SWIN = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}
FEATURES = {"class": WIDTH, "class+mean": 2 * WIDTH, "attention": CONCH_FEATURES, "average": 8 * 16}


def small_row(name):
    """Return the table's line with a small network."""
    row = ENCODERS[name]
    arguments = {**row.network.arguments, **(SWIN if row.network.build == "ctranspath" else VIT)}
    network = row.network._replace(arguments=arguments, feature_dim=FEATURES[row.network.tokens])
    return row._replace(network=network)


def random_network(row, *, seed=0):
    """Return the row's network with weights that no part of it ignores, in evaluation mode."""
    network = build_known(row, without_weights=False).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter + 0.2 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return network


def published_state(network):
    """Return a network's weights as its trunk's own file names them."""
    state = {key: value.clone() for key, value in network.state_dict().items()}
    if all(key.startswith("trunk.") for key in state):  # class beside mean token: the file holds the trunk
        return {key.removeprefix("trunk."): value for key, value in state.items()}
    return state


def save_weights(row, path, *, seed=0):
    """Write random weights of a row to a file and return the network that has them."""
    network = random_network(row, seed=seed)
    save_file(published_state(network), path)
    return network
