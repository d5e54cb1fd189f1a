"""FROC against hand-worked maps and against a second implementation that only loops."""

import numpy as np
import pytest

from wsi_kd.evaluation.aggregates import TOO_FEW_CASES
from wsi_kd.evaluation.detections import lesions, neighbor_pairs, peaks
from wsi_kd.evaluation.froc import RATES, SlideDetections, detect, froc_sensitivity, gather
from wsi_kd.evaluation.froc_record import FrocSeed, froc_record
from wsi_kd.evaluation.intervals import draw_resamples

EDGE = 256.0


def grid(rows, *, step=256):
    """Coordinates, row by row, and the values of a map drawn as nested lists; None: no tile there."""
    cells = [(x, y, value) for y, row in enumerate(rows) for x, value in enumerate(row) if value is not None]
    coords = np.array([[x * step, y * step] for x, y, _ in cells], dtype=np.int64)
    return coords, np.array([value for *_, value in cells], dtype=np.float64)


def found(scores, labels, *, step=256):
    coords, values = grid(scores, step=step)
    truth = grid(labels, step=step)[1].astype(np.int8)
    return detect(values, truth, coords=coords, tile_level0_px=EDGE)


def sensitivity(slides, rates, *, counted=None, counts=None, cases=None):
    cases = np.arange(len(slides)) if cases is None else np.array(cases)
    return froc_sensitivity(
        gather(slides),
        np.array(rates, dtype=np.float64),
        case_of=cases,
        counts=np.ones((int(cases.max()) + 1, 1)) if counts is None else counts,
        counted=np.ones(len(slides), dtype=bool) if counted is None else np.array(counted),
    )


def test_peaks_lesions_and_hits_of_a_drawn_map():
    one = found(
        [
            [0.9, 0.8, 0.1, 0.1, 0.7],
            [0.8, 0.7, 0.1, 0.2, 0.6],
            [0.1, 0.1, 0.1, 0.1, 0.1],
            [0.5, 0.1, 0.3, 0.1, 0.4],
        ],
        [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 1]],
    )
    # peaks: 0.9 (lesion of three tiles), 0.7 (no lesion), 0.5 (no lesion), 0.3 and 0.4 (a lesion each)
    assert sorted(one.false_positives.tolist()) == [0.5, 0.7]
    assert sorted(one.hits.tolist()) == [0.3, 0.4, 0.9]
    assert one.candidates == 5


def test_a_lesion_hit_twice_counts_once_with_its_best_score():
    one = found([[0.9, 0.1, 0.6, 0.1]], [[1, 1, 1, 0]])
    assert one.hits.tolist() == [0.9]
    assert (one.false_positives.tolist(), one.candidates) == ([], 2)


def test_a_plateau_is_one_detection_and_a_shoulder_none():
    # 0.5, 0.5 lies on the slope to 0.9, though no neighbor of its first tile is higher
    one = found([[0.5, 0.5, 0.9, 0.1, 0.4, 0.4]], [[0] * 6])
    assert one.false_positives.tolist() == [0.9, 0.4]


def test_a_map_without_information_has_one_detection_a_piece_of_tissue():
    one = found([[0.3, 0.3, None, 0.3], [0.3, 0.3, None, 0.3]], [[0, 0, None, 0], [0, 0, None, 0]])
    assert one.false_positives.tolist() == [0.3, 0.3]


def test_tiles_that_overlap_are_neighbors_and_diagonal_ones_too():
    coords, _ = grid([[1, 1, 1, 1]], step=128)  # half overlap: 0 touches 1 and 2, not 3
    assert neighbor_pairs(coords, tile_level0_px=EDGE).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    overlapping = found([[0.9, 0.8, 0.7, 0.85]], [[0, 0, 0, 0]], step=128)
    assert overlapping.false_positives.tolist() == [0.9, 0.85]
    assert found([[0.9, 0.1], [0.1, 0.8]], [[1, 0], [0, 1]]).hits.tolist() == [0.9]


def test_tiles_whose_edge_is_no_whole_pixel_still_touch():
    def pairs(x):
        return neighbor_pairs(np.array([[0, 0], [x, 0]]), tile_level0_px=255.4).tolist()

    assert (pairs(256), pairs(257)) == ([[0, 1]], [])  # laid 255.4 apart, and rounded


def test_a_detection_on_a_tile_of_unknown_label_is_neither_hit_nor_false():
    one = found([[0.9, 0.1, 0.5]], [[-1, 0, 1]])
    assert (one.false_positives.tolist(), one.hits.tolist(), one.candidates) == ([], [0.5], 1)


