"""The id of the request that is being served, for every log line written on its behalf."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def accepted_id(offered: str | None) -> str:
    """The client's own id if it is one that no log or header could stumble over, else a new one."""
    return offered if offered and SANE_ID.fullmatch(offered) else uuid.uuid4().hex
