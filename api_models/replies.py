"""What the answers have in common: how each that went well begins, and the one body of every failure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


def now() -> datetime:
    return datetime.now(UTC)


class SuccessReply(BaseModel):
    """What every JSON answer that went well begins with."""

    success: Literal[True] = True
    message: str
    timestamp: datetime = Field(default_factory=now)


class ErrorReply(BaseModel):
    """Every failure of the native API has this shape; match on `error_code`."""

    success: Literal[False] = False
    error: str = Field(description="a sentence for a person")
    error_code: str = Field(examples=["VOICE_NOT_FOUND"])
    detail: str | list[Any] | dict[str, Any] | None = None
    request_id: str
    timestamp: datetime = Field(default_factory=now)