def test_the_order_of_tiles_in_the_file_does_not_matter():
    rng = np.random.default_rng(1)
    coords, values = grid(rng.integers(0, 4, (9, 9)) / 4.0)
    truth = (rng.random(81) < 0.2).astype(np.int8)
    first = detect(values, truth, coords=coords, tile_level0_px=EDGE)
    order = rng.permutation(81)
    second = detect(values[order], truth[order], coords=coords[order], tile_level0_px=EDGE)
    assert first.hits.tolist() == second.hits.tolist()
    assert sorted(first.false_positives) == sorted(second.false_positives)


def test_the_camelyon_score_by_hand():
    # four slides, four lesions; thresholds 0.9, 0.6, 0.4 hit 1, 2, 3 lesions with 0, 2, 6 false positives
    slides = [
        SlideDetections(np.array([0.7, 0.5, 0.45]), np.array([0.9, 0.6]), 5),
        SlideDetections(np.array([0.65, 0.5]), np.array([0.4, -np.inf]), 3),
        SlideDetections(np.array([0.41]), np.zeros(0), 1),
        SlideDetections(np.array([0.1] * 40), np.zeros(0), 40),
    ]
    at = sensitivity(slides, RATES)[:, 0]
    # per slide: 0, 0.5 and 1.5 false positives; the last lesion is never hit
    assert at.tolist() == [0.25, 0.5, 0.5, 0.75, 0.75, 0.75]
    assert at.mean() == pytest.approx(0.5833, abs=1e-4)


def test_a_false_positive_above_every_hit_leaves_nothing_at_low_rates():
    slides = [SlideDetections(np.array([0.95]), np.array([0.9]), 2)]
    assert sensitivity(slides, [0.5, 1.0])[:, 0].tolist() == [0.0, 1.0]


def test_false_positives_can_be_counted_on_negative_slides_alone():
    slides = [
        SlideDetections(np.array([0.8, 0.7]), np.array([0.5]), 3),
        SlideDetections(np.array([0.6]), np.zeros(0), 1),
    ]
    assert sensitivity(slides, [0.5, 1.0, 2.0])[:, 0].tolist() == [0.0, 0.0, 1.0]
    assert sensitivity(slides, [0.5, 1.0, 2.0], counted=[False, True])[:, 0].tolist() == [0.0, 1.0, 1.0]


def brute_force_peaks(coords, scores):
    """Flood every plateau and look at all its neighbors; nothing shared with the code under test."""
    near = [
        [j for j in range(len(coords)) if j != i and all(abs(coords[i] - coords[j]) <= EDGE)]
        for i in range(len(coords))
    ]
    seen, tops = set(), []
    for start in sorted(range(len(coords)), key=lambda i: (coords[i][1], coords[i][0])):
        if start in seen:
            continue
        plateau, edge = {start}, [start]
        while edge:
            for j in near[edge.pop()]:
                if scores[j] == scores[start] and j not in plateau:
                    plateau.add(j)
                    edge.append(j)
        seen |= plateau
        if all(scores[j] <= scores[start] for i in plateau for j in near[i]):
            tops.append(start)
    return tops, near


def brute_force_slide(coords, scores, truth):
    tops, near = brute_force_peaks(coords, scores)
    lesion, count = {}, 0
    for start in np.flatnonzero(truth == 1):
        if start in lesion:
            continue
        edge = [start]
        while edge:
            i = edge.pop()
            lesion[i] = count
            edge += [j for j in near[i] if truth[j] == 1 and j not in lesion]
        count += 1
    best = [-np.inf] * count
    for i in tops:
        if truth[i] == 1:
            best[lesion[i]] = max(best[lesion[i]], scores[i])
    return [scores[i] for i in tops if truth[i] == 0], best


def brute_force_sensitivity(slides, rate):
    """Try every threshold there is."""
    false = [score for one, _ in slides for score in one]
    best = [score for _, hits in slides for score in hits]
    reached = 0.0
    for threshold in {*false, *best} - {-np.inf}:
        if sum(score >= threshold for score in false) / len(slides) <= rate:
            reached = max(reached, sum(score >= threshold for score in best) / len(best))
    return reached


