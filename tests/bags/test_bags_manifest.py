import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_kd.bags.manifest import chunk_rows, read_manifest, rows_of_slides
from wsi_kd.bags.slide_files import slide_id_fault, slide_id_of, slides_in
from wsi_kd.core.errors import BadInput

FULL = (
    "slide_id,path,label,case_id,split,slide_mpp,annotation,site,scanner\n"
    "s1,a.svs,tumor,p1,train,0.25,a.geojson,Aachen,X\n"
    "s2,sub/b.tif,normal,p2,test,,,,Y\n"
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.svs", "b.svs", "c.svs", "sub/b.tif", "a.geojson"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(folder: Path, text: str, *, slides_dir=None, classes=()):
    (folder / "slides.csv").write_text(text, encoding="utf-8")
    return read_manifest(folder / "slides.csv", slides_dir=slides_dir, classes=classes)


def simple(*rows: str) -> str:
    return "\n".join(["slide_id,path,label", *rows]) + "\n"


def test_every_column_is_read_and_extra_ones_are_free(folder):
    first, second = read(folder, FULL, classes=("normal", "tumor")).rows
    assert first[:-2] == (
        "s1",
        folder / "a.svs",
        "tumor",
        "p1",
        "train",
        0.25,
        folder / "a.geojson",
        "Aachen",
    )
    assert first.extra == (("scanner", "X"),)
    assert second[:-2] == ("s2", folder / "sub/b.tif", "normal", "p2", "test", None, None, "")


def test_defaults(folder):
    manifest = read(folder, simple("s1,a.svs,y", "s2,b.svs,x"))
    assert manifest.classes == ("x", "y")
    assert manifest.rows[0] == ("s1", folder / "a.svs", "y", "s1", "", None, None, "", (), "")


def test_order_of_classes_is_the_users(folder):
    assert read(folder, simple("s1,a.svs,y", "s2,b.svs,x"), classes=("y", "x")).classes == ("y", "x")


def test_paths_start_from_slides_dir_and_may_be_absolute(folder):
    text = simple("s1,b.tif,x", f"s2,{folder / 'a.svs'},y")
    rows = read(folder, text, slides_dir=folder / "sub").rows
    assert [row.path for row in rows] == [folder / "sub/b.tif", folder / "a.svs"]


def test_labels_are_stripped_and_kept_in_one_unicode_form(folder):
    decomposed = unicodedata.normalize("NFD", "müller")
    rows = read(folder, simple("s1,a.svs, tumor ", f"s2,b.svs,{decomposed}")).rows
    assert [row.label for row in rows] == ["tumor", unicodedata.normalize("NFC", "müller")]


def test_clam_layout_finds_slides_by_id_with_or_without_ending(folder):
    text = "case_id,slide_id,label\np1,a,x\np2,b.tif,y\n"
    (folder / "sub/a.OME.TIF").write_bytes(b"x")
    rows = read(folder, text, slides_dir=folder / "sub").rows
    assert [(row.slide_id, row.path.name, row.case_id) for row in rows] == [
        ("a", "a.OME.TIF", "p1"),
        ("b", "b.tif", "p2"),
    ]


def test_clam_layout_lists_missing_and_ambiguous_slides(folder):
    with pytest.raises(BadInput, match=r"no slide file in .* for 2 ids: 'q', '\.\./a'$"):
        read(folder, "slide_id,label\nq,x\na,y\n../a,y\n", slides_dir=folder)
    (folder / "a.ndpi").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"several files fit: a \(a\.ndpi, a\.svs\)"):
        read(folder, "slide_id,label\na,x\nb,y\n", slides_dir=folder)
    rows = read(folder, "slide_id,label\na.ndpi,x\nb,y\n", slides_dir=folder).rows
    assert [row.path.name for row in rows] == ["a.ndpi", "b.svs"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("slide_id,path", r"line 1: no column label; found 'slide_id', 'path'$"),
        ("Slide_ID,path,label", r"no column slide_id; found 'Slide_ID' \(did you mean 'slide_id'\?\)"),
        ("slide_id,label,x", r"no column path; found .*slides_dir"),
        ("slide_id,path,label,case_ID", r"left unread: 'case_ID' \(did you mean 'case_id'\?\)"),
        ("slide_id,path,label,patient", r"left unread: 'patient' \(did you mean 'case_id'\?\)"),
        ("slide_id,path,label,annotation_", r"left unread: 'annotation_' \(did you mean 'annotation'\?\)"),
    ],
)
def test_columns(folder, header, expected):
    with pytest.raises(BadInput, match=expected):
        read(folder, header + "\n" + ",".join("x" for _ in header.split(",")) + "\n")


