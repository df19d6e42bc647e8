"""The outermost layer of every request: its id, its line in the access log, and the last catch of what goes wrong.

Plain ASGI: wrapped in Starlette's BaseHTTPMiddleware a request would never learn that its client has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring import context
from monitoring.metrics import Metrics

logger = logging.getLogger("access")

CLIENT_LEFT = 499
SWITCHED = 101  # to WebSocket
SERVER_ERROR = 1011  # of WebSocket's closing codes


class RequestContext:
    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        access_log: bool,
        internal_error: Callable[[Scope], Response],
        stopping: Callable[[Scope], Response],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._access_log = access_log
        self._internal_error = internal_error
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = context.accepted_id(Headers(scope=scope).get("x-request-id"))
        token = context.request_id.set(request_id)
        started_at = time.perf_counter()
        status = CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if answer := status_of(message, status):
                status = answer
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        self._metrics.requests_in_progress += 1
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass  # there is nobody to answer; the access log says 499
        except asyncio.CancelledError:  # the server stops and waits no longer
            if status == CLIENT_LEFT:
                await self._stopping(scope)(scope, receive, send_with_id)
            raise
        except Exception:  # the last handler: whatever came this far is answered without a word of its inside
            logger.exception("request failed method=%s route=%s", method_of(scope), route_of(scope))
            if status == CLIENT_LEFT:
                await self._internal_error(scope)(scope, receive, send_with_id)
            elif status == SWITCHED:
                await send({"type": "websocket.close", "code": SERVER_ERROR})
        finally:
            self._metrics.requests_in_progress -= 1
            self._metrics.requests_by_status[status] += 1
            if self._access_log:
                took_s = time.perf_counter() - started_at
                logger.info(
                    "request method=%s route=%s status=%d took_s=%.3f",
                    method_of(scope),
                    route_of(scope),
                    status,
                    took_s,
                )
            context.request_id.reset(token)


def status_of(message: Message, before: int) -> int | None:
    """The status that goes out with this message, if it begins an answer. `before` is the one until now."""
    match message["type"]:
        case "http.response.start" | "websocket.http.response.start":
            status: int = message["status"]
            return status
        case "websocket.accept":
            return SWITCHED
        case "websocket.close" if before == CLIENT_LEFT:
            return 403  # what a server makes of a refusal without words
    return None


def method_of(scope: Scope) -> str:
    return str(scope.get("method", "WEBSOCKET"))


def route_of(scope: Scope) -> str:
    """The template of the route that answered, never the path that a client wrote."""
    return getattr(scope.get("route"), "path", "(none)")
