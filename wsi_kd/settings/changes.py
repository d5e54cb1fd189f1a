"""Changes of single settings from the command line: `train.epochs=5`."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from wsi_kd.core.errors import BadInput
from wsi_kd.settings.yaml_text import load_yaml


def changed(value: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a settings file's content, `key.key=VALUE` changes made; a number is a list's item.

    Whether the keys are known is asked when the whole is validated.

    Raises:
        BadInput: another form, a value that is no YAML, an item that the list does not have.

    >>> changed({"train": {"epochs": 9}}, ["train.epochs=5", "train.optimizer.name=sgd"])
    {'train': {'epochs': 5, 'optimizer': {'name': 'sgd'}}}
    """
    made = copy.deepcopy(dict(value))
    for change in changes:
        name, equals, text = change.partition("=")
        keys = name.split(".")
        if not equals or not all(keys):
            raise BadInput(f"--set {change}: expected key.key=VALUE, such as train.epochs=5")
        try:
            given = load_yaml(text)
        except ValueError as error:
            raise BadInput(f"--set {change}: no value of YAML ({error})") from None
        _put(made, keys, given, change=change)
    return made


def _put(place: Any, keys: Sequence[str], value: Any, *, change: str) -> None:
    *way, last = keys
    for key in way:
        slot = _slot(place, key, change=change)
        if isinstance(place, dict) and place.get(slot) is None:  # absent, or without a word in it
            place[slot] = {}
        place = place[slot]
    place[_slot(place, last, change=change)] = value


def _slot(place: Any, key: str, *, change: str) -> str | int:
    if isinstance(place, dict):
        return key
    if not isinstance(place, list):
        raise BadInput(f"--set {change}: '{key}' would stand below {place!r}, which is no section")
    if not key.isdigit() or int(key) >= len(place):
        raise BadInput(f"--set {change}: '{key}' of a list of {len(place)}; expected 0 to {len(place) - 1}")
    return int(key)
