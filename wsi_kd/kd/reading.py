"""How a distillation reads what loaders yield and asks its networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.augmentation import Augment
from wsi_kd.kd.batches import Adapter, Batch, describe, read_batch
from wsi_kd.kd.training_step import LogitsOf


class Reading(NamedTuple):
    """The user's functions around networks and loaders; None where there is none."""

    adapter: Adapter | None
    """From what a loader yields to (inputs, labels)."""
    augment: Augment | None
    """From (inputs, labels) of a training batch to those that are learned from."""
    teacher_input: Callable[[Any], Any] | None
    """From the student's inputs to the teacher's; None: both see the same tensor."""
    logits_of: LogitsOf | None
    """From what a network gives to its logits."""

    def batch(self, raw: Any, *, device: torch.device, training: bool) -> Batch:
        """Read a batch onto the device; one of the training is augmented.

        Raises:
            BadInput: a batch of another form, an augmentation that does not return (inputs, labels).
        """
        read = read_batch(raw, adapter=self.adapter, device=device)
        if not training or self.augment is None:
            return read
        made: Any = self.augment(read.inputs, read.labels)
        if not (isinstance(made, tuple | list) and len(made) == len(Batch._fields)):
            raise BadInput(
                f"augment returned {describe(made)}; expected (inputs, labels), labels None if unknown"
            )
        return read_batch(tuple(made), adapter=None, device=device)
