"""What every settings section shares: frozen, a key nobody knows is an error, true is no number."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from wsi_kd.core.booleans import stands_for_number

NO_NUMBER: Final = "boolean_for_number"
"""Type of the error where true or false stands for a number; its context names `key` and `value`."""


class Section(BaseModel):
    """One section of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any) -> Any:
        """Refuse `epochs: true`, which would count as one epoch."""
        for key, given in value.items() if isinstance(value, dict) else ():
            field = cls.model_fields.get(key)
            if field is not None and stands_for_number(given, field.annotation):
                context = {"key": key, "value": given}
                raise PydanticCustomError(NO_NUMBER, "expected a number, not true or false", context)
        return value
