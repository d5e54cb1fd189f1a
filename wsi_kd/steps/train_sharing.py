"""What is said before several processes train one model."""

from typing import Final

import numpy as np

from wsi_kd.bags.datasets import BagSet
from wsi_kd.bags.packing import plan_batches
from wsi_kd.core.messages import warn
from wsi_kd.settings.models import TrainSettings
from wsi_kd.training.ranks import Ranks, fullest_share

WAITING: Final = 1.25
"""Fair shares of the steps above which processes wait so long for the fullest one that it is said."""


def tell_of_waiting(train: BagSet, settings: TrainSettings, ranks: Ranks) -> None:
    """Warn where a step's slides are too few for the processes to share; of several the first is heard."""
    if ranks.count == 1:
        return
    sizes = np.diff(train.offsets).tolist()
    steps = plan_batches(
        sizes, range(len(sizes)), token_budget=settings.token_budget, bags_per_step=settings.bags_per_step
    )
    share = fullest_share([[sizes[bag] for bag in step] for step in steps], ranks.count)
    if share > WAITING:
        warn(
            f"train: steps of {len(sizes) / len(steps):.1f} slides cannot be dealt evenly to {ranks.count} "
            f"processes: at most {ranks.count / share:.1f} times as fast as one; raise train.token_budget "
            "and train.bags_per_step (which changes the model), or lower train.processes"
        )