def test_header_alone(folder):
    with pytest.raises(BadInput, match="a header but no slides"):
        read(folder, simple())


@pytest.mark.parametrize(
    ("slide_id", "expected"),
    [
        ("../x", "path separator"),
        ("a/b", "path separator"),
        ("a\\b", "path separator"),
        ("", "is empty"),
        ("..", r"starts with '\.'"),
        (".a", r"starts with '\.'"),
        ("-a", "starts with '-'"),
        ("=HYPERLINK(1)", "starts with '='"),
        ('"a\nb"', "control or invisible"),
        ("a\u202eb", "control or invisible"),
        ("a" * 201, "longer than 200 bytes"),
        ("ä" * 101, "longer than 200 bytes"),
    ],
)
def test_slide_ids_that_cannot_name_a_file(folder, slide_id, expected):
    with pytest.raises(BadInput, match=rf"column slide_id: line 3: .*{expected}"):
        read(folder, simple("s1,a.svs,x", f"{slide_id},b.svs,y"))


def test_slide_ids_of_200_bytes_dots_and_spaces_are_fine(folder):
    rows = read(folder, simple(f"{'a' * 200},a.svs,x", "TCGA-1 A..v2.x,b.svs,y")).rows
    assert [len(row.slide_id) for row in rows] == [200, 14]


@pytest.mark.parametrize("twin", ["Müller", "müLLER", unicodedata.normalize("NFD", "Müller")])
def test_slide_ids_must_differ_by_more_than_case_or_unicode_form(folder, twin):
    with pytest.raises(BadInput, match=r"column slide_id: the same.*'Müller' \(line 2\), .* \(line 4\)"):
        read(folder, simple("Müller,a.svs,x", "s2,b.svs,y", f"{twin},c.svs,y"))


def test_a_patient_written_in_two_ways_is_refused(folder):
    with pytest.raises(BadInput, match=r"column case_id: .*'P1', 'p1'"):
        read(folder, "slide_id,path,label,case_id\ns1,a.svs,x,p1\ns2,b.svs,y,P1\n")


def test_slides_of_one_case_may_differ_in_label(folder):
    rows = read(folder, "slide_id,path,label,case_id\ns1,a.svs,x,p1\ns2,b.svs,y,p1\n").rows
    assert [row.case_id for row in rows] == ["p1", "p1"]


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (("x", ""), (), r"no label in lines 3;"),
        (("NaN", "x"), (), r"no label in lines 2;"),
        (("x", "x"), (), r"only 'x' occurs"),
        (
            ("normal", "tumour"),
            ("normal", "tumor"),
            r"unknown label 'tumour'.*did you mean 'tumor'.*\(line 3\)",
        ),
        (("x", "x"), ("x", "y"), r"no slide is y, which run\.classes names"),
        (("x", "y"), ("x", "x"), r"names a label twice"),
        (("x", "y\u200b"), (), r"control or invisible characters in 'y\\u200b'"),
    ],
)
def test_labels(folder, *, labels, classes, expected):
    with pytest.raises(BadInput, match=expected):
        read(folder, simple(f"s1,a.svs,{labels[0]}", f"s2,b.svs,{labels[1]}"), classes=classes)


def test_none_is_a_label_where_classes_name_it(folder):
    assert read(folder, simple("s1,a.svs,none", "s2,b.svs,x"), classes=("none", "x")).classes == ("none", "x")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "20x", "0_25"])
def test_slide_mpp_must_be_a_positive_number(folder, text):
    with pytest.raises(BadInput, match=rf"line 2, column slide_mpp: '{text}'; expected a positive number"):
        read(folder, f"slide_id,path,label,slide_mpp\ns1,a.svs,x,{text}\ns2,b.svs,y,\n")


def test_decimal_comma_is_explained(folder):
    with pytest.raises(BadInput, match=r"'0,25'.*decimal comma as a dot: 0\.25"):
        read(folder, 'slide_id,path,label,slide_mpp\ns1,a.svs,x,"0,25"\ns2,b.svs,y,\n')


def test_split_values(folder):
    with pytest.raises(BadInput, match=r"line 2, column split: unknown part 'valid'.*did you mean 'val'"):
        read(folder, "slide_id,path,label,split\ns1,a.svs,x,valid\ns2,b.svs,y,\n")


