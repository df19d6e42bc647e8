"""How large a request may be, enforced while it is read: neither memory nor time is spent on what is refused.

Starlette's own limit answers in plain text, in place of the error body that the rest of the API keeps to.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from utils.media_types import is_json

TOO_LARGE = 413


class BodyLimit:
    """Raises HTTPException 413 from the reading of a body that is too large, declared or sent in chunks.

    `max_bytes` holds everywhere but for the files that the addresses in `uploads` take, which are (method, path) with
    bytes of their own; a body that calls itself JSON is no file.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, uploads: Mapping[tuple[str, str], int] | None = None) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._uploads = uploads or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        max_bytes = self._max_bytes
        if not is_json(headers.get("content-type", "application/json")):
            max_bytes = self._uploads.get((scope["method"], scope["path"]), max_bytes)
        declared = headers.get("content-length", "0")
        declared_bytes = int(declared) if declared.isdigit() else 0
        counted = 0

        async def limited() -> Message:
            nonlocal counted
            if declared_bytes > max_bytes:
                raise HTTPException(TOO_LARGE)
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > max_bytes:
                raise HTTPException(TOO_LARGE)
            return message

        await self._app(scope, limited, send)
