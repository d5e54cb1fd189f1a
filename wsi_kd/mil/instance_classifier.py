"""The student: one logit an instance and positive class, that class against all others."""

from typing import Final

from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.mil.pooling import at_least_float32

START_BIAS: Final = -2.0
"""Of prototypes before training: an instance is positive only if a prototype comes to say so."""


class InstanceClassifier(nn.Module):
    """Linear on the projected instance (`student_hidden_dim` 0), or with one hidden layer of that width.

    With K `prototypes` a class has K linear units, s = log sum_k exp(w_k h + b_k): an instance is positive if
    it is like any of them. That is the form of the true log odds where positives are of K kinds, each a
    shifted normal distribution, and where a single linear unit has to split the difference.

    `positives` is the number of classes less one, class 0 being the negative one: column c - 1 is class c.
    """

    def __init__(
        self, *, hidden_dim: int, student_hidden_dim: int, positives: int, prototypes: int = 1
    ) -> None:
        super().__init__()
        self.hidden = (
            nn.Sequential(nn.Linear(hidden_dim, student_hidden_dim), nn.ReLU())
            if student_hidden_dim
            else nn.Identity()
        )
        self.positives = positives
        self.prototypes = prototypes
        self.head = nn.Linear(student_hidden_dim or hidden_dim, positives * prototypes)
        if prototypes > 1:
            nn.init.constant_(self.head.bias, START_BIAS)

    def forward(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances positives"]:
        """Return instance logits; the sigmoid of column c - 1 is the probability of class c."""
        units = at_least_float32(self.head(self.hidden(instances)))
        if self.prototypes == 1:
            return units
        return units.view(-1, self.positives, self.prototypes).logsumexp(dim=2)