def test_missing_files_are_listed_at_once_up_to_twenty(folder):
    rows = [f"s{number},gone{number}.svs,{'xy'[number % 2]}" for number in range(57)]
    told = r"column path: no such file for 57: s0 \(.*gone19\.svs\) and 37 more; is the disk mounted"
    with pytest.raises(BadInput, match=told):
        read(folder, simple(*rows))


def test_a_folder_or_an_endless_name_is_no_slide(folder):
    with pytest.raises(BadInput, match=r"column path: no such file for 2: s1 "):
        read(folder, simple("s1,sub,x", f"s2,{'b' * 5000},y"))


def test_one_file_under_two_ids_would_leak_and_is_refused(folder):
    with pytest.raises(BadInput, match=r"column path: one file under several ids: s1 \(.*a\.svs\), s3 \("):
        read(folder, simple("s1,a.svs,x", "s2,b.svs,y", "s3,./a.svs,x"))


def test_missing_annotations_are_listed(folder):
    with pytest.raises(BadInput, match=r"column annotation: no such file for 2: s1 .*, s2 "):
        read(folder, "slide_id,path,label,annotation\ns1,a.svs,x,q.geojson\ns2,b.svs,y,r.xml\n")


def test_empty_path(folder):
    with pytest.raises(BadInput, match="line 2, column path: empty"):
        read(folder, simple("s1,,x", "s2,b.svs,y"))


def test_chunks_keep_order_and_lose_nothing(folder):
    rows = read(folder, simple("s1,a.svs,x", "s2,b.svs,y", "s3,c.svs,y")).rows
    assert [[row.slide_id for row in chunk] for chunk in chunk_rows(rows, 2)] == [["s1", "s2"], ["s3"]]


@given(st.text(max_size=30))
@settings(deadline=None)
def test_an_accepted_id_stays_inside_its_folder(text):
    if slide_id_fault(text) == "":
        path = Path("root") / f"{text}.h5"
        assert path.parent == Path("root")
        assert path.name == f"{text}.h5"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.ome.tif", "a"), ("a.b.NDPI", "a.b"), ("a.ome.svs", "a.ome"), ("a.txt", "a.txt"), (".svs", ".svs")],
)
def test_slide_id_of(name, expected):
    assert slide_id_of(Path("folder.svs") / name) == expected


def element(tag: bytes, value: str) -> bytes:
    padded = value.encode() + b"\0" * (len(value) % 2)
    return tag + b"UI" + len(padded).to_bytes(2, "little") + padded


def dicom(uid: str, *, refers_to: str = "9.9") -> bytes:
    """The start of a DICOM file that refers to a series before it names its own."""
    study, series = b"\x20\x00\x0d\x00", b"\x20\x00\x0e\x00"
    return b"\0" * 128 + b"DICM" + element(series, refers_to) + element(study, "1.2.3") + element(series, uid)


def test_folder_lists_slides_once(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/Data0.dat").write_bytes(b"x")
    for name in ("m.mrxs", "b.SVS", ".hidden.svs", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    for name, uid in (("l0.dcm", "1.2.30"), ("l1.dcm", "1.2.30"), ("other.dcm", "1.2.301")):
        (tmp_path / name).write_bytes(dicom(uid))
    (tmp_path / "broken.dcm").write_bytes(b"no dicom")
    (tmp_path / "broken2.dcm").write_bytes(b"no dicom")
    names = [path.name for path in slides_in(tmp_path)]
    assert names == ["b.SVS", "broken.dcm", "broken2.dcm", "l0.dcm", "m.mrxs", "other.dcm"]


@pytest.mark.shared_data
def test_real_folders(shared_data):
    rows = rows_of_slides([shared_data / "wsi"], None)
    assert sorted(row.slide_id for row in rows) == [
        "CMU-1-Small-Region",
        "OS-1-detail",
        "ezwsi_multiframe_camelyon_challenge_image",
        "test3-DAPI-2-_387_",
    ]


def test_test_slides_of_the_column_split_may_lack_a_label(folder):
    text = "slide_id,path,label,split\ns1,a.svs,y,train\ns2,b.svs,,test\ns3,sub/b.tif,x,val\n"
    manifest = read(folder, text)
    assert ([row.label for row in manifest.rows], manifest.classes) == (["y", "", "x"], ("x", "y"))
    with pytest.raises(BadInput, match="no label in lines 2"):
        read(folder, text.replace("y,train", ",train"))
    with pytest.raises(BadInput, match="no slide has a label"):
        read(folder, "slide_id,path,label,split\ns1,a.svs,,test\n")
