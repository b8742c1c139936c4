"""What every section of params.yaml is made of: frozen models, number ranges, and faults told by their full key."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

KIND = re.compile(r"int|constrained-int|literal\[.*\]")  # how pydantic calls a member of a union


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def faults_of(error: ValidationError) -> str:
    """Every fault by its full key, on one line."""
    return "; ".join(_describe(fault) for fault in error.errors())


def _describe(fault: Mapping[str, Any]) -> str:
    # Where a value may be a number or a word, pydantic ends the place with the kind it tried.
    key = ".".join(str(part) for part in fault["loc"] if not KIND.fullmatch(str(part)))
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if fault["type"] in ("value_error", "missing"):
        return f"{key}: {message}" if key else message
    return f"{key}: {message} (got {fault['input']!r})"
