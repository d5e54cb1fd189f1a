"""Method search: it trains with the winner, goes on after a kill, and says what it found."""

import json
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wsi_kd.core.errors import BadInput
from wsi_kd.distillation.criteria import create_loss
from wsi_kd.distillation.methods.search import distill_search
from wsi_kd.distillation.paraphraser_check import rest_of
from wsi_kd.distillation.proxy import FirstBatches, Proxy, with_genome
from wsi_kd.distillation.registry import TRAINERS
from wsi_kd.distillation.task import Data, Task, TrainPlan
from wsi_kd.kd.losses.kl import KdLoss
from wsi_kd.kd.losses.task import CrossEntropyLoss
from wsi_kd.kd.search.genome import Genome

SMALL = {"population": 4, "generations": 1, "elite": 2, "proxy_epochs": 1, "proxy_batches": 3}
SPACE = {"transforms": ["norm_n", "abs"], "distances": ["kl", "l2"], "weights": [1.0, 3.0]}


def make_network(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


def make_task(state_path=None, **changed):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 4, generator=generator)
    samples = TensorDataset(inputs, inputs[:, :3].argmax(dim=1))
    parts = torch.utils.data.random_split(samples, [60, 30, 30], generator=generator)
    train, val, test = (DataLoader(part, batch_size=12, shuffle=part is parts[0]) for part in parts)
    plan = TrainPlan(2, partial(torch.optim.Adam, lr=1e-2), None, "cpu", 5)
    task = Task(
        make_network(4, 1),
        [make_network(16, 2)],
        Data(train, val, test, 3, (4,)),
        {"ce": (CrossEntropyLoss(), 1.0)},
        {},
        plan,
        state_path=state_path,
    )
    return task._replace(**changed)


def test_the_winner_trains_the_student(tmp_path):
    task = make_task(tmp_path / "state-1.safetensors")
    before = {name: value.clone() for name, value in task.student.state_dict().items()}

    outcome = distill_search(task, **SMALL, **SPACE, layers=[("0", "0")])

    told = outcome.told
    genome = Genome.of_json(told["genome"])
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["fitness"] == max(rated["fitness"] for rated in told["evaluations"])
    assert told["formula"] == genome.told
    assert set(told["rejected"]) <= {reason for reason in told["rejected"]}
    assert {"ce", "searched", "val_accuracy"} <= set(outcome.history[0])
    assert len(outcome.history) == 2
    stored = json.loads((tmp_path / "genome.json").read_text())
    assert stored.pop("content_sha256")
    assert stored == told["genome"]
    assert any(not torch.equal(outcome.weights[name], value) for name, value in before.items())
    again = distill_search(make_task(), **SMALL, **SPACE, layers=[("0", "0")])
    assert again.told == told
    assert again.history == outcome.history


def test_a_killed_search_is_gone_on_with(tmp_path, monkeypatch):
    whole = distill_search(make_task(), **SMALL, **SPACE)
    task, calls = make_task(tmp_path / "state.safetensors"), []
    trained = Proxy.__call__

    def counted(proxy, genome):
        calls.append(genome)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return trained(proxy, genome)

    monkeypatch.setattr(Proxy, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        distill_search(task, **SMALL, **SPACE)
    resumed = distill_search(task, **SMALL, **SPACE)

    assert resumed.told == whole.told
    assert resumed.history == whole.history
    assert len(calls) == len(whole.told["evaluations"]) + 1
    other = make_task(tmp_path / "state.safetensors", student=make_network(4, 9))
    with pytest.raises(BadInput, match="it is of another search"):
        distill_search(other, **SMALL, **SPACE)


def test_short_trainings_leave_the_task_as_it_is():
    task = make_task()
    student = {name: value.clone() for name, value in task.student.state_dict().items()}
    proxy = Proxy(task, (0, 1), 2, 3, "accuracy")

    scores = [proxy(Genome(temperature=2.0)) for _ in range(2)]

    assert scores[0] == scores[1]
    assert all(torch.equal(value, student[name]) for name, value in task.student.state_dict().items())
    first, second = (Proxy(task, (seed,), 2, 3, "accuracy")(Genome(temperature=2.0)) for seed in (0, 1))
    assert scores[0] == pytest.approx((first + second) / 2)


def test_gaps_are_rated_without_labels():
    """A student that is the teacher, and does not move, has none."""
    task = make_task()
    frozen = task.plan._replace(optimizer=partial(torch.optim.SGD, lr=0.0))
    same = task._replace(student=make_network(16, 2), plan=frozen)
    other = task._replace(plan=frozen)

    assert Proxy(same, (0,), 1, 1, "gaps")(Genome()) == pytest.approx(0.0, abs=1e-5)
    assert Proxy(other, (0,), 1, 1, "gaps")(Genome()) < -0.1


def test_a_genome_stands_beside_the_criteria():
    task = make_task()
    chosen = with_genome(task, Genome(("0", "0"), (), "l2", 3.0))

    assert list(chosen.criteria) == ["ce", "searched"]
    assert chosen.criteria["searched"][1] == 3.0
    assert chosen.layers == {"searched": ("0", "0")}
    assert chosen.criteria["ce"][0] is not task.criteria["ce"][0]
    assert list(task.criteria) == ["ce"]


def test_an_epoch_can_be_cut_short():
    loader = FirstBatches([1, 2, 3], 2)
    assert [list(loader), list(loader)] == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({"teachers": []}, {}, "method search: there are 0 teachers; it takes one"),
        ({"criteria": {"searched": (KdLoss(), 1.0)}}, {}, "a criterion is called 'searched'"),
        ({}, {"objective": "acuracy"}, r"did you mean 'accuracy'"),
        ({}, {"proxy_seeds": 0}, "proxy_seeds is 0; expected at least 1"),
        ({}, {"logits": False}, "search space: it has no layers"),
        ({}, {"distances": ["l3"]}, "unknown distance of a searched loss 'l3'"),
        ({}, {"layers": [("0", "fc")]}, r"unknown layer of the teacher \(Sequential\) 'fc'"),
    ],
)
def test_what_cannot_be_searched_is_refused(changed, options, said):
    with pytest.raises(BadInput, match=said):
        distill_search(make_task(**changed), **{**SMALL, **SPACE, **options})


def test_a_file_s_genome_is_a_criterion():
    genome = Genome(("a", "b"), ("norm_n",), "l1", 10.0)

    assert create_loss("searched", {"genome": genome.to_json()}).genome == genome
    assert create_loss("searched", {}).genome == Genome(temperature=4.0)
    with pytest.raises(BadInput, match="genome of SearchedLoss: schema is 7"):
        create_loss("searched", {"genome": {**genome.to_json(), "schema": 7}})
    with pytest.raises(BadInput, match="unknown option"):
        create_loss("searched", {"gnome": genome.to_json()})
    assert TRAINERS["search"] is distill_search


def test_the_rest_of_a_teacher_checks_a_paraphraser_where_it_is_its_own():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, inputs):
            return self.last(self.first(inputs) + inputs)

    network = make_network(5, 0)
    inputs = torch.randn(6, 4)
    head = rest_of(network, "1", input_shape=(4,))

    torch.testing.assert_close(head(network[:2](inputs)), network(inputs))
    assert rest_of(Around(), "first", input_shape=(3,)) is None
    assert rest_of(network, "1@0", input_shape=(4,)) is None
    with pytest.raises(BadInput, match="unknown layer"):
        rest_of(network, "9", input_shape=(4,))
