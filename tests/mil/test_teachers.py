"""What must hold of every teacher in the registry: packing, order, hidden instances, limits, gradients."""

from itertools import pairwise

import pytest
import torch

from wsi_kd.mil.outputs import label_scores
from wsi_kd.mil.pooling import segment_softmax
from wsi_kd.mil.registry import SCORES_ALONE, TEACHERS, WITHOUT_ATTENTION, WITHOUT_ATTENTION_DIM

HIDDEN_DIM, SIZES = 16, (1, 40, 7, 2, 300, 1)
ORDERED = {"dtfd", "transmil"}
"""Teachers that read the order of the instances."""
CONTEXTUAL = {"max_pooling", "top_k_pooling", "dsmil", "dtfd", "transmil"}
WEIGHTED_MEAN = set(TEACHERS) - {"dsmil", "transmil"}
"""Teachers whose bag logits are the attention-weighted mean of the evidence, of each branch where there are
several."""

every_teacher = pytest.mark.parametrize("name", list(TEACHERS))


def teacher_of(name, *, classes=2, dtype=torch.float64):
    torch.manual_seed(0)
    attention = {} if name in WITHOUT_ATTENTION_DIM else {"attention_dim": 8}
    return TEACHERS[name](hidden_dim=HIDDEN_DIM, classes=classes, **attention).to(dtype).eval()


