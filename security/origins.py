"""Which pages may drive this server from a browser: those that it serves itself, and those that the settings name."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def is_welcome(origin: str | None, host: str | None, allowed: re.Pattern[str]) -> bool:
    """Whether a request with these headers, `Origin` and `Host`, may be served.

    Programs send no origin. For most requests a browser asks first and keeps the answer from a page that may not read
    it; a WebSocket it opens for any page, so that the server has to look.
    """
    if origin is None or allowed.fullmatch(origin):
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()
    except ValueError:
        return False