@pytest.mark.parametrize(("seed", "step"), [(seed, step) for seed in range(4) for step in (256, 128)])
def test_random_maps_agree_with_loops(seed, step):
    rng = np.random.default_rng(seed)
    ours, theirs = [], []
    for index in range(6):
        cells = np.argwhere(rng.random((8, 8)) < 0.8)[:, ::-1] * step
        coords = rng.permutation(cells).astype(np.int64)
        scores = rng.integers(0, 8, len(coords)) / 8.0
        truth = np.where(rng.random(len(coords)) < 0.15, 1, 0).astype(np.int8) * (index > 1)
        truth[rng.random(len(coords)) < 0.1] = -1
        ours.append(detect(scores, truth.astype(np.int8), coords=coords, tile_level0_px=EDGE))
        theirs.append(brute_force_slide(coords, scores, truth))
        assert sorted(ours[-1].false_positives) == sorted(theirs[-1][0])
        assert sorted(ours[-1].hits) == sorted(theirs[-1][1])
    rates = [0.2, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
    expected = [brute_force_sensitivity(theirs, rate) for rate in rates]
    assert sensitivity(ours, rates)[:, 0].tolist() == pytest.approx(expected, abs=1e-12)
    drawn = rng.multinomial(6, np.full(6, 1 / 6)).astype(np.float64)
    if sum(len(one.hits) * times for one, times in zip(ours, drawn, strict=True)):
        copied = [one for one, times in zip(theirs, drawn, strict=True) for _ in range(int(times))]
        expected = [brute_force_sensitivity(copied, rate) for rate in rates]
        again = sensitivity(ours, rates, counts=drawn[:, None])[:, 0]
        assert again.tolist() == pytest.approx(expected, abs=1e-12)


def test_groups_without_tiles_or_pairs():
    nothing = np.zeros((0, 2), dtype=np.int64)
    assert neighbor_pairs(np.array([[0, 0]]), tile_level0_px=EDGE).shape == (0, 2)
    assert peaks(np.array([0.4]), nothing).tolist() == [0]
    assert lesions(np.array([False, False]), np.array([[0, 1]])).groups == 0


def seed_of(slides, *, positive, reason=""):
    cases = tuple(f"case{index}" for index in range(len(slides)))
    return FrocSeed(tuple(slides), cases, np.array(positive, dtype=bool), reason)


def test_the_record_is_the_mean_over_seeds_with_bands_and_skips_slides_without_tile_labels():
    good = SlideDetections(np.zeros(0), np.array([0.9]), 1)
    bad = SlideDetections(np.array([0.8] * 40), np.array([0.1]), 41)
    clean = SlideDetections(np.array([0.5]), np.zeros(0), 1)
    cases = ["case0", "case1", "case2"]
    resamples = draw_resamples(np.array([[1.0, 0, 0], [0, 1.0, 0]]), samples=100, seed=0)
    record = froc_record(
        [
            seed_of([good, clean, None], positive=[True, False, True]),
            seed_of([bad, clean, None], positive=[True, False, True]),
        ],
        cases=cases,
        resamples=resamples,
        confidence=0.95,
    )
    assert (record["lesions"], record["slides"], record["reason"]) == (1, 2, "")
    assert record["sensitivity"] == [0.5] * 6  # seed 0 always, seed 1 never: 40.5 false positives a slide
    assert record["score"]["estimate"] == 0.5
    assert (record["low"], record["high"]) == ([0.5] * 6, [0.5] * 6)
    assert record["negative_slides"]["sensitivity"] == [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert record["candidates"] == pytest.approx((1.0 + 21.0) / 2)
    assert len(record["curve"]["sensitivity"]) == len(record["curve"]["false_positives_per_slide"]) == 57


@pytest.mark.parametrize(
    ("slides", "positive", "reason", "told"),
    [
        ([SlideDetections(np.array([0.5]), np.zeros(0), 1)], [False], "", "no test slide has a lesion"),
        ([], [], "no positions", "no positions"),
        ([None], [True], "", "no test slide has a lesion"),
    ],
)
def test_what_cannot_be_measured_has_a_reason(slides, positive, reason, told):
    record = froc_record(
        [seed_of(slides, positive=positive, reason=reason)], cases=["case0"], resamples=None, confidence=0.95
    )
    assert told in record["reason"]
    assert (record["sensitivity"], record["score"]["estimate"]) == ([], None)
    assert told in record["score"]["reason"]


def test_no_negative_slides_leave_the_other_score():
    record = froc_record(
        [seed_of([SlideDetections(np.zeros(0), np.array([0.9]), 1)], positive=[True])],
        cases=["case0"],
        resamples=None,
        confidence=0.95,
    )
    assert record["score"]["estimate"] == 1.0
    assert record["score"]["reason"] == TOO_FEW_CASES
    assert record["negative_slides"]["score"]["reason"] == "no negative slides"


def test_resamples_without_a_negative_slide_are_left_out_of_their_band():
    hit = SlideDetections(np.zeros(0), np.array([0.9]), 1)
    clean = SlideDetections(np.zeros(0), np.zeros(0), 0)
    cases = ["case0", "case1", "case2"]
    resamples = draw_resamples(np.array([[1.0, 1.0, 0.0]]), samples=200, seed=0)
    record = froc_record(
        [seed_of([hit, hit, clean], positive=[True, True, False])],
        cases=cases,
        resamples=resamples,
        confidence=0.95,
    )
    assert record["score"]["resamples"] == 200
    assert 100 < record["negative_slides"]["score"]["resamples"] < 200
    assert record["negative_slides"]["low"] == record["negative_slides"]["high"] == [1.0] * 6
