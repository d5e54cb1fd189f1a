from pathlib import Path

import pytest

from wsi_kd.bags.tables import TableRow, listed, read_text_table
from wsi_kd.core.errors import BadInput


def table(tmp_path: Path, content: str | bytes, name: str = "t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_text_table(path)


PLAIN = [TableRow(2, {"a": "1", "b": "x"}), TableRow(3, {"a": "2", "b": "y"})]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        "a,b\r\n1,x\r\n2,y\r\n",
        "a,b\r1,x\r2,y",
        "\ufeffa,b\n1,x\n2,y",
        ' a , b \n 1 , x \n"2","y"\n',
    ],
    ids=["plain", "crlf", "cr", "bom", "spaces"],
)
def test_same_table_whatever_the_line_ends_and_the_mark(tmp_path, content):
    read = table(tmp_path, content)
    assert read.columns == ("a", "b")
    assert list(read.rows) == PLAIN


def test_tsv_is_split_at_tabs_and_keeps_commas(tmp_path):
    assert table(tmp_path, "a\tb\n1,5\tx\n", "t.tsv").rows == (TableRow(2, {"a": "1,5", "b": "x"}),)


def test_lines_are_counted_through_blank_records_and_quoted_line_ends(tmp_path):
    rows = table(tmp_path, 'a,b\n\n"1\n1",x\n,\n2,y\n').rows
    assert [(row.line, row.cells["a"]) for row in rows] == [(3, "1\n1"), (6, "2")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"t\.csv: empty file"),
        ("\n\n", r"t\.csv: empty file"),
        ("a,b\n1,x\n".encode("utf-16"), r"saved as UTF-16"),
        (b"a,b\n1,\0x\n", r"line 2 holds a NUL byte"),
        ("a,b\n1,x\n2,é\n".encode("latin-1"), r"line 3 is not UTF-8"),
        ('a,b\n1,x\n2,"y\n3,z\n', r"line 3: a quote is never closed"),
        ("a,b\n1,x\n2,y,z\n", r"line 3 has 3 cells, the header has 2 columns"),
        ("a,b\n1\n", r"line 2 has 1 cells, the header has 2 columns"),
        ("a,b,a\n1,2,3\n", r"line 1 names these columns more than once: a;"),
        ("a;b\n1;2\n", r"separated by semicolons or tabs"),
        ("a,b\n1," + "x" * 200_000 + "\n", r"line 2: field larger than field limit"),
    ],
    ids=[
        "empty",
        "blank",
        "utf16",
        "nul",
        "latin1",
        "quote",
        "long row",
        "short row",
        "twice",
        "semicolon",
        "huge field",
    ],
)
def test_faults_name_file_and_line(tmp_path, content, expected):
    with pytest.raises(BadInput, match=expected) as caught:
        table(tmp_path, content)
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_text_table(tmp_path / "absent.csv")
    with pytest.raises(BadInput, match="not a file"):
        read_text_table(tmp_path)


def test_unnamed_columns_may_repeat_as_pandas_writes_an_index(tmp_path):
    assert table(tmp_path, ",,a\n0,0,x\n").rows[0].cells["a"] == "x"


def test_listed_shows_twenty():
    assert listed(str(number) for number in range(57)).endswith("18, 19 and 37 more")
    assert listed(["a", "b"]) == "a, b"
