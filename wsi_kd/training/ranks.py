"""Several processes that train one model: every batch is split over them, and their gradients are summed.

All of them hold the same model, optimizer and random generators, and walk the same batches in the same order.
Of a batch each takes some bags; the mean losses over those, weighed by the share of the batch that they are,
sum up to the losses of the whole batch, and so do the gradients. What is drawn at random is drawn for the
whole batch by each (`core.draws`). What one process would have trained is so trained to rounding errors, and
one saved state is everybody's.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wsi_kd.core.draws import WholeBatch
from wsi_kd.core.errors import BadInput, PeerLost

Value = TypeVar("Value")


class Share(NamedTuple):
    """What part of the present batch is this process's."""

    bags: float
    """Of the batch's bags, in [0, 1]; 0: there was none left, and what it computes does not count."""
    instances: float
    """Of its instances."""
    whole: WholeBatch | None
    """None: the whole batch."""

    @property
    def idle(self) -> bool:
        """Whether nothing of the batch was left for this process."""
        return self.instances == 0.0


ALL: Final = Share(1.0, 1.0, None)


class Ranks:
    """This process among those that train one model; by itself it is rank 0 of 1 and each call costs nothing.

    What every process must call: the same methods in the same order, each as often as the others.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.share = ALL
        """Of the present batch."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def take_bags(self, batch: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """Return this process's bags of a batch, and remember its share.

        Where there are fewer bags than processes, those without one take the batch's first for a stand-in of
        weight 0, so that all have gradients of the same parameters.

        Args:
            batch: indices of bags.
            sizes: instances of each of them.
        """
        if self.count == 1:
            return list(batch)
        hand = deal(sizes, self.count)[self.rank]
        whole = WholeBatch(tuple(sizes), tuple(hand or [0]))
        self.share = Share(len(hand) / len(batch), sum(sizes[place] for place in hand) / sum(sizes), whole)
        return [batch[place] for place in whole.chosen]

    def take_rows(self, rows: int) -> slice:
        """Return this process's stretch of a batch of instances, and remember its share."""
        if self.count == 1:
            return slice(0, rows)
        start, end = (rows * place // self.count for place in (self.rank, self.rank + 1))
        if start == end:
            self.share = Share(0.0, 0.0, WholeBatch((1, rows - 1), (0,)))
            return slice(0, 1)
        part = (end - start) / rows
        self.share = Share(part, part, WholeBatch((start, end - start, rows - end), (1,)))
        return slice(start, end)

    def own_bags(self, sizes: Sequence[int]) -> list[int]:
        """Return the bags that this process scores of those that all score once; may be none."""
        return deal(sizes, self.count)[self.rank] if self.count > 1 else list(range(len(sizes)))

    def end_to_end(self, rows: Tensor, *, bags: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """Return all processes' rows, bag after bag in their order.

        Args:
            rows: this process's, on the CPU: those of `bags[0]`, then those of `bags[1]`, ...
            bags: what `own_bags` returned.
            lengths: rows of each of `bags`.
        """
        if self.count == 1:
            return rows
        # one tensor, and no view: each view would travel with all that it is a part of
        told = self.gathered((list(bags), list(lengths), rows[: sum(lengths)].clone()))
        found = {
            bag: part
            for theirs, sizes, values in told
            for bag, part in zip(theirs, torch.split(values, sizes), strict=True)
        }
        return torch.cat([found[bag] for bag in sorted(found)])

    def gathered(self, value: Value) -> list[Value]:
        """Return every process's value, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values = [value] * self.count
        with _peers_alive():
            dist.all_gather_object(values, value)
        return values

    def told_by_first(self, value: Value) -> Value:
        """Return the first process's value: what must not differ by a rounding error."""
        return self.gathered(value)[0]

    def summed(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""
        return [sum(column) for column in zip(*self.gathered(list(values)), strict=True)]

    def mean(self, values: Tensor, *, counts: bool) -> float:
        """Return the mean over all processes' values; this one's play a role where it `counts`."""
        summed = values.double()
        if self.count == 1:
            return summed.mean().item()
        total, number = self.summed([summed.sum().item(), len(summed)] if counts else [0.0, 0.0])
        return total / number

    def check_same_start(self, epoch: int, folder: Path) -> None:
        """Check that all processes go on from the same epoch.

        Raises:
            BadInput: they do not see the same output folder.
        """
        epochs = self.gathered(epoch)
        if len(set(epochs)) > 1:
            told = ", ".join(map(str, epochs))
            raise BadInput(
                f"{folder}: the processes of this training found the state of different epochs ({told}); all "
                "of them must see the same output folder"
            )

    def lowest(self, values: Tensor) -> Tensor:
        """Return the smallest of all processes' values, element by element."""
        if self.count > 1:
            values = values.clone()
            with _peers_alive():
                dist.all_reduce(values, dist.ReduceOp.MIN)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the sum of all processes' gradients in the place of each one's, by one message."""
        if self.count == 1:
            return
        gradients = [value.grad for value in parameters if value.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _peers_alive():
            dist.all_reduce(flat)
        for gradient, part in zip(
            gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    @torch.no_grad()
    def align(self, model: nn.Module) -> None:
        """Give all processes the first one's weights: different processors may round differently."""
        if self.count == 1:
            return
        for value in model.parameters():
            with _peers_alive():
                dist.broadcast(value, src=0)


def present_ranks() -> Ranks:
    """Return this process's place in torch's default process group; alone where there is none."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def deal(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Deal bags to `hands` processes: the largest first, each to the one with the fewest instances so far.

    Ties go to the earlier bag and to the earlier process; a hand's bags keep their order. No hand has more
    than 4/3 of what the best division gives the fullest one (Graham, 1969).

    >>> deal([3, 9, 2, 5, 1], 2)
    [[1, 4], [0, 2, 3]]
    """
    loads = [0] * hands
    dealt: list[list[int]] = [[] for _ in range(hands)]
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        hand = min(range(hands), key=lambda one: (loads[one], one))
        dealt[hand].append(place)
        loads[hand] += sizes[place]
    return [sorted(hand) for hand in dealt]


def fullest_share(steps: Iterable[Sequence[int]], hands: int) -> float:
    """Return how many fair shares of the instances fall to those processes that the others wait for.

    1 at best; `hands` / this is the most that so many processes can gain over one.

    Args:
        steps: instances of the bags of every step.
        hands: processes.

    >>> fullest_share([(5, 1, 1, 1), (2, 2, 2, 2)], 2)  # 5 of 8, then 4 of 8
    1.125
    """
    fullest = total = 0
    for sizes in steps:
        fullest += max(sum(sizes[place] for place in hand) for hand in deal(sizes, hands))
        total += sum(sizes)
    return hands * fullest / total


def weighed(mean: Tensor, share: float) -> Tensor:
    """Return a mean over this process's part, weighed so that all processes' sum is the mean over all."""
    return mean if share == 1.0 else mean * share


@contextmanager
def _peers_alive() -> Iterator[None]:
    """Turn what torch says of a lost process into one line."""
    try:
        yield
    except RuntimeError:
        raise PeerLost(
            "another process of this training ended, and what it said tells why; run the same command again: "
            "it goes on after the last finished epoch"
        ) from None
