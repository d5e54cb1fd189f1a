"""Problems to parts: each family's bags, the same for equal seeds, and no case in two parts."""

import json
from pathlib import Path

import numpy as np
import pytest
from digit_files import write_mnist
from scored_runs import features_of

from experiment_file import GaussianFamily, ImageFamily, SlideFamily
from experiment_problems import Draw, draw_parts, prepare, problem_names, problem_settings
from gaussian_bags import GaussianProblem, draw_bags
from wsi_kd.bags.manifest import SlideRow
from wsi_kd.core.errors import BadInput
from wsi_kd.features.store import write_features

CASE = {"easy": 4.0, "hard": 2.5, "same_axis": False, "witness_rate": 0.05}
GAUSSIAN = GaussianFamily(family="gaussian", cases={"two": CASE})


def draw(problem, *, seed=0, fold=0, part="test", data=Path(), cache=Path()):
    return Draw(problem, seed, fold, part, data, cache)


def test_gaussian_parts_are_the_published_draws():
    parts = draw_parts(GAUSSIAN, draw("two", seed=2))
    problem = GaussianProblem(**CASE)
    for bags, seed in ((parts.train, 1002), (parts.val, 2002), (parts.scored, 3002)):
        np.testing.assert_array_equal(bags.features, draw_bags(problem, seed).bags.features)
    np.testing.assert_array_equal(parts.hard, draw_bags(problem, 3002).hard)
    compared = draw_parts(GAUSSIAN, draw("two", part="val"))
    np.testing.assert_array_equal(compared.scored.features, compared.val.features)


def test_an_unknown_problem_is_refused():
    with pytest.raises(BadInput, match="unknown problem 'one'; known: two"):
        draw_parts(GAUSSIAN, draw("one"))


def test_image_parts_are_features_of_the_images_that_were_drawn(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (200, 28, 28), dtype=np.uint8)
    labels = (np.arange(200) % 10).astype(np.uint8)
    write_mnist(tmp_path, pixels, labels)
    family = ImageFamily(
        family="images",
        images="mnist",
        positive_class=9,
        witness_rates=(0.2, 0.5),
        instances=10,
        embed={"encoder": "stain_texture", "dtype": "float32"},
    )
    prepare(family, data=tmp_path, cache=tmp_path / "kept")
    assert problem_names(family) == ("witness_rate_20", "witness_rate_50")
    assert problem_settings(family, "witness_rate_50")["witness_rates"] == [0.5]
    parts = draw_parts(family, draw("witness_rate_20", data=tmp_path, cache=tmp_path / "kept"))
    sizes = [len(bags.labels) for bags in (parts.train, parts.val, parts.scored)]
    assert sizes == [12, 4, 4]  # 20 nines, two a bag: ten positive bags, 6 + 2 + 2
    rows = np.concatenate([bags.features for bags in (parts.train, parts.val, parts.scored)])
    assert len(np.unique(rows, axis=0)) == len(rows) == 200
    assert parts.scored.tile_labels.reshape(4, 10).sum(axis=1).tolist() == [2, 2, 0, 0]


@pytest.fixture
def embedded(tmp_path):
    """Eighteen slides of sixteen patients, as a run leaves them."""
    (tmp_path / "slides").mkdir()
    lines = ["slide_id,path,label,case_id"]
    for index in range(18):
        slide_id, label = f"s{index}", ("normal", "tumor")[index % 2]
        (tmp_path / "slides" / f"{slide_id}.tif").touch()
        case = f"case{index // 2 if index < 4 else index}"
        lines.append(f"{slide_id},slides/{slide_id}.tif,{label},{case}")
        row = SlideRow(slide_id, Path(), label, case, split="", slide_mpp=None, annotation=None, site="")
        write_features(tmp_path / "run" / "features" / f"{slide_id}.h5", features_of(row, index))
    (tmp_path / "slides.csv").write_text("\n".join(lines) + "\n")
    run = {"manifest": f"{tmp_path}/slides.csv", "results_dir": f"{tmp_path}/run"}
    (tmp_path / "run.yaml").write_text(json.dumps({"run": {**run, "classes": ["normal", "tumor"]}}))
    return SlideFamily(family="slides", settings=tmp_path / "run.yaml", folds=4)


def test_shuffled_tiles_keep_their_slide_truth_and_place(embedded):
    plain = draw_parts(embedded, draw("run")).train
    dealt = draw_parts(embedded.model_copy(update={"shuffled": True}), draw("run")).train
    again = draw_parts(embedded.model_copy(update={"shuffled": True}), draw("run", seed=0)).train
    np.testing.assert_array_equal(dealt.features, again.features)
    np.testing.assert_array_equal(dealt.offsets, plain.offsets)
    moved = 0
    for start, end in zip(plain.offsets[:-1], plain.offsets[1:], strict=True):
        tiles = [
            sorted(
                (tuple(place), int(truth), row.tobytes())
                for place, truth, row in zip(
                    bags.coords[start:end], bags.tile_labels[start:end], bags.features[start:end], strict=True
                )
            )
            for bags in (plain, dealt)
        ]
        assert tiles[0] == tiles[1]
        moved += not np.array_equal(plain.coords[start:end], dealt.coords[start:end])
    assert moved > len(plain.slide_ids) / 2


def test_embedded_slides_are_cut_by_patient(embedded, tmp_path):
    family, tested = embedded, []
    for fold in range(4):
        parts = draw_parts(family, draw("run", seed=3, fold=fold))
        cases = [
            {f"case{n // 2 if n < 4 else n}" for n in (int(name[1:]) for name in bags.slide_ids)}
            for bags in (parts.train, parts.val, parts.scored)
        ]
        assert len(set.union(*cases)) == sum(map(len, cases)) == 16
        tested += parts.scored.slide_ids
    assert sorted(tested) == sorted(f"s{index}" for index in range(18))
    (tmp_path / "run" / "features" / "s3.h5").unlink()
    absent = family.model_copy(update={"settings": tmp_path / "again.yaml"})
    (tmp_path / "again.yaml").write_text((tmp_path / "run.yaml").read_text())
    with pytest.raises(BadInput, match=r"no feature files of: s3; make them with: wsi-kd embed"):
        draw_parts(absent, draw("again"))
