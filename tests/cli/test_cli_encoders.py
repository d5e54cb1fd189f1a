import json

import pytest
from huggingface_hub import constants

from wsi_kd.cli.app import run
from wsi_kd.cli.plan import read_plan
from wsi_kd.core.errors import BadInput
from wsi_kd.features.encoder_table import ENCODERS, markdown_table


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_the_list_names_every_encoder(capsys):
    assert run(["encoders"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ENCODERS)
    assert "stain_texture" in told
    assert "here" not in told.replace("where", "")


def test_json_says_where_the_weights_are(tmp_path, capsys):
    (tmp_path / "phikon.safetensors").write_bytes(b"weights")
    assert run(["encoders", "--json", "--weights-dir", str(tmp_path)]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert sorted(listed) == sorted(ENCODERS)
    present = {name: row["weights"] for name, row in listed.items() if row["weights"]}
    assert present == {"phikon": str(tmp_path / "phikon.safetensors")}
    assert (listed["gigapath"]["resize_px"], listed["gigapath"]["input_px"]) == (256, 224)


def test_one_encoder_is_shown_in_full(capsys):
    assert run(["encoders", "virchow2"]) == 0
    told = capsys.readouterr().out
    assert "https://huggingface.co/paige-ai/Virchow2 (after a login and an accepted license)" in told
    assert "2560: class token, then mean patch token, 4 register tokens skipped" in told
    assert "CC-BY-NC-ND-4.0, no commercial use" in told
    assert "not on this machine" in told
    assert run(["encoders", "phikon", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feature_dim"] == 768


def test_the_pages_table_is_printed(capsys):
    assert run(["encoders", "--markdown"]) == 0
    assert capsys.readouterr().out == markdown_table()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["uni3"], "unknown encoder 'uni3'"),
        (["--weights-dir", "/nowhere"], "/nowhere: no such folder; correct embed.weights_dir"),
        (["uni", "--markdown"], "give it alone"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert run(["encoders", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_offline_weights_are_inputs_of_the_workflow(tmp_path):
    """New weights in the folder rerun embed, as a new embed.weights does."""
    (tmp_path / "slides.csv").write_text(
        "slide_id,path,label,case_id\n"
        + "".join(f"s{index},s{index}.tif,{'ab'[index % 2]},p{index}\n" for index in range(10))
    )
    for index in range(10):
        (tmp_path / f"s{index}.tif").touch()
    weights = tmp_path / "weights"
    weights.mkdir()
    config = {
        "run": {"manifest": str(tmp_path / "slides.csv"), "results_dir": str(tmp_path / "out")},
        "embed": {"encoder": "phikon", "weights_dir": str(weights)},
    }
    assert read_plan(config).encoder_files() == []
    (weights / "phikon.bin").write_bytes(b"weights")
    assert read_plan(config).encoder_files() == [str(weights / "phikon.bin")]
    given = {**config, "embed": {**config["embed"], "weights": str(tmp_path / "s0.tif")}}
    assert read_plan(given).encoder_files() == [str(tmp_path / "s0.tif")]
    with pytest.raises(BadInput, match=r"no such folder; correct embed\.weights_dir"):
        read_plan({**config, "embed": {"encoder": "phikon", "weights_dir": str(tmp_path / "none")}})
