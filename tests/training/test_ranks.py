"""Who takes which bags of a batch, and what its share of it is: worked by hand, without a second process."""

import pickle

import numpy as np
import pytest
import torch

from wsi_kd.core.draws import WholeBatch, drawn_rows
from wsi_kd.core.errors import RunFailed
from wsi_kd.kd.mining import mine_hard_positives
from wsi_kd.kd.sub_bags import cut_bags
from wsi_kd.mil.dropout import Dropout
from wsi_kd.mil.dtfd import Dtfd
from wsi_kd.mil.projectors import LinearProjector
from wsi_kd.training.losses import LossLedger
from wsi_kd.training.ranks import Ranks, deal, fullest_share, weighed

SIZES = (4, 1, 3, 2)
BATCH = [10, 11, 12, 13]


def test_bags_are_dealt_longest_first_to_the_least_loaded():
    assert deal([4, 1, 3, 2], 2) == [[0, 1], [2, 3]]
    assert deal([7, 7, 7], 2) == [[0, 2], [1]]
    assert deal([5], 3) == [[0], [], []]
    assert deal([], 2) == [[], []]


@pytest.mark.parametrize("hands", [2, 3, 4])
def test_no_hand_is_fuller_than_the_mean_and_a_bag(hands):
    rng = np.random.default_rng(hands)
    for _ in range(50):
        sizes = rng.integers(1, 20_000, size=rng.integers(1, 40)).tolist()
        dealt = deal(sizes, hands)
        assert sorted(place for hand in dealt for place in hand) == list(range(len(sizes)))
        fullest = max(sum(sizes[place] for place in hand) for hand in dealt)
        assert fullest <= sum(sizes) / hands + (1 - 1 / hands) * max(sizes)


def test_the_fullest_share_counts_what_the_others_wait_for():
    assert fullest_share([(4,)], 2) == 2.0  # one works, one waits
    assert fullest_share([(3, 3), (7, 7)], 2) == 1.0
    assert fullest_share([(3, 1), (4, 4)], 2) == 2 * (3 + 4) / 12  # long steps count for more
    assert fullest_share([(3, 1), (4,)], 1) == 1.0


def test_shares_of_a_batch_sum_to_one():
    shares, taken = [], []
    for rank in range(2):
        ranks = Ranks(rank, 2)
        taken.append(ranks.take_bags(BATCH, SIZES))
        shares.append(ranks.share)
    assert taken == [[10, 11], [12, 13]]
    assert [share.bags for share in shares] == [0.5, 0.5]
    assert [share.instances for share in shares] == [0.5, 0.5]
    assert [share.whole.chosen for share in shares] == [(0, 1), (2, 3)]


def test_a_share_of_bags_is_none_of_instances():
    ranks = Ranks(0, 2), Ranks(1, 2)
    assert [one.take_bags([7, 8, 9], [5, 1, 1]) for one in ranks] == [[7], [8, 9]]
    assert [one.share.bags for one in ranks] == [1 / 3, 2 / 3]
    assert [one.share.instances for one in ranks] == [5 / 7, 2 / 7]


def test_a_process_without_a_bag_stands_in_with_weight_zero():
    ranks = Ranks(1, 2)
    assert ranks.take_bags([7], [5]) == [7]
    assert (ranks.share.bags, ranks.share.instances, ranks.share.idle) == (0.0, 0.0, True)
    ledger = LossLedger(["a"], ranks)
    ledger.add("teacher loss", torch.tensor([float("nan")]), [0])
    assert ledger._entries == []  # what stands in is never told


def test_rows_are_cut_into_stretches():
    spans = []
    for rank in range(3):
        ranks = Ranks(rank, 3)
        spans.append(ranks.take_rows(7))
        assert ranks.share.instances == (spans[-1].stop - spans[-1].start) / 7
        assert ranks.share.whole.rows_of(torch.arange(7)).tolist() == list(range(7))[spans[-1]]
    assert spans == [slice(0, 2), slice(2, 4), slice(4, 7)]
    idle = Ranks(0, 3)
    assert idle.take_rows(2) == slice(0, 1)
    assert idle.share.idle


def test_one_process_takes_all_and_weighs_nothing():
    ranks = Ranks()
    assert ranks.take_bags(BATCH, SIZES) == BATCH
    assert ranks.take_rows(9) == slice(0, 9)
    assert ranks.own_bags(SIZES) == [0, 1, 2, 3]
    mean = torch.tensor(3.0)
    assert weighed(mean, ranks.share.bags) is mean
    assert weighed(mean, 0.25).item() == 0.75
    assert ranks.gathered("x") == ["x"]
    assert ranks.summed([1.0, 2.0]) == [1.0, 2.0]


def test_rows_of_all_processes_are_laid_end_to_end_and_travel_once():
    """Bag by bag as views, each went with the rows of all bags: with 40 of them 40 times as many bytes."""
    rows = torch.arange(40 * 50, dtype=torch.float32).reshape(-1, 1)
    evens, odds = list(range(0, 40, 2)), list(range(1, 40, 2))
    of_bag = torch.split(rows, 50)
    sent = []

    class Both(Ranks):
        def gathered(self, value):
            sent.append(pickle.dumps(value))
            return [pickle.loads(sent[0]), (odds, [50] * 20, torch.cat([of_bag[bag] for bag in odds]))]

    own = torch.cat([of_bag[bag] for bag in evens])
    assert torch.equal(Both(0, 2).end_to_end(own, bags=evens, lengths=[50] * 20), rows)
    assert len(sent[0]) < 1.5 * own.nbytes


