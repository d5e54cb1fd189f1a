"""Labels that would become other classes than meant: written in two ways, in an order nobody chose."""

import pytest

from wsi_kd.bags.manifest import read_manifest
from wsi_kd.core.errors import BadInput


def read(folder, labels, *, classes=()):
    lines = [f"s{number},s{number}.svs,{label}" for number, label in enumerate(labels)]
    (folder / "slides.csv").write_text("\n".join(["slide_id,path,label", *lines]) + "\n", encoding="utf-8")
    return read_manifest(folder / "slides.csv", slides_dir=None, classes=classes, look_for_files=False)


@pytest.mark.parametrize("classes", [(), ("normal", "Tumor", "tumor")], ids=["found", "named"])
def test_one_class_written_in_two_ways_is_refused(tmp_path, classes):
    told = r"column label: the same but for case or accents: 'Tumor', 'tumor'; write a class in one way"
    with pytest.raises(BadInput, match=told):
        read(tmp_path, ["Tumor", "normal", "tumor"], classes=classes)


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["Tumor", "normal"], r"\[normal, Tumor\]"),
        (["cancer", "healthy", "Cyst"], r"\[healthy, Cyst, cancer\]"),
        (["MSI", "non-MSI"], r"\[non-MSI, MSI\]"),
        (["mutated", "WT"], None),  # capitals sort first, so the order is the right one
        (["carcinoma", "no tumor"], r"\[no tumor, carcinoma\]"),
        (["G1", "G2", "G3"], None),  # nothing tells which is negative: as sorted
        (["benign", "normal", "cancer"], None),  # both of the first two are such words
        (["0", "1"], None),
    ],
)
def test_an_order_that_makes_a_tumor_negative_is_refused_with_the_right_one(tmp_path, labels, order):
    if order is None:
        assert read(tmp_path, labels).classes == tuple(sorted(labels))
        return
    with pytest.raises(BadInput, match=rf"would be the negative class.*run\.classes: {order}$"):
        read(tmp_path, labels)


def test_a_named_order_is_taken_at_its_word(tmp_path):
    assert read(tmp_path, ["Tumor", "normal"], classes=("Tumor", "normal")).classes == ("Tumor", "normal")


@pytest.mark.parametrize("cell", ["n.a.", "#N/A", "?", "-"])
def test_what_a_spreadsheet_writes_for_nothing_is_no_label(tmp_path, cell):
    with pytest.raises(BadInput, match="no label in lines 3"):
        read(tmp_path, ["normal", cell, "tumor"])
