"""Where OpenAI's API is found: below `/v1`, and where else its clients look for it."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from routes.openai import consents, dictation, models, speech, voices

# For themselves and all below them; what one of them leads to may be another one.
ALIASES = {
    "/audio": "/v1/audio",
    "/v1/voices": "/v1/audio/voices",
    "/v1/audio/models": "/v1/models",
}

greeting = APIRouter(include_in_schema=False)


@greeting.api_route("/v1", methods=["GET", "HEAD"])
async def greet(request: Request) -> dict[str, str]:
    """For clients that open a connection ahead of their first request."""
    return {"object": "api", "name": request.app.title, "models": "/v1/models", "voices": "/v1/audio/voices"}


def include(app: FastAPI) -> None:
    for router in (greeting, speech.router, models.router, voices.router, consents.router, dictation.router):
        app.include_router(router)


class Aliases:
    """Has requests at other addresses answered as those below `/v1`, with their limits and their errors."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["path"] = canonical(scope["path"])
        await self._app(scope, receive, send)


def canonical(path: str) -> str:
    """The address that a path stands for. Slashes too many, as of base addresses that end in one, do not count."""
    for alias, address in ALIASES.items():
        if path == alias or path.startswith(f"{alias}/"):
            path = address + path.removeprefix(alias)
    return "/" + "/".join(filter(None, path.split("/"))) if path.startswith("/v1/") else path
