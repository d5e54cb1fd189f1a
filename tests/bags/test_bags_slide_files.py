import pytest

from wsi_kd.bags.slide_files import slides_in


@pytest.mark.shared_data
def test_copies_of_a_real_dicom_file_are_one_slide(shared_data, tmp_path):
    real = next((shared_data / "wsi").glob("*.dcm"))
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).symlink_to(real)
    assert slides_in(tmp_path) == [tmp_path / "a.dcm"]
