"""A manifest that is only looked at may lack labels and files; ids and columns are checked all the same."""

from pathlib import Path

import pytest

from wsi_kd.bags.looked_at import read_rows
from wsi_kd.core.errors import BadInput


def table(folder: Path, text: str) -> Path:
    path = folder / "slides.csv"
    path.write_text(text)
    return path


def test_labels_and_files_may_be_missing(tmp_path: Path) -> None:
    (row,) = read_rows(table(tmp_path, "slide_id,path,site\na,scans/a.svs,north\n"), slides_dir=None)
    assert (row.slide_id, row.path, row.label, row.site) == ("a", tmp_path / "scans/a.svs", "", "north")
    (row,) = read_rows(table(tmp_path, "path,slide_mpp\nb.svs,0.25\n"), slides_dir=Path("/scans"))
    assert (row.slide_id, row.path, row.slide_mpp) == ("b", Path("/scans/b.svs"), 0.25)


def test_slides_are_found_by_id(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.svs", "b.tiff"):
        (scans / name).touch()
    rows = read_rows(table(tmp_path, "slide_id,label\na,x\nb.tiff,y\nc,z\n"), slides_dir=scans)
    assert [(row.slide_id, row.path.name) for row in rows] == [("a", "a.svs"), ("b", "b.tiff"), ("c", "c")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slide_id,path\n../x,a.svs\n", "holds a path separator"),
        ("slide_id,path\na,a.svs\nA,b.svs\n", "the same but for case"),
        ("label\nx\n", "no column slide_id"),
        ("slide_id,path,slide_mpp\na,a.svs,wide\n", "column slide_mpp: 'wide'"),
    ],
)
def test_faults_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        read_rows(table(tmp_path, text), slides_dir=tmp_path)
