import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.changes import changed
from wsi_kd.settings.distill import read_distill_settings
from wsi_kd.settings.distill_encoder import read_encoder_settings
from wsi_kd.settings.yaml_text import load_yaml


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice"),
        ("a:\n  - {b: 1, c: {d: 1, d: 1}}\n", "line 2: the key 'd' stands twice"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: !mine {}\n", "could not determine a constructor"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a: *b\n", "found undefined alias"),
        ("a: 1\n---\na: 2\n", "single document"),
    ],
)
def test_text_that_is_refused_in_one_line(text, line):
    with pytest.raises(ValueError, match=line) as error:
        load_yaml(text)
    assert "\n" not in str(error.value)


def test_anchors_and_merged_keys_are_no_repetition():
    text = "a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}\ne: [*a, *a]\n"
    same = {"b": 1, "c": 2}
    assert load_yaml(text) == {"a": same, "d": {"b": 3, "c": 2}, "e": [same, same]}


def test_an_anchor_within_itself_comes_to_an_end():
    found = load_yaml("&a {b: *a}\n")
    assert found["b"] is found


def test_a_file_and_a_change_are_read_by_it(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("data: {name: digits}\ntrain: {epochs: 1}\ntrain: {epochs: 2}\n")
    with pytest.raises(BadInput, match=r"a.yaml: not valid YAML: line 3: the key 'train' stands twice"):
        read_distill_settings(path)
    with pytest.raises(BadInput, match=r"--set a={b: 1, b: 2}: no value of YAML .*'b' stands twice"):
        changed({}, ["a={b: 1, b: 2}"])
    path.write_bytes(b"data: \xff\n")
    with pytest.raises(BadInput, match=r"a.yaml: line 1 is not UTF-8 \(byte 6\)"):
        read_distill_settings(path)


def test_a_rule_between_keys_is_told_without_the_whole_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "data: {name: tiles, pixels_dir: x}\nstudent: {encoder: tile_cnn}\ncriteria: [{type: hint}]\n"
    )
    with pytest.raises(BadInput) as error:
        read_encoder_settings(path)
    told = "the large encoder's features are stored (data.features_dir) or computed (teacher)"
    assert str(error.value) == f"{path}: {told}; set one of the two"


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            "data: {name: digits, val: 1.5}",
            "data.val: input should be a valid integer, found 1.5; data.val: in",
        ),
        ("data: {name: digits, batch_size: [1]}", "data.batch_size: input should be a valid integer"),
        ("train: 5", "train: expected keys with values below it, found 5"),
        ("train: {optimizer: adam}", "train.optimizer: expected keys with values below it, found 'adam'"),
        ("student: {name: mlp, hidden: 8}", "student.hidden: expected a list, found 8"),
    ],
)
def test_faults_use_words_of_the_file_not_of_the_program(tmp_path, section, line):
    path = tmp_path / "a.yaml"
    path.write_text(f"{section}\n")
    with pytest.raises(BadInput, match=line) as error:
        read_distill_settings(path)
    assert not any(word in str(error.value) for word in ("constrained", "tuple", "dictionary", "instance"))
