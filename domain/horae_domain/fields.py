"""What the models of definitions and of messages are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic_core import PydanticCustomError

from horae_domain.errors import HoraeError
from horae_domain.instants import format_instant, parse_instant


class Model(BaseModel):
    """Strict about unknown fields, immutable, and so shared where it is a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _instant(value: Any) -> datetime:
    try:
        return parse_instant(value, field="")
    except HoraeError as error:
        raise PydanticCustomError("instant", "{reason}", {"reason": error.message}) from error


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(format_instant, return_type=str, when_used="json"),
]
