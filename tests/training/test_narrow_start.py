"""The small model of recipe distill started from the large one's neurons."""

import numpy as np
import pytest
import torch

from wsi_kd.bags.packing import pack
from wsi_kd.core.errors import BadInput
from wsi_kd.mil.registry import create_model
from wsi_kd.training.narrow_start import start_narrow

WIDTH, CLASSES = 8, 2


def model(*, seed: int, teacher="abmil", hidden=24, attention=12, student=True, projector="linear"):
    torch.manual_seed(seed)
    built = create_model(
        teacher,
        feature_dim=WIDTH,
        hidden_dim=hidden,
        attention_dim=attention,
        classes=CLASSES,
        dropout=0.0,
        student_hidden_dim=0,
        with_student=student,
        projector=projector,
    )
    built.scaling.fit(mean=torch.full((WIDTH,), 0.5), deviation=torch.full((WIDTH,), 2.0))
    return built.eval()


@pytest.fixture
def bags(small_parts):
    """The training part's bags, with features of the width of these models."""
    train = small_parts[0]
    drawn = np.random.default_rng(0).normal(size=(len(train.features), WIDTH)).astype(np.float32)
    return train._replace(features=drawn)


def said(one, bags):
    packed = pack(bags, range(len(bags.labels)), device="cpu", dtype=torch.float32)
    with torch.no_grad():
        return one(packed.instances, packed.offsets)


def apart(ours, theirs) -> float:
    return float((ours - theirs).square().mean() / (theirs - theirs.mean(dim=0)).square().mean())


@pytest.mark.parametrize("teacher", ["abmil", "gated_abmil"])
@pytest.mark.parametrize("projector", ["linear", "affine"])
def test_at_full_width_it_is_the_large_model(bags, teacher, projector):
    large = model(seed=0, teacher=teacher, projector=projector)
    small = model(seed=1, teacher=teacher, projector=projector)
    start_narrow(small, large, bags)
    ours, theirs = said(small, bags), said(large, bags)
    for found, wanted in zip(ours[:4], theirs[:4], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_narrow_it_is_nearer_to_the_large_model_than_a_random_one(bags):
    large, random = model(seed=0), model(seed=1, hidden=10, attention=4)
    narrow = model(seed=1, hidden=10, attention=4)
    start_narrow(narrow, large, bags)
    theirs, near, far = said(large, bags), said(narrow, bags), said(random, bags)
    for name in ("evidence", "instance_logits"):
        assert apart(getattr(near, name), getattr(theirs, name)) < 0.3
        assert apart(getattr(near, name), getattr(theirs, name)) < 0.3 * apart(
            getattr(far, name), getattr(theirs, name)
        )
    attention = [one.attention_logits - one.attention_logits.mean() for one in (near, far, theirs)]
    assert apart(attention[0][:, None], attention[2][:, None]) < apart(
        attention[1][:, None], attention[2][:, None]
    )


def test_it_is_repeatable_and_leaves_the_large_model_alone(bags):
    large = model(seed=0)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    first, again = model(seed=1, hidden=10, attention=4), model(seed=2, hidden=10, attention=4)
    for small in (first, again):
        start_narrow(small, large, bags)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert all(torch.equal(value, large.state_dict()[name]) for name, value in before.items())


def test_without_a_student_on_one_side_the_rest_is_taken_over(bags):
    large = model(seed=0, student=False)
    small = model(seed=1)
    head = small.student.head.weight.clone()
    start_narrow(small, large, bags)
    assert torch.equal(small.student.head.weight, head)
    torch.testing.assert_close(
        said(small, bags).bag_logits, said(large, bags).bag_logits, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("large", "small", "says"),
    [
        ({}, {"hidden": 25}, "hidden_dim 25 is above the large model's 24"),
        ({}, {"attention": 13}, "set train.distill.attention_dim to 12"),
        ({"teacher": "gated_abmil"}, {"teacher": "gated_abmil", "attention": 4}, "attention_dim to 12"),
        ({"teacher": "gated_abmil"}, {}, "not GatedAbmil into Abmil"),
        ({"teacher": "dsmil"}, {"teacher": "dsmil"}, "abmil into abmil"),
        ({"projector": "affine"}, {}, "another train.distill.projector"),
    ],
)
def test_what_cannot_be_narrowed_is_refused(bags, large, small, says):
    with pytest.raises(BadInput, match=says):
        start_narrow(model(seed=1, **small), model(seed=0, **large), bags)
