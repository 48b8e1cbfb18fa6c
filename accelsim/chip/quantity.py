"""A physical number that says where it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

Evidence = Literal["published", "measured", "derived", "estimated"]
"""How a number is known.

``published``: printed by the designers or in a paper; ``measured``: from our own synthesis or
measurement; ``derived``: computed from published or measured numbers; ``estimated``: a judgement.
"""

Geometry = Annotated[int, Field(ge=1, le=4096)]
Cycles = Annotated[int, Field(ge=1, le=4096)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Part(BaseModel):
    """A frozen piece of a chip; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(Part):
    """A physical number; its unit stands at the end of the key that holds it."""

    value: float = Field(ge=0, le=1e9, allow_inf_nan=False, description="the number itself")
    source: Text = Field(description="where the number comes from: paper and section, or the reasoning")
    evidence: Evidence = Field(description="published, measured, derived or estimated")


class ShareQuantity(Quantity):
    """A part of a whole."""

    value: float = Field(ge=0, le=1, allow_inf_nan=False, description="the number itself")


class PositiveQuantity(Quantity):
    """A physical number that cannot be zero."""

    value: float = Field(gt=0, le=1e9, allow_inf_nan=False, description="the number itself")

    @field_validator("value")
    @classmethod
    def _is_no_rounding_error_of_zero(cls, value: float) -> float:
        # what is divided by less (a clock, a bandwidth) leaves the range of a float
        if value < 1e-9:
            raise ValueError(f"must be at least 1e-9, got {value:g}")
        return value
