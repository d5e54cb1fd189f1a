"""YAML as settings files may use it: plain values, and every key once."""

from typing import Any

import yaml

MAX_VALUES = 100_000
"""No settings have so many; nine lines of aliases can stand for a billion values."""


def load_yaml(text: str) -> Any:
    """Return the values of one YAML document; tags that would build objects are refused.

    Raises:
        ValueError: no YAML, a key that stands twice in one mapping, nesting without an end, aliases that
            stand for more values than any settings have; in one line.

    >>> load_yaml("{train: {epochs: 5}}")
    {'train': {'epochs': 5}}
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if twice := _first_twice(root):
            line = twice.start_mark.line + 1
            raise ValueError(f"line {line}: the key '{twice.value}' stands twice; keep one of them")
        if _values_of(root, {}) > MAX_VALUES:
            raise ValueError(f"its aliases stand for more than {MAX_VALUES:,} values; write them out")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _values_of(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Count the values below a node as if each alias were written out; a ring counts once."""
    if id(node) not in known:
        known[id(node)] = 0  # until it is counted: whoever comes by again is inside of it
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_values_of(part, known) for part in parts)
    return known[id(node)]


def _first_twice(root: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return a key that its mapping has already; of both, YAML itself keeps the last without a word."""
    waiting, looked_at = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in looked_at:  # an alias
            continue
        looked_at.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for place, key in enumerate(keys):
                if any(key.value == former.value for former in keys[:place]):
                    return key
            waiting += [value for _, value in node.value]
    return None
