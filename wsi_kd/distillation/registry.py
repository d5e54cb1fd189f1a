"""Training methods by name. A new method is a file in `methods`, a line here and its settings' class."""

from collections.abc import Callable
from typing import Final

from wsi_kd.distillation.methods.dynamic_loss import distill_dynamic_loss
from wsi_kd.distillation.methods.plain import distill_plain
from wsi_kd.distillation.methods.search import distill_search
from wsi_kd.distillation.methods.variance_reduction import distill_variance_reduction
from wsi_kd.distillation.task import Outcome

TRAINERS: Final[dict[str, Callable[..., Outcome]]] = {
    "dynamic_loss": distill_dynamic_loss,
    "plain": distill_plain,
    "search": distill_search,
    "variance_reduction": distill_variance_reduction,
}
"""Each is called as `trainer(task, **options)`, with the options of its class in settings/distill.py."""
