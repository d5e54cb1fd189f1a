"""The student: one logit an instance, positive against negative."""

from jaxtyping import Float
from torch import Tensor, nn

from wsi_kd.mil.pooling import at_least_float32


class InstanceClassifier(nn.Module):
    """Linear on the projected instance (`student_hidden_dim` 0), or with one hidden layer of that width."""

    def __init__(self, *, hidden_dim: int, student_hidden_dim: int) -> None:
        super().__init__()
        self.hidden = (
            nn.Sequential(nn.Linear(hidden_dim, student_hidden_dim), nn.ReLU())
            if student_hidden_dim
            else nn.Identity()
        )
        self.head = nn.Linear(student_hidden_dim or hidden_dim, 1)

    def forward(self, instances: Float[Tensor, "instances hidden"]) -> Float[Tensor, "instances"]:
        """Return instance logits; their sigmoid is the probability that the instance is positive."""
        return at_least_float32(self.head(self.hidden(instances)).squeeze(-1))
