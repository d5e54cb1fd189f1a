"""The guard of hard positive mining: whole validation bags tell when the teacher starts to learn the mask."""

import logging

from wsi_kd.training.plan import Mining
from wsi_kd.training.state import TrainingState
from wsi_kd.training.validation import Validation

LOG = logging.getLogger(__name__)


def guard_mining(state: TrainingState, scores: Validation, mining: Mining) -> str:
    """Roll back and stop mining when the validation bag AUC has fallen; return the warning, else "".

    Fallen means: `guard_drop` below the best epoch so far. Mining hides instances from the teacher in
    training only, so a teacher that learned "a hidden instance means positive" fails on whole bags while
    its training loss falls. The present epoch must not be in
    `state.history` yet.
    """
    earlier = [float(row["val_teacher_auc"] or 0.0) for row in state.history]
    best = max(earlier, default=0.5)
    if not mining.guard or not state.selected_weights or scores.teacher_auc >= best - mining.guard_drop:
        return ""
    warning = (
        f"epoch {state.epoch}: hard positive mining stopped and rolled back to epoch {state.selected_epoch}: "
        f"validation bag AUC {scores.teacher_auc:.3f}, best so far {best:.3f}"
    )
    state.roll_back()
    state.mining_stopped = True
    LOG.warning("%s", warning)
    return warning
