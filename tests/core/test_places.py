"""Recorded settings: what is cut to its name, and that no path of a settings file is forgotten."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from wsi_kd.core.places import PATH_KEYS, without_paths
from wsi_kd.settings.all import Settings
from wsi_kd.settings.distill import DistillSettings
from wsi_kd.settings.distill_encoder import DistillEncoderSettings


def test_paths_are_cut_to_their_names_and_nothing_else_is():
    sections = {
        "mask": {"edited_dir": None, "mask_mpp": 8.0},
        "embed": {"weights": "/a/b/c.pt", "encoder": "x"},
    }
    assert without_paths(sections) == {
        "mask": {"edited_dir": None, "mask_mpp": 8.0},
        "embed": {"weights": "c.pt", "encoder": "x"},
    }


def test_a_distilled_encoder_is_named_without_the_folders_above_it():
    told = without_paths({"embed": {"encoder": "distilled:/home/doe/small"}})
    assert told == {"embed": {"encoder": "distilled:small"}}


def test_paths_are_cut_however_deep_they_stand_and_arguments_where_they_are_absolute():
    arguments = {"start": "/home/doe/a.pt", "name": "hub/model", "pretrained": True}
    told = without_paths({"teachers": [{"network": {"weights": "/home/doe/t.pt", "arguments": arguments}}]})
    cut = {"start": "a.pt", "name": "hub/model", "pretrained": True}
    assert told == {"teachers": [{"network": {"weights": "t.pt", "arguments": cut}}]}


def test_every_path_among_the_settings_is_known_to_be_one():
    def paths(annotation: object, key: str) -> Iterator[str]:
        if annotation is Path:
            yield key
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                yield from paths(field.annotation, name)
        else:
            for part in get_args(annotation):
                yield from paths(part, key)

    files = (Settings, DistillSettings, DistillEncoderSettings)
    assert {key for model in files for key in paths(model, "")} == PATH_KEYS
