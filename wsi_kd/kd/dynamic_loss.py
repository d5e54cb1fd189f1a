"""A loss that is a small network: the dynamic loss network (DLN) of learning to teach.

    L(p, y) = sum over classes c of v . f(A (p_c, y_c) + b),  mean over the samples;  p = softmax(logits)

"1-vs-1": each pair of a class's probability and its target goes through the same perceptron, so that the loss
has the same few numbers (64 with 16 hidden units: A, b, v) for any number of classes. For dense outputs the
same perceptron, which then is a 1 x 1 convolution, sees every position.

What changes these numbers is not the student's optimizer but a teacher that sees the gradient of the
validation loss through the student's update: `LearningToTeach` of
`wsi_kd.kd.dynamic_loss_training`. Two things follow for the network:

- f must be smooth. The gradient of L in the student's weights holds f', its gradient in A and b holds f''.
  With ReLU and its kin f' is a step: what the student's update gains when a pair crosses the step is in no
  derivative, and the gradient that teaches the loss is wrong (a test shows by how much).
- v . f has no bias: a constant added to a loss changes no update, so that its gradient is always 0.

Source: Hai, Pan, Liu, Liu, Yunita, "L2T-DLN: learning to teach with dynamic loss network", NeurIPS 2023
(no code was published; sizes and the smooth f are ours).
"""

from collections.abc import Callable
from typing import ClassVar, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.core.errors import BadInput, unknown_name
from wsi_kd.kd.losses.pairing import label_targets, require_positive, student_logits, title
from wsi_kd.kd.outputs import LABELS, LOGITS, DistillationLoss, Outputs

SMOOTH: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": F.gelu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}
KINKED: Final = frozenset(
    {"celu", "elu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "prelu", "relu", "relu6", "rrelu"}
    | {"selu", "softshrink", "threshold"}
)
"""Activations whose first or second derivative jumps."""


class DynamicLoss(DistillationLoss):
    """A small network of probabilities and labels that a teacher changes; the distillation's is not asked.

    Its last layer starts at 0: at first the other criteria alone count. Its parameters are frozen, so that no
    optimizer of the student takes them; in a plain `Distiller` it is a fixed loss, such as one learned
    before.

    Args:
        hidden: hidden units of the perceptron.
        activation: one of `SMOOTH`.
        seed: of the first layer's draw.

    Raises:
        BadInput: no hidden unit; an activation that is unknown, or not smooth.
    """

    needs: ClassVar[frozenset[str]] = frozenset({LOGITS, LABELS})
    reads_teacher: ClassVar[bool] = False

    def __init__(self, *, hidden: int = 16, activation: str = "softplus", seed: int = 0) -> None:
        super().__init__()
        require_positive(self, hidden=hidden)
        _check_smooth(activation, who=title(self))
        self.activation, self.seed = activation, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Linear(2, hidden)
        self.last = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.last.weight)
        self.requires_grad_(requires_grad=False)

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor | None) -> Float[Tensor, ""]:
        """Return the sum over classes, mean over the samples.

        Dense outputs are taken too: logits (samples, classes, *space) with labels (samples, *space), or soft
        ones of the logits' shape; every position counts as a sample.

        Raises:
            BadInput: labels that are missing or do not fit.
        """
        flat, targets = _fold(student.logits, labels)
        logits = student_logits(self, Outputs(flat))
        checked = label_targets(self, targets, classes=logits.shape[1], samples=len(logits))
        soft = checked if checked.is_floating_point() else F.one_hot(checked, logits.shape[1])
        return self.of_pairs(logits.softmax(dim=1), soft.to(logits.dtype))

    def of_pairs(
        self, probabilities: Float[Tensor, "samples classes"], targets: Float[Tensor, "samples classes"]
    ) -> Float[Tensor, ""]:
        """Return the loss of probabilities and soft labels."""
        hidden = SMOOTH[self.activation](self.first(torch.stack([probabilities, targets], dim=-1)))
        by_class: Tensor = self.last(hidden).squeeze(-1)
        return by_class.sum(dim=1).mean()


def _fold(logits: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Make every position of dense outputs a sample; leave others as they are."""
    if logits.ndim <= 2:  # noqa: PLR2004  # samples and classes
        return logits, labels
    if labels is not None:
        soft = labels.is_floating_point() and labels.shape == logits.shape
        labels = labels.movedim(1, -1).flatten(0, -2) if soft else labels.flatten()
    return logits.movedim(1, -1).flatten(0, -2), labels


def _check_smooth(activation: str, *, who: str) -> None:
    if activation in SMOOTH:
        return
    if activation in KINKED:
        raise BadInput(
            f"{who}: activation '{activation}' is not smooth, and the gradient that teaches the loss goes "
            f"through second derivatives, which miss its jumps; take one of {', '.join(SMOOTH)}"
        )
    raise unknown_name(f"activation of {who}", activation, SMOOTH)