def test_a_process_without_bags_sends_no_rows():
    class Both(Ranks):
        def gathered(self, value):
            assert value[:2] == ([], [])
            assert value[2].shape == (0, 2)
            return [value, ([0], [3], torch.ones(3, 2))]

    stand_in = torch.zeros(5, 2)
    assert torch.equal(Both(0, 2).end_to_end(stand_in, bags=[], lengths=[]), torch.ones(3, 2))


def parts_equal_the_whole(draw):
    """`draw(whole, places)` for each of two hands, joined in the batch's order, against one process."""
    torch.manual_seed(3)
    expected, after = draw(None, range(len(SIZES))), torch.rand(1)
    found = {}
    for chosen in deal(SIZES, 2):
        torch.manual_seed(3)
        rows = draw(WholeBatch(SIZES, tuple(chosen)), chosen)
        assert torch.equal(torch.rand(1), after)  # every process's generator stands where one's would
        found |= dict(zip(chosen, torch.split(rows, [SIZES[place] for place in chosen]), strict=True))
    assert torch.equal(torch.cat([found[place] for place in range(len(SIZES))]), expected)
    return expected


def rows_of(values, places):
    parts = torch.split(values, list(SIZES))
    return torch.cat([parts[place] for place in places])


def test_dropout_drops_what_it_would_drop_of_the_whole_batch():
    values = torch.ones(sum(SIZES), 5)

    def draw(whole, places):
        layer = Dropout(0.5)
        layer.whole = whole
        return layer(rows_of(values, places))

    assert 0.0 < parts_equal_the_whole(draw).mean() < 2.0


def test_noise_of_features_is_that_of_the_whole_batch():
    values = torch.randn(sum(SIZES), 3)
    projector = LinearProjector(3, 4)
    projector.learn_by(noise=1.0)

    def draw(whole, places):
        projector.whole = whole
        return projector(rows_of(values, places)).detach()

    quiet = LinearProjector(3, 4)
    quiet.load_state_dict(projector.state_dict())
    found = parts_equal_the_whole(draw)
    assert not torch.allclose(found, quiet(values))


def test_pseudo_bags_are_dealt_as_of_the_whole_batch():
    teacher = Dtfd(hidden_dim=2, attention_dim=2, classes=2, pseudo_bags=2)

    def draw(whole, places):
        teacher.whole = whole
        sizes = [SIZES[place] for place in places]
        offsets = torch.tensor([0, *np.cumsum(sizes).tolist()])
        return teacher._deal(offsets, sum(sizes), None) % 2  # place within the bag

    parts_equal_the_whole(draw)


def test_what_mining_hides_is_what_it_would_hide_of_the_whole_batch():
    logits = torch.full((sum(SIZES), 1), 3.0)

    def draw(whole, places):
        sizes = [SIZES[place] for place in places]
        return mine_hard_positives(
            rows_of(logits, places),
            torch.tensor([0, *np.cumsum(sizes).tolist()]),
            torch.ones(len(sizes), dtype=torch.int64),
            threshold=0.5,
            drop_probability=0.5,
            max_drop_fraction=0.9,
            symmetric=True,
            generator=torch.default_generator,
            whole=whole,
        )

    assert not parts_equal_the_whole(draw).all()


def test_pieces_are_cut_as_of_the_whole_batch():
    def draw(whole, places):
        sizes = np.array([SIZES[place] for place in places])
        cut = cut_bags(sizes, pieces=2, generator=torch.default_generator, whole=whole)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        return torch.from_numpy(cut.order - starts)  # place within the bag

    parts_equal_the_whole(draw)


def test_rows_of_a_batch_of_one_process_are_drawn_alone():
    assert drawn_rows(torch.zeros, 2, whole=None).shape == (2,)
    whole = WholeBatch((2, 3), (1,))
    assert drawn_rows(torch.arange, 3, whole=whole).tolist() == [2, 3, 4]


def test_the_first_fault_of_any_process_is_told():
    class Both(Ranks):
        def gathered(self, value):
            return [value, (1, "teacher loss of bag z is infinite")]

    ledger = LossLedger(["a", "b"], Both(0, 2))
    ledger.add("teacher loss", torch.tensor([1.0]), [0])
    ledger.add("teacher loss", torch.tensor([float("nan")]), [1])
    with pytest.raises(RunFailed, match="epoch 4: the teacher loss of bag z is infinite; lower"):
        ledger.check(4)


def test_means_over_processes_count_each_item_once():
    class Both(Ranks):
        def gathered(self, value):
            return [value, [10.0, 1.0]]

    ledger = LossLedger(["a", "b", "c"], Both(0, 2))
    ledger.add("teacher loss", torch.tensor([1.0, 3.0]), [0, 1])
    assert ledger.mean("teacher loss") == pytest.approx(14.0 / 3.0)
    ledger.add("bag loss", torch.tensor([4.0]), [0], weight=0.5)
    assert ledger.mean("bag loss") == pytest.approx((2.0 + 10.0) / 1.5)
