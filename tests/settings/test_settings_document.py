"""configs/ and the settings models say the same."""

import json
from pathlib import Path

import pytest
import yaml

from wsi_kd.bags.tables import read_text_table
from wsi_kd.settings.all import Settings, read_settings
from wsi_kd.settings.document import default_yaml, schema_json

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_the_default_file_is_the_models_defaults():
    assert (CONFIGS / "default.yaml").read_text() == default_yaml()
    assert read_settings(CONFIGS / "default.yaml") == Settings()


def test_the_schema_file_is_the_models_schema():
    assert (CONFIGS / "schema.json").read_text() == schema_json()
    assert json.loads(schema_json())["additionalProperties"] is False


def test_every_default_is_written_out_and_described():
    written = yaml.safe_load(default_yaml())
    assert written == Settings().model_dump(mode="json")
    assert (
        "  # Resolution of a tile in um/px; exact: the nearest finer level is read and resized.\n"
        in default_yaml()
    )
    stored = "  # How features are stored; pixels are stored as uint8. One of: float16, float32.\n"
    assert stored + "  dtype: float16\n" in default_yaml()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_settings_file_is_valid(path):
    assert isinstance(read_settings(path), Settings)


def test_the_example_manifest_has_the_columns_that_are_documented():
    table = read_text_table(CONFIGS / "slides.example.csv")
    documented = ["slide_id", "path", "label", "case_id", "split", "slide_mpp", "annotation", "site"]
    assert list(table.columns) == documented
    assert [row.cells["slide_mpp"] for row in table.rows] == ["", "", "0.23", ""]
