"""infer on every real slide and every faulty file: a prediction, or a status with its reason."""

from pathlib import Path

import numpy as np
import pytest
from untrained_models import write_model

from wsi_kd.bags.manifest import rows_of_slides
from wsi_kd.core.files import read_json
from wsi_kd.core.records import SlideStatus
from wsi_kd.inference.tables import read_tiles_csv
from wsi_kd.steps.infer import run_infer

pytestmark = pytest.mark.shared_data

STATUS_OF = {
    "CMU-1-Small-Region.svs": SlideStatus.OK,
    "cmu1_small_4level_aperio.svs": SlideStatus.OK,
    "os2_ki67_4level_generic_mpp.tif": SlideStatus.OK,
    "test3-DAPI-2-_387_.ndpi": SlideStatus.EMPTY,  # fluorescence
    "ezwsi_multiframe_camelyon_challenge_image.dcm": SlideStatus.MISSING_MPP,  # 28.97 um/px: implausible
    "OS-1-detail.ome.tif": SlideStatus.OK,  # OpenSlide rejects it, tifffile reads it
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    """An untrained model with the default tiling: what it says is not the point here."""
    return write_model(tmp_path_factory.mktemp("model"), sections={})


def _infer(paths, *, model_dir, out_dir):
    rows = rows_of_slides(paths, slide_mpp=None)
    return {status.slide_id: status for status in run_infer(rows, model_dir=model_dir, out_dir=out_dir)}


def test_real_slides_end_as_they_should(shared_data, model_dir, tmp_path):
    paths = sorted(path for folder in ("wsi", "derived") for path in (shared_data / folder).iterdir())
    assert {path.name for path in paths} == set(STATUS_OF)
    rows = rows_of_slides(paths, slide_mpp=None)
    statuses = _infer(paths, model_dir=model_dir, out_dir=tmp_path)
    found = {row.path.name: statuses[row.slide_id].status for row in rows}
    reasons = {row.path.name: statuses[row.slide_id].reason for row in rows}
    assert found == STATUS_OF, reasons
    assert all(reasons[name] for name, status in STATUS_OF.items() if status != SlideStatus.OK)


def test_two_files_of_one_scan_agree(shared_data, model_dir, tmp_path):
    """The derived Aperio holds the same scan, re-encoded as JPEG with four levels."""
    original = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    derived = shared_data / "derived" / "cmu1_small_4level_aperio.svs"
    first, second = _infer([original, derived], model_dir=model_dir, out_dir=tmp_path).values()
    assert (first.slide_mpp, first.tiles > 20) == (pytest.approx(0.499), True)
    assert first.tissue_mm2 == pytest.approx(second.tissue_mm2, rel=0.05)
    tables = [read_tiles_csv(tmp_path / status.slide_id / "tiles.csv") for status in (first, second)]
    shared = [
        {tuple(xy): value for xy, value in zip(t.coords.tolist(), t.student_score, strict=True)}
        for t in tables
    ]
    both = shared[0].keys() & shared[1].keys()
    assert len(both) > 0.8 * len(shared[0])
    pairs = np.array([[shared[0][xy], shared[1][xy]] for xy in both])
    assert np.corrcoef(pairs.T)[0, 1] > 0.9


def test_faulty_files_get_a_status_and_a_reason(shared_data, model_dir, tmp_path):
    paths = sorted(path for path in (shared_data / "faulty").iterdir() if path.suffix != ".txt")
    statuses = _infer(paths, model_dir=model_dir, out_dir=tmp_path)
    assert len(statuses) == len(paths)
    for slide_id, status in statuses.items():
        assert status.status != SlideStatus.OK
        assert status.reason
        answer = read_json(tmp_path / slide_id / "prediction.json", remake="wsi-kd infer")
        assert (answer["status"], answer["calls"]) == (str(status.status), {})
        assert str(shared_data) not in (tmp_path / slide_id / "prediction.json").read_text()
    assert statuses["openslide_boxes"].status == SlideStatus.MISSING_MPP  # 352.8 um/px: a 72 dpi tag
