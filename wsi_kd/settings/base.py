"""What every settings section shares: frozen, and a key nobody knows is an error."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of the settings file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
