"""Where OpenAI's API is found: below `/v1`, and for clients that leave that out below `/audio`, too."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request

from api_models.openai import ErrorEnvelope
from routes.openai import consents, models, speech, voices

FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorEnvelope, "description": "400 for whatever is wrong in the request, 404, 405, 413, 415"},
    "5XX": {"model": ErrorEnvelope, "description": "500, 503 with `Retry-After`, 504, 507"},
}

greeting = APIRouter(include_in_schema=False)


@greeting.api_route("/v1", methods=["GET", "HEAD"])
@greeting.api_route("/v1/", methods=["GET", "HEAD"])
async def greet(request: Request) -> dict[str, str]:
    """For clients that open a connection ahead of their first request."""
    return {"object": "api", "name": request.app.title, "models": "/v1/models", "voices": "/v1/audio/voices"}


def include(app: FastAPI) -> None:
    app.include_router(greeting)
    for router in (models.listing, models.router):
        app.include_router(router, prefix="/v1", responses=FAILURES)
    app.include_router(voices.router, prefix="/v1", include_in_schema=False)
    for prefix in ("/v1/audio", "/audio"):
        is_listed = prefix == "/v1/audio"
        for part in (speech, voices, consents):
            app.include_router(part.router, prefix=prefix, responses=FAILURES, include_in_schema=is_listed)
        app.include_router(models.listing, prefix=prefix, include_in_schema=False)
