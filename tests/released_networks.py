"""The networks of WENO's released code, for its golden numbers: deep heads, BatchNorm, two student logits."""

from torch import nn

from wsi_kd.mil.dsmil import Dsmil
from wsi_kd.mil.instance_classifier import InstanceClassifier
from wsi_kd.mil.outputs import BagOutput, LossShares
from wsi_kd.mil.pooling import attention_pool
from wsi_kd.mil.weno import TeacherStudent
from wsi_kd.training.losses import teacher_losses


class ReleasedTeacher(nn.Module):
    """Two ReLU layers, plain attention, a linear bag head; key names of the reference."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.ModuleDict({"1": nn.Linear(16, 16), "4": nn.Linear(16, 16)})
        self.attention = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))
        self.top_layer = nn.Linear(16, 2)

    def forward(self, instances, offsets, keep=None):
        hidden = self.classifier["4"](self.classifier["1"](instances).relu()).relu()
        attention, evidence = self.attention(hidden).squeeze(-1), self.top_layer(hidden)
        return BagOutput(attention_pool(attention, evidence, offsets, keep=keep), attention, evidence)


class ReleasedDualStream(nn.Module):
    """Two ReLU layers and DSMIL; half of the loss is the cross entropy of the positive critical instance."""

    contextual, instance_stream = True, True
    loss_shares = LossShares(bag=0.5, auxiliary=0.5)

    def __init__(self):
        super().__init__()
        self.classifier = nn.ModuleDict({"1": nn.Linear(16, 16), "4": nn.Linear(16, 16)})
        self.dual = Dsmil(hidden_dim=16, attention_dim=16, classes=2)

    def deepen(self, instances):
        return self.classifier["4"](self.classifier["1"](instances).relu()).relu()

    def forward(self, instances, offsets, keep=None):
        streams = self.dual.streams(self.deepen(instances), offsets, keep)
        return BagOutput(streams.bag_stream_logits, streams.attention_logits[:, 1], streams.instance_logits)

    def auxiliary_losses(self, instances, offsets, bag_labels, *, keep=None):
        streams = self.dual.streams(self.deepen(instances), offsets, keep)
        return teacher_losses(streams.instance_logits[streams.critical[:, 1]], bag_labels)


TEACHERS = {"attention": ReleasedTeacher, "dsmil": ReleasedDualStream}


class ReleasedStudent(InstanceClassifier):
    """Three layers and two logits, told apart by their difference: softmax of two is its sigmoid."""

    def __init__(self):
        super().__init__(hidden_dim=16, student_hidden_dim=0, positives=1)
        del self.hidden, self.head
        self.classifier = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU())
        self.top_layer = nn.Linear(24, 2)

    def forward(self, instances):
        logits = self.top_layer(self.classifier(instances))
        return logits[:, 1:] - logits[:, :1]


class ReleasedModel(TeacherStudent):
    """Linear and BatchNorm as the projector, no scaling, no dropout."""

    def __init__(self, kind):
        super().__init__(
            feature_dim=16, hidden_dim=16, dropout=0.0, teacher=TEACHERS[kind](), student=ReleasedStudent()
        )
        self.projector = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))

    def project(self, features):
        return self.projector(features)
