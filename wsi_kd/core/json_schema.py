"""The JSON schema of a file that is described by TypedDicts: what docs/schemas holds."""

import json
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from wsi_kd.core.provenance import schema_version

DESCRIBED: Final = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""Of every record of such a file: no member but those named, each described by its docstring."""


class _WithoutTitles(GenerateJsonSchema):
    """A member's name says what a generated title would."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def file_schema(record: Any, *, kind: str, title: str) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a file as this version writes it.

    Args:
        record: TypedDict of the whole file, `schema_version`, `kind` and `content_sha256` among its members.
        kind: of the artifact; `schema_version` follows from it.
        title: the file's name.
    """
    schema = TypeAdapter(record).json_schema(schema_generator=_WithoutTitles)
    schema["required"].append("content_sha256")
    schema["properties"]["schema_version"]["const"] = schema_version(kind)
    schema["properties"]["kind"]["const"] = kind
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def schema_text(schema: dict[str, Any]) -> str:
    """Return the text of a file of docs/schemas."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
