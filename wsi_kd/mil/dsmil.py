"""DSMIL (Li, Li, Eliceiri, CVPR 2021): attention by likeness to the instance that the classifier finds.

With h_i the instances of a bag, for each class c of C:

    instance stream   e_i = W_0 h_i + b_0,   m(c) = argmax_i e_ic         (the critical instance)
    queries, values   q_i = W_q h_i + b_q,   v_i = W_v h_i + b_v
    attention         a_ic = q_i . q_m(c) / sqrt(attention_dim),  softmax over i
    bag stream        z = W_b [sum_i softmax(a)_ic v_i  for every c] + b_b
    bag logits        (e_m(c)c + z_c) / 2

The attention sums to 1, so the values of the sum are made after pooling: one product a bag instead of one an
instance. W_b reads all classes' vectors at once, as the paper's convolution of the full width does. The mean
of both streams is what is trained: without it nothing would teach the instance stream, since the choice of
the critical instance has no gradient.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from wsi_kd.mil.outputs import BagOutput
from wsi_kd.mil.pooling import at_least_float32, attention_pool, segment_argmax, segment_ids


class DsmilStreams(NamedTuple):
    """Both streams before they are averaged."""

    instance_logits: Float[Tensor, "instances classes"]
    critical: Int64[Tensor, "bags classes"]
    """Row of each class's critical instance."""
    attention_logits: Float[Tensor, "instances classes"]
    bag_stream_logits: Float[Tensor, "bags classes"]


class Dsmil(nn.Module):
    """Dual stream; the attention logits of an instance are the mean of those of the positive classes.

    With two classes they are those of class 1. The evidence is the instance stream; the bag logits are no
    weighted mean of it.
    """

    contextual: ClassVar[bool] = True
    instance_stream: ClassVar[bool] = True

    def __init__(self, *, hidden_dim: int, attention_dim: int, classes: int) -> None:
        super().__init__()
        self.instance_head = nn.Linear(hidden_dim, classes)
        self.query = nn.Linear(hidden_dim, attention_dim)
        self.value = nn.Linear(hidden_dim, hidden_dim)
        self.bag_head = nn.Linear(classes * hidden_dim, classes)

    def forward(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> BagOutput:
        """Score packed bags; an instance whose `keep` is False is neither critical nor attended to.

        Raises:
            ValueError: a bag keeps no instance.
        """
        streams = self.streams(instances, offsets, keep)
        critical_logits = streams.instance_logits.gather(0, streams.critical)
        bag_logits = 0.5 * (critical_logits + streams.bag_stream_logits)
        positive = streams.attention_logits[:, 1:] if bag_logits.shape[1] > 1 else streams.attention_logits
        return BagOutput(bag_logits, positive.mean(dim=1), streams.instance_logits)

    def streams(
        self,
        instances: Float[Tensor, "instances hidden"],
        offsets: Int64[Tensor, "bags_and_1"],
        keep: Bool[Tensor, "instances"] | None = None,
    ) -> DsmilStreams:
        """Return what the instance stream and the bag stream say each.

        Raises:
            ValueError: a bag keeps no instance.
        """
        instance_logits = at_least_float32(self.instance_head(instances))
        critical = segment_argmax(instance_logits, offsets, keep=keep)
        attention_logits = self._similarity(instances, critical, offsets)
        pooled = torch.stack(
            [
                attention_pool(of_class, instances, offsets, keep=keep)
                for of_class in attention_logits.unbind(dim=1)
            ],
            dim=1,
        )
        bag_stream_logits = at_least_float32(self.bag_head(self.value(pooled).flatten(start_dim=1)))
        return DsmilStreams(instance_logits, critical, attention_logits, bag_stream_logits)

    def _similarity(
        self,
        instances: Float[Tensor, "instances hidden"],
        critical: Int64[Tensor, "bags classes"],
        offsets: Int64[Tensor, "bags_and_1"],
    ) -> Float[Tensor, "instances classes"]:
        queries = at_least_float32(self.query(instances))
        bags = segment_ids(offsets, len(instances))
        of_class = [(queries * queries[rows][bags]).sum(dim=1) for rows in critical.unbind(dim=1)]
        return torch.stack(of_class, dim=1) / math.sqrt(queries.shape[1])
