"""Copy or average: what a network of too few neurons learns from a wider one, in closed form.

Teacher sum_j b_j erf(v_j.x / sqrt 2) of k neurons, student sum_i a_i erf(w_i.x / sqrt 2) of n < k, inputs
x ~ N(0, I). The expected squared difference needs no data:

    K(w, v) = E[erf(w.x / sqrt 2) erf(v.x / sqrt 2)] = (2 / pi) arcsin(w.v / sqrt((1 + |w|^2) (1 + |v|^2)))
    loss    = a' K(W, W) a - 2 a' K(W, V) b + b' K(V, V) b

For orthonormal v_j and b_j = 1 one neuron does best at the average of all,

    a = k,  w = sum_j v_j / sqrt(k (2 k - 1)),  loss(k) = k / 3 - (2 / pi) k^2 arcsin(1 / (2 k)),

and any partition of the teacher's neurons, each part averaged by one student neuron, is a critical point of
the whole, its loss the sum. loss(k) is concave, so the best partition copies n - 1 neurons and averages the
rest. Near n = k (from about .8 k on) there are lower points, where no neuron is a plain copy.

Source: Simsek, Bendjeddou, Gerstner and Brea, "Should under-parameterized student networks copy or average
teacher weights?", NeurIPS 2023 (arXiv 2311.01644); the closed form of one neuron is derived in
docs/kd_theory.md. `wsi_kd.kd.narrow` makes a smaller network of a trained one after the same rule.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from wsi_kd.core.errors import BadInput


class Neurons(NamedTuple):
    """A network of one hidden layer and one output, without biases."""

    weights: Float[Tensor, "neurons inputs"]
    outgoing: Float[Tensor, "neurons"]


class Average(NamedTuple):
    """The one neuron that stands for k orthonormal ones."""

    outgoing: float
    norm: float
    """Of its weights, which point along the sum of the k."""
    loss: float


def erf_kernel(
    left: Float[Tensor, "lefts inputs"], right: Float[Tensor, "rights inputs"]
) -> Float[Tensor, "lefts rights"]:
    """Return E[erf(w.x / sqrt 2) erf(v.x / sqrt 2)] over x ~ N(0, I) of all pairs of rows.

    >>> w = torch.ones(1, 1, dtype=torch.float64)
    >>> round(erf_kernel(w, w).item(), 6)  # (2 / pi) arcsin(1 / 2)
    0.333333
    """
    norms = (1.0 + left.square().sum(dim=1))[:, None] * (1.0 + right.square().sum(dim=1))[None, :]
    return (2.0 / math.pi) * torch.arcsin(left @ right.T / norms.sqrt())


def expected_loss(student: Neurons, teacher: Neurons) -> Float[Tensor, ""]:
    """Return the expected squared difference of two erf networks over x ~ N(0, I), without the factor 1/2.

    Raises:
        BadInput: they take inputs of different width.
    """
    if student.weights.shape[1] != teacher.weights.shape[1]:
        raise BadInput(
            f"the student's neurons have {student.weights.shape[1]} inputs and the teacher's "
            f"{teacher.weights.shape[1]}; both must see the same inputs"
        )
    own, theirs = student.outgoing, teacher.outgoing
    among_students = own @ erf_kernel(student.weights, student.weights) @ own
    between = own @ erf_kernel(student.weights, teacher.weights) @ theirs
    return among_students - 2.0 * between + theirs @ erf_kernel(teacher.weights, teacher.weights) @ theirs


def one_average(neurons: int) -> Average:
    """Return the best single neuron for k orthonormal ones of outgoing weight 1.

    >>> [round(one_average(k).loss, 7) for k in (1, 2, 3)]
    [0.0, 0.0232217, 0.0405932]

    Raises:
        BadInput: no neurons.
    """
    if neurons < 1:
        raise BadInput(f"an average of {neurons} neurons; expected at least 1")
    # at k = 1 it is the copy: k / 3 - (2 / pi) (pi / 6) is 0 but for rounding
    loss = 0.0 if neurons == 1 else neurons / 3.0 - (2.0 / math.pi) * neurons**2 * math.asin(0.5 / neurons)
    return Average(float(neurons), 1.0 / math.sqrt(2.0 * neurons - 1.0), loss)


def orthonormal_teacher(neurons: int, *, inputs: int | None = None) -> Neurons:
    """Return the teacher of the closed form: unit vectors, outgoing weights 1, in float64.

    `inputs` is at least the number of neurons (the default).

    Raises:
        BadInput: fewer inputs than neurons.
    """
    inputs = neurons if inputs is None else inputs
    if inputs < neurons:
        raise BadInput(f"{neurons} orthonormal neurons need {neurons} inputs at least, found {inputs}")
    return Neurons(torch.eye(neurons, inputs, dtype=torch.float64), torch.ones(neurons, dtype=torch.float64))


def partition_point(parts: Sequence[int], *, inputs: int | None = None) -> Neurons:
    """Return the critical student in which neuron i averages the next parts[i] of the teacher's neurons.

    The teacher is `orthonormal_teacher(sum(parts), inputs=inputs)`.

    Raises:
        BadInput: an empty part, or fewer inputs than neurons.
    """
    averages = [one_average(part) for part in parts]
    teacher = orthonormal_teacher(sum(parts), inputs=inputs)
    groups = torch.split(teacher.weights, list(parts))
    weights = torch.stack(
        [
            group.sum(dim=0) * (average.norm / math.sqrt(part))
            for part, group, average in zip(parts, groups, averages, strict=True)
        ]
    )
    outgoing = torch.tensor([average.outgoing for average in averages], dtype=torch.float64)
    return Neurons(weights, outgoing)


def partition_loss(parts: Sequence[int]) -> float:
    """Return the loss at `partition_point(parts)`: the sum over its parts."""
    return math.fsum(one_average(part).loss for part in parts)


def best_partition(teacher_neurons: int, student_neurons: int) -> tuple[int, ...]:
    """Return the partition of lowest loss: one average of what is left, then copies.

    >>> best_partition(7, 3)
    (5, 1, 1)

    Raises:
        BadInput: a student without neurons, or wider than the teacher.
    """
    if not 1 <= student_neurons <= teacher_neurons:
        raise BadInput(
            f"a student of {student_neurons} neurons for a teacher of {teacher_neurons}; "
            f"expected 1 to {teacher_neurons}"
        )
    return (teacher_neurons - student_neurons + 1, *(1 for _ in range(student_neurons - 1)))


def partitions(neurons: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write `neurons` as a sum of `parts` numbers above 0, each falling.

    >>> list(partitions(7, 3))
    [(5, 1, 1), (4, 2, 1), (3, 3, 1), (3, 2, 2)]
    """
    yield from _partitions(neurons, parts, largest=neurons)


def _partitions(neurons: int, parts: int, *, largest: int) -> Iterator[tuple[int, ...]]:
    if parts == 0:
        if neurons == 0:
            yield ()
        return
    for first in range(min(largest, neurons - parts + 1), 0, -1):
        if first * parts < neurons:
            break  # what is left could not be shared among falling parts
        for rest in _partitions(neurons - first, parts - 1, largest=first):
            yield (first, *rest)
