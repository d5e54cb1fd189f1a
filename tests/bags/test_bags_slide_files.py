import pytest

from wsi_kd.bags.manifest import read_manifest, rows_of_slides
from wsi_kd.bags.slide_files import slides_in
from wsi_kd.core.errors import BadInput


@pytest.mark.shared_data
def test_copies_of_a_real_dicom_file_are_one_slide(shared_data, tmp_path):
    real = next((shared_data / "wsi").glob("*.dcm"))
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).symlink_to(real)
    assert slides_in(tmp_path) == [tmp_path / "a.dcm"]


def test_pictures_beside_scans_are_no_slides(tmp_path):
    for name in ("P1.svs", "P1.png", "label.JPG", "P2.ome.tif"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in slides_in(tmp_path)] == ["P1.svs", "P2.ome.tif"]
    for name in ("P1.svs", "P2.ome.tif"):
        (tmp_path / name).unlink()
    assert [path.name for path in slides_in(tmp_path)] == ["P1.png", "label.JPG"]


def test_a_zarr_folder_is_one_slide(tmp_path):
    (tmp_path / "P1.ome.zarr/0").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "P2.svs").write_bytes(b"x")
    assert [path.name for path in slides_in(tmp_path)] == ["P1.ome.zarr", "P2.svs"]
    rows = rows_of_slides([tmp_path / "P1.ome.zarr", tmp_path / "P2.svs"], None)
    assert [row.slide_id for row in rows] == ["P1", "P2"]
    with pytest.raises(BadInput, match="no such slide file"):
        rows_of_slides([tmp_path / "P3.zarr"], None)


def test_a_manifest_may_name_a_zarr_folder(tmp_path):
    (tmp_path / "P1.zarr").mkdir()
    (tmp_path / "P2.svs").write_bytes(b"x")
    (tmp_path / "slides.csv").write_text("slide_id,path,label\nP1,P1.zarr,a\nP2,P2.svs,b\n")
    manifest = read_manifest(tmp_path / "slides.csv", slides_dir=None, classes=())
    assert manifest.rows[0].path == tmp_path / "P1.zarr"
