import numpy as np
import pytest
from PIL import Image

import encoder_precision
from encoder_precision import least_cosine, rates, read_images


def test_the_least_cosine_is_of_the_worst_tile():
    """Rows (1, 0) against (2, 0), and (0, 1) against (3, 4): cosines 1 and 4 / 5."""
    first, second = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [3.0, 4.0]])
    assert least_cosine(first, second) == pytest.approx(0.8)


def test_rates_are_tiles_by_the_median_of_seconds_taken_in_turns(monkeypatch):
    """A needs 1, 2, 9 s and B 1 s each for four tiles: 2 and 4 tiles a second."""
    seconds, order = {"a": iter([1.0, 2.0, 9.0]), "b": iter([1.0] * 3)}, []
    now = [0.0]

    def encoder(name):
        def encode(_tiles):
            order.append(name)
            now[0] += next(seconds[name])

        return encode

    monkeypatch.setattr(encoder_precision.time, "process_time", lambda: now[0])
    tiles = np.zeros((4, 1, 1, 3), np.uint8)
    assert rates({"a": encoder("a"), "b": encoder("b")}, tiles, repeats=3, threads=1) == {"a": 2.0, "b": 4.0}
    assert order == ["a", "b"] * 3


def test_images_of_a_folder_fill_a_batch_in_turn(tmp_path):
    for name, level in (("a.png", 10), ("b.png", 200)):
        Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(tmp_path / name)
    found = read_images(tmp_path, count=3, edge_px=2)
    assert found.shape == (3, 2, 2, 3)
    assert found[:, 0, 0, 0].tolist() == [10, 200, 10]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="no images"):
        read_images(tmp_path / "empty", count=1, edge_px=2)
    assert read_images(None, count=2, edge_px=8).std() > 50
