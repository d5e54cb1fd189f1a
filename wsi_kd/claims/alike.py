"""Copies of one perceptron that are trained at once, each by a loss of its own, in a third of the time."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CLONED = "copies of a perceptron: expected linear layers with biases, ReLU between them"


class Alike(nn.Module):
    """The linear layers of a perceptron, stacked: the copies start equal and share no parameter.

    An optimizer that looks at each element alone (SGD, Adam) trains them as if each were alone.

    Raises:
        TypeError: the network is no perceptron with ReLU.
    """

    def __init__(self, network: nn.Sequential, *, copies: int) -> None:
        super().__init__()
        linear, between = list(network)[::2], list(network)[1::2]
        if not all(isinstance(layer, nn.ReLU) for layer in between):
            raise TypeError(CLONED)
        self._network = (copy.deepcopy(network),)  # in a tuple: its parameters are none of this module
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer in linear:
            if not isinstance(layer, nn.Linear) or layer.bias is None:
                raise TypeError(CLONED)
            self.weights.append(nn.Parameter(layer.weight.detach().T.repeat(copies, 1, 1)))
            self.biases.append(nn.Parameter(layer.bias.detach().repeat(copies, 1, 1)))

    def forward(self, inputs: Float[Tensor, "samples features"]) -> Float[Tensor, "copies samples classes"]:
        """Return each copy's logits of the same inputs."""
        values = inputs.expand(len(self.weights[0]), -1, -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = torch.baddbmm(bias, F.relu(values) if number else values, weight)
        return values

    @torch.no_grad()
    def one(self, number: int) -> nn.Sequential:
        """Return a copy as a perceptron of its own."""
        network = copy.deepcopy(self._network[0])
        for layer, weight, bias in zip(list(network)[::2], self.weights, self.biases, strict=True):
            layer.load_state_dict({"weight": weight[number].T, "bias": bias[number, 0]})
        return network
