"""Hard positive mining: hide from the teacher what the student already finds easy.

The paper's rule (threshold only, positive bags only) truncates positive bags alone, so that the teacher
learns "a high score means label 0" and inverts on whole bags. `drop_probability`, `max_drop_fraction` and
`symmetric` soften it.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from wsi_kd.core.draws import WholeBatch, drawn_rows


@torch.no_grad()
def mine_hard_positives(
    student_logits: Float[Tensor, "instances positives"],
    offsets: Int64[Tensor, "bags_and_1"],
    bag_labels: Int64[Tensor, "bags"],
    *,
    threshold: float,
    drop_probability: float,
    max_drop_fraction: float,
    symmetric: bool,
    generator: torch.Generator,
    whole: WholeBatch | None = None,
) -> Bool[Tensor, "instances"]:
    """Return which instances the teacher may see (True); every bag keeps at least one.

    Hidden, with `drop_probability`: those whose student probability of the bag's class is > `threshold`
    (compared as logits), in positive bags; if `symmetric`, in negative bags too those of any positive class.
    At most floor(max_drop_fraction * size) of a bag are hidden, the most positive ones; if that would be all
    of them, the single most positive stays. `drop_probability` 1, `max_drop_fraction` 1 and not symmetric is
    the paper's rule. `whole` is the batch that the bags belong to, where several processes share it.
    """
    sizes = offsets.diff()
    bags = torch.repeat_interleave(
        torch.arange(len(sizes), device=sizes.device), sizes, output_size=len(student_logits)
    )
    classes = bag_labels[bags]
    positivity = _positivity(student_logits, classes)
    hide = positivity > math.log(threshold / (1.0 - threshold))
    if not symmetric:
        hide &= classes > 0
    if drop_probability < 1.0:
        # drawn on the generator's device, so that CPU and GPU hide the same instances for a seed
        def lots(rows: int) -> Tensor:
            return torch.rand(rows, generator=generator, device=generator.device)

        draw = drawn_rows(lots, len(student_logits), whole=whole)
        hide &= (draw < drop_probability).to(hide.device)
    allowed = (sizes * max_drop_fraction + 1e-9).floor().to(torch.int64)
    ranks = _rank_hidden(positivity, hide, offsets)
    hidden = torch.segment_reduce(hide.float(), "sum", offsets=offsets, axis=0, unsafe=True)
    spared = (hidden == sizes) & (allowed == sizes)
    return ~(hide & (ranks < allowed[bags])) | (spared[bags] & (ranks == 0))


def _positivity(
    student_logits: Float[Tensor, "instances positives"], classes: Int64[Tensor, "instances"]
) -> Float[Tensor, "instances"]:
    """Take the logit of the bag's class; in negative bags the largest."""
    own = student_logits.gather(1, (classes - 1).clamp(min=0)[:, None]).squeeze(1)
    return torch.where(classes > 0, own, student_logits.amax(dim=1))


def _rank_hidden(
    positivity: Float[Tensor, "instances"],
    hide: Bool[Tensor, "instances"],
    offsets: Int64[Tensor, "bags_and_1"],
) -> Int64[Tensor, "instances"]:
    """Rank within the bag, candidates first, the most positive at 0; ties keep their order."""
    bags = torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff(), output_size=len(hide)
    )
    order = positivity.masked_fill(~hide, -torch.inf).argsort(descending=True, stable=True)
    order = order[bags[order].argsort(stable=True)]
    ranks = torch.empty_like(bags)
    ranks[order] = torch.arange(len(hide), device=hide.device) - offsets[:-1][bags]
    return ranks