def drawn_bags(*, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    instances = torch.randn(sum(SIZES), HIDDEN_DIM, generator=generator, dtype=torch.float64).relu()
    return instances.to(dtype), torch.tensor([0, *SIZES]).cumsum(0)


def random_keep(offsets, *, seed=2):
    keep = torch.rand(int(offsets[-1]), generator=torch.Generator().manual_seed(seed)) < 0.6
    keep[offsets[1:] - 1] = True  # the last and not the first, so that the first of a bag may be hidden
    return keep


def single_bags(teacher, instances, offsets):
    ends = [(int(start), int(end)) for start, end in pairwise(offsets)]
    outputs = [filled(teacher(instances[start:end], torch.tensor([0, end - start]))) for start, end in ends]
    return [torch.cat(parts) for parts in zip(*outputs, strict=True)]


def filled(output):
    """Return the parts that the teacher gives: not all have branches."""
    return [part for part in output if part is not None]


@every_teacher
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("classes", [2, 4])
def test_packed_bags_equal_a_loop_over_single_bags(name, dtype, tolerance, classes):
    teacher = teacher_of(name, classes=classes, dtype=dtype)
    instances, offsets = drawn_bags(dtype=dtype)
    packed = teacher(instances, offsets)
    assert packed.bag_logits.shape == (len(SIZES), classes)
    for part, alone in zip(filled(packed), single_bags(teacher, instances, offsets), strict=True):
        torch.testing.assert_close(part, alone, atol=tolerance, rtol=tolerance)


@every_teacher
@torch.no_grad()
def test_a_slide_of_20_000_tiles_is_the_same_alone_and_packed(name):
    teacher = teacher_of(name, dtype=torch.float32)
    instances = torch.randn(20_004, HIDDEN_DIM, generator=torch.Generator().manual_seed(0)).relu()
    packed = teacher(instances, torch.tensor([0, 3, 20_003, 20_004]))
    alone = teacher(instances[3:20_003], torch.tensor([0, 20_000]))
    torch.testing.assert_close(packed.bag_logits[1:2], alone.bag_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed.evidence[3:20_003], alone.evidence, atol=1e-5, rtol=1e-5)
    attention = segment_softmax(packed.attention_logits, torch.tensor([0, 3, 20_003, 20_004]))[3:20_003]
    expected = alone.attention_logits.softmax(0)
    torch.testing.assert_close(20_000 * attention, 20_000 * expected, atol=1e-3, rtol=1e-3)


@every_teacher
def test_the_order_of_bags_changes_nothing(name):
    teacher = teacher_of(name)
    instances, offsets = drawn_bags()
    order = [4, 0, 2, 5, 1, 3]
    rows = torch.cat([torch.arange(offsets[bag], offsets[bag + 1]) for bag in order])
    again = teacher(instances[rows], torch.tensor([0, *[SIZES[bag] for bag in order]]).cumsum(0))
    first = teacher(instances, offsets)
    expected = (first.bag_logits[order], first.attention_logits[rows], first.evidence[rows])
    for part, wanted in zip(again[:3], expected, strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-12, rtol=1e-12)


@every_teacher
def test_the_order_of_instances_matters_only_where_it_is_said_to(name):
    teacher = teacher_of(name)
    instances, offsets = drawn_bags()
    draw = torch.Generator().manual_seed(3)
    rows = torch.cat(
        [start + torch.randperm(end - start, generator=draw) for start, end in pairwise(offsets)]
    )
    first, again = teacher(instances, offsets), teacher(instances[rows], offsets)
    same = torch.allclose(again.bag_logits, first.bag_logits, atol=1e-12, rtol=1e-12)
    assert same == (name not in ORDERED)
    if same:
        torch.testing.assert_close(again.attention_logits, first.attention_logits[rows])
        torch.testing.assert_close(again.evidence, first.evidence[rows])


@every_teacher
def test_hidden_instances_count_as_not_there(name):
    teacher = teacher_of(name, classes=3)
    instances, offsets = drawn_bags()
    whole, keep = teacher(instances, offsets), random_keep(offsets)
    keep[offsets[4] + whole.attention_logits[offsets[4] : offsets[5] - 1].argmax()] = False
    counts = torch.tensor([int(keep[start:end].sum()) for start, end in pairwise(offsets)])
    kept_offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    masked, removed = teacher(instances, offsets, keep), teacher(instances[keep], kept_offsets)
    torch.testing.assert_close(masked.bag_logits, removed.bag_logits, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        segment_softmax(masked.attention_logits, offsets, keep)[keep],
        segment_softmax(removed.attention_logits, kept_offsets),
    )
    assert all(part.isfinite().all() for part in filled(masked))
    assert len(masked.attention_logits) == len(masked.evidence) == len(instances)
    assert not torch.allclose(masked.bag_logits[4], whole.bag_logits[4], atol=1e-6, rtol=0)
    everything = teacher(instances, offsets, torch.ones_like(keep))
    torch.testing.assert_close(everything.bag_logits, whole.bag_logits, atol=1e-12, rtol=1e-12)


@every_teacher
def test_a_bag_that_keeps_nothing_is_refused(name):
    instances, offsets = drawn_bags()
    keep = torch.ones(len(instances), dtype=torch.bool)
    keep[offsets[2] : offsets[3]] = False
    with pytest.raises(ValueError, match="bag 2 keeps no instance"):
        teacher_of(name)(instances, offsets, keep)


@every_teacher
def test_an_instance_alone_tells_whether_the_teacher_is_contextual(name):
    teacher = teacher_of(name)
    instances, offsets = drawn_bags()
    instances, offsets = instances[: offsets[3]], offsets[:4]
    whole = teacher(instances, offsets)
    apart = teacher(instances, torch.arange(len(instances) + 1))
    same = all(
        torch.allclose(part, alone, atol=1e-12)
        for part, alone in zip(filled(whole)[1:], filled(apart)[1:], strict=True)
    )
    assert TEACHERS[name].contextual is (not same)
    assert TEACHERS[name].contextual is (name in CONTEXTUAL)


@every_teacher
@pytest.mark.parametrize("classes", [2, 3])
def test_what_labels_read_of_an_instance_alone_is_the_same_where_it_is_said_to(name, classes):
    teacher = teacher_of(name, classes=classes)
    instances, offsets = drawn_bags()
    scores = label_scores(teacher, teacher(instances, offsets))
    apart = label_scores(teacher, teacher(instances, torch.arange(len(instances) + 1)))
    varied = scores.std(dim=0).min().item() > 0
    same = torch.allclose(scores, apart, atol=1e-12)
    assert (same and varied) == (name in SCORES_ALONE)
    assert varied == (name not in WITHOUT_ATTENTION)


@every_teacher
def test_bag_logits_are_the_weighted_mean_of_evidence_where_it_is_said(name):
    instances, offsets = drawn_bags()
    output = teacher_of(name, classes=3)(instances, offsets)
    branches = output.branch_logits
    if branches is None:
        branches = output.attention_logits[:, None].expand_as(output.evidence)
    weighted = [segment_softmax(branch, offsets) for branch in branches.unbind(dim=1)]
    shares = torch.stack(weighted, dim=1) * output.evidence
    mean = torch.stack([shares[start:end].sum(dim=0) for start, end in pairwise(offsets)])
    same = torch.allclose(mean, output.bag_logits, atol=1e-12, rtol=1e-12)
    assert same == (name in WEIGHTED_MEAN)


@every_teacher
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_finite_and_reach_the_bag_logits_weights(name, masked):
    teacher = teacher_of(name, classes=3, dtype=torch.float32).train()
    instances, offsets = drawn_bags(dtype=torch.float32)
    instances.requires_grad_()
    keep = random_keep(offsets) if masked else None
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    output = teacher(instances, offsets, keep)
    torch.nn.functional.cross_entropy(output.bag_logits, labels).backward()
    gradients = {key: weight.grad for key, weight in teacher.named_parameters() if weight.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradients[key].abs().sum() > 0 for key in gradients if key.startswith("bag_head"))
    assert instances.grad.isfinite().all()
    assert instances.grad.abs().sum() > 0
    if keep is not None:
        assert (instances.grad[~keep] == 0).all()


@every_teacher
def test_products_in_bfloat16_keep_scores_in_float32(name):
    teacher = teacher_of(name, dtype=torch.float32)
    instances, offsets = drawn_bags(dtype=torch.float32)
    exact = teacher(instances, offsets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = teacher(instances.bfloat16(), offsets)
    assert {part.dtype for part in filled(rounded)} == {torch.float32}
    large = torch.tensor(SIZES) > 1
    torch.testing.assert_close(rounded.bag_logits[large], exact.bag_logits[large], atol=0.03, rtol=0.03)


@every_teacher
def test_equal_instances_give_an_even_and_finite_attention(name):
    teacher = teacher_of(name)
    instances = torch.ones(9, HIDDEN_DIM, dtype=torch.float64)
    output = teacher(instances, torch.tensor([0, 9]))
    assert all(part.isfinite().all() for part in filled(output))
    if name not in ORDERED | {"max_pooling", "top_k_pooling"}:
        attention = segment_softmax(output.attention_logits, torch.tensor([0, 9]))
        torch.testing.assert_close(attention, torch.full((9,), 1 / 9, dtype=torch.float64))


@every_teacher
def test_enormous_instances_stay_finite(name):
    instances, offsets = drawn_bags(dtype=torch.float32)
    output = teacher_of(name, dtype=torch.float32)(instances * 1e4, offsets)
    assert all(part.isfinite().all() for part in filled(output))


@every_teacher
def test_the_same_bag_gives_the_same_bits_in_eval_mode(name):
    teacher = teacher_of(name, dtype=torch.float32)
    instances, offsets = drawn_bags(dtype=torch.float32)
    first, again = teacher(instances, offsets), teacher(instances, offsets)
    pairs = zip(filled(first), filled(again), strict=True)
    assert all(torch.equal(part, repeated) for part, repeated in pairs)
