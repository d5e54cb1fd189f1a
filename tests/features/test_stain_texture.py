import cv2
import numpy as np
import pytest

from wsi_kd.features import stain_texture as module
from wsi_kd.features.stain_texture import FEATURE_NAMES, stain_texture


def column(features, name):
    return features[:, FEATURE_NAMES.index(name)]


def tissue(*, tiles=3, edge=64, nuclei=12, radius=4, stain=1.0, seed=0):
    """Pink ground with violet discs, colored by Beer-Lambert's law."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(tiles):
        hematoxylin = np.zeros((edge, edge), np.float32)
        for x, y in rng.integers(0, edge, (nuclei, 2)).tolist():
            cv2.circle(hematoxylin, (x, y), radius, 0.9, -1)
        eosin = 0.35 + 0.08 * cv2.GaussianBlur(rng.normal(size=(edge, edge)).astype(np.float32), (5, 5), 2)
        stains = [np.array(od) / np.linalg.norm(od) for od in (module.HEMATOXYLIN_OD, module.EOSIN_OD)]
        density = stain * ((hematoxylin + 0.05)[..., None] * stains[0] + eosin[..., None] * stains[1])
        drawn.append(np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8))
    return np.stack(drawn)


def test_one_name_a_column():
    features = stain_texture(tissue(tiles=1))
    assert features.shape == (1, len(FEATURE_NAMES))
    assert features.dtype == np.float32
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == 100
    assert FEATURE_NAMES[:3] == ("mean_red", "mean_green", "mean_blue")


def test_colors_are_means_and_deviations_in_0_to_1():
    tile = np.zeros((1, 8, 8, 3), np.uint8)
    tile[:, :, :4] = (255, 51, 0)
    features = stain_texture(tile)
    assert features[0, :6] == pytest.approx([0.5, 0.1, 0.0, 0.5, 0.1, 0.0], abs=1e-6)


def test_pure_stains_are_unmixed():
    """A pixel of hematoxylin at density 1.5 is level 127.5 of hematoxylin, and none of the others."""
    unit = np.array(module.HEMATOXYLIN_OD) / np.linalg.norm(module.HEMATOXYLIN_OD)
    color = np.rint(256 * np.exp(-1.5 * unit) - 1).astype(np.uint8)
    features = stain_texture(np.broadcast_to(color, (1, 16, 16, 3)).copy())
    assert column(features, "hematoxylin_mean") == pytest.approx(0.5, abs=0.02)
    assert column(features, "eosin_mean") == pytest.approx(0.0, abs=0.02)
    assert column(features, "residual_mean") == pytest.approx(128 / 255, abs=0.02)
    assert column(features, "hematoxylin_share") > 0.95


@pytest.mark.parametrize("edge", [8, 27, 64, 101])
@pytest.mark.parametrize(
    "turned",
    [
        lambda tiles: tiles[:, :, ::-1],
        lambda tiles: tiles[:, ::-1],
        lambda tiles: np.rot90(tiles, axes=(1, 2)),
        lambda tiles: np.swapaxes(tiles, 1, 2),
    ],
    ids=["mirror", "upside_down", "quarter_turn", "transposed"],
)
def test_flips_and_quarter_turns_change_nothing(edge, turned):
    tiles = tissue(edge=edge)
    assert stain_texture(turned(tiles)) == pytest.approx(stain_texture(tiles), abs=1e-4)


def test_a_tile_alone_and_in_a_batch_are_equal():
    tiles = tissue(tiles=4)
    alone = np.concatenate([stain_texture(tile[None]) for tile in tiles])
    assert np.array_equal(stain_texture(tiles), alone)
    assert stain_texture(tiles[:0]).shape == (0, 100)


@pytest.mark.parametrize("edge", [8, 9, 256])
def test_extreme_tiles_give_finite_bounded_values(edge):
    rng = np.random.default_rng(0)
    white = np.full((edge, edge, 3), 255, np.uint8)
    dotted = white.copy()
    dotted[edge // 2, edge // 2] = 0
    noise = rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8)
    stripes = white * (np.arange(edge) % 2).astype(np.uint8)[:, None, None]
    features = stain_texture(np.stack([white, white * 0, dotted, noise, stripes]))
    assert np.isfinite(features.astype(np.float16)).all()
    assert np.abs(features).max() < 64


def test_flat_tiles_have_no_texture():
    features = stain_texture(np.stack([np.full((32, 32, 3), level, np.uint8) for level in (0, 120, 255)]))
    for name in (
        "gradient1_mean",
        "gradient9_std",
        "blob5_std",
        "blob9_density",
        "opening9_loss",
        "eosin_std",
    ):
        assert np.array_equal(column(features, name), np.zeros(3))
    assert np.array_equal(column(features, "pattern1_0"), np.ones(3))


def test_shares_sum_to_one():
    features = stain_texture(tissue())
    for prefix in ("hematoxylin_relative_bin", "eosin_relative_bin", "pattern1_", "pattern3_"):
        members = [k for k, name in enumerate(FEATURE_NAMES) if name.startswith(prefix)]
        assert features[:, members].sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_more_nuclei_give_more_peaks():
    few, many = (column(stain_texture(tissue(nuclei=n, tiles=8)), "blob5_density").mean() for n in (4, 16))
    assert many > 2 * few > 0


def test_nuclear_size_moves_the_granulometry():
    """Discs of radius 2 are gone after an opening of 5 px, discs of radius 7 stay until 13 px and more."""
    small, large = (stain_texture(tissue(radius=r, nuclei=5, tiles=8)).mean(axis=0) for r in (2, 7))
    names = [name for name in FEATURE_NAMES if name.startswith("opening")]
    lost = {r: [row[FEATURE_NAMES.index(n)] for n in names] for r, row in ((2, small), (7, large))}
    assert sum(lost[2][:2]) > sum(lost[2][2:])
    assert sum(lost[7][:2]) < sum(lost[7][2:])


def test_texture_hardly_sees_the_strength_of_the_stain():
    """Twice the stain moves mean levels far and texture little."""
    pale, strong = (stain_texture(tissue(stain=stain, tiles=6)).mean(axis=0) for stain in (0.7, 1.4))
    texture = [k for k, n in enumerate(FEATURE_NAMES) if n.startswith(("gradient", "blob", "opening"))]
    change = np.abs(strong - pale)[texture] / (np.abs(pale)[texture] + 0.05)
    assert np.median(change) < 0.1
    mean = FEATURE_NAMES.index("hematoxylin_mean")
    assert strong[mean] / pale[mean] == pytest.approx(2.0, abs=0.25)


def test_stripes_are_coherent_and_noise_is_not():
    rng = np.random.default_rng(2)
    stripes = np.where((np.arange(64) // 8 % 2)[:, None, None], 90, 200) * np.ones((64, 64, 3))
    noise = rng.integers(90, 200, (64, 64, 3))
    features = stain_texture(np.stack([stripes, noise]).astype(np.uint8))
    coherence = column(features, "gradient3_coherence")
    assert coherence[0] > 0.95
    assert coherence[1] < 0.2


def test_stains_are_correlated_as_numpy_says():
    tile = tissue(tiles=1)
    stains = module._unmix(tile[0])
    expected = np.corrcoef(stains.hematoxylin.ravel(), stains.eosin.ravel())[0, 1]
    assert column(stain_texture(tile), "hematoxylin_eosin_correlation")[0] == pytest.approx(
        expected, abs=1e-3
    )


def test_pattern_classes_are_ojalas():
    classes = module._PATTERN_OF_CODE
    assert np.bincount(classes).tolist() == [1, 8, 8, 8, 8, 8, 8, 8, 1, 198]
    assert [classes[code] for code in (0b0, 0b1, 0b11, 0b10000001, 0b101, 0b11111111)] == [0, 1, 2, 2, 9, 8]


def test_the_same_pixels_give_the_same_bits_wherever_they_lie_in_memory():
    tiles = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    expected = stain_texture(tiles)
    for shift in range(1, 9):
        memory = np.empty(tiles.size + shift, np.uint8)
        moved = memory[shift:].reshape(tiles.shape)
        moved[:] = tiles
        assert np.array_equal(stain_texture(moved), expected)
