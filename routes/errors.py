"""From an exception to the one error body. The only place that knows which failure has which status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from api_models.openai import ErrorEnvelope
from api_models.replies import ErrorReply
from monitoring import context
from monitoring.middleware import route_of
from resilience import errors
from resilience.errors import SpeechError, TryAgainLater
from routes.openai import envelope

logger = logging.getLogger(__name__)

STATUS: dict[type[SpeechError], int] = {
    errors.SpeechError: 500,
    errors.InvalidRequest: 422,
    errors.InvalidPath: 400,
    errors.InvalidAudio: 400,
    errors.InvalidArchive: 400,
    errors.UnsupportedFormat: 415,
    errors.UnsupportedAudio: 400,
    errors.UploadMismatch: 400,
    errors.ConfirmationRequired: 400,
    errors.CriteriaRequired: 400,
    errors.DownloadRefused: 400,
    errors.OriginRefused: 403,
    errors.VoiceNotFound: 404,
    errors.ModelNotFound: 404,
    errors.FileMissing: 404,
    errors.NothingCame: 408,
    errors.NameTaken: 409,
    errors.FileTooLarge: 413,
    errors.RangeNotSatisfiable: 416,
    errors.GenerationFailed: 500,
    errors.DownloadFailed: 502,
    errors.GenerationTimeout: 504,
    errors.TryAgainLater: 503,
    errors.StorageFull: 507,
}

# What the framework itself refuses, before any code of ours: its status, then ours with code and sentence.
FRAMEWORK = {
    400: (422, "VALIDATION_ERROR", "the body could not be read"),
    404: (404, "NOT_FOUND", "there is nothing at this address; the API is described at /docs"),
    405: (405, "METHOD_NOT_ALLOWED", "this address does not take this method"),
    413: (413, "FILE_TOO_LARGE", "the body is larger than this address takes"),
}

# Below /v1 whatever is wrong in a request is 400; a 409 OpenAI's clients would send again.
AT_OPENAI = {
    errors.InvalidRequest.code: 400,
    errors.TextTooLong.code: 400,
    errors.UnreadableText.code: 400,
    errors.VoiceNotFound.code: 400,
    errors.NameTaken.code: 400,
}
NOT_AGAIN = {504, 507}  # a request that took too long once would take the engine's time twice more

MAX_FAULTS = 50


def status_of(kind: type[SpeechError]) -> int:
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def install(app: FastAPI) -> None:
    """Answer every failure below `app` with the one body."""
    app.add_exception_handler(SpeechError, _on_speech_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def internal_error(scope: Scope) -> Response:
    """The answer to what nobody foresaw: an id to ask about, and no word of what went wrong inside."""
    return _reply(scope, 500, SpeechError.code, "an internal error occurred; the log tells more under this request id")


def stopping(scope: Scope) -> Response:
    """The answer to a request that the server stops too soon to finish."""
    return _reply(scope, 503, errors.ModelUnavailable.code, "the server is stopping", headers={"Retry-After": "10"})


def cut_short(scope: Scope, error: SpeechError) -> None:
    """Note a failure that comes too late to be told: the status line is out, the body can only break off."""
    logger.warning("answer cut short code=%s route=%s reason=%s", error.code, route_of(scope), error.message)
    scope["app"].state.recent_errors.add(error.code, status_of(type(error)), route_of(scope), context.request_id.get())


def told_in_envelope(scope: Scope, error: SpeechError) -> tuple[int, ErrorEnvelope]:
    """A failure that is told where no status can be, noted like the others: its status, and OpenAI's body."""
    status = AT_OPENAI.get(error.code, status_of(type(error)))
    _note(scope, status, error.code, _level_of(status, error))
    return status, envelope.envelope(status, error.code, _plain(error.message), error.detail)


def documented(*kinds: type[SpeechError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for OpenAPI: for each status the codes that it can carry."""
    codes: dict[int, list[str]] = {}
    all_kinds: tuple[type[SpeechError], ...] = (*kinds, SpeechError)
    for kind in all_kinds:
        codes.setdefault(status_of(kind), []).append(kind.code)
    return {
        status: {"model": ErrorReply, "description": ", ".join(dict.fromkeys(names))}
        for status, names in sorted(codes.items())
    }


async def _on_speech_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpeechError)
    headers = {}
    if isinstance(error, TryAgainLater):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size_bytes}"
    status = status_of(type(error))
    return _reply(request.scope, status, error.code, error.message, error.detail, headers, _level_of(status, error))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """Fields and messages only: what the client sent may hold what JSON cannot, or what a log should not."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()[:MAX_FAULTS]
    faults = [{"type": fault["type"], "loc": list(fault["loc"]), "msg": fault["msg"]} for fault in found]
    sentence = "; ".join(": ".join(filter(None, (_field(fault["loc"]), fault["msg"]))) for fault in faults[:5])
    if envelope.is_spoken(request.scope) and found:
        sentence = envelope.sentence_of(found[0])
    return _reply(request.scope, 422, "VALIDATION_ERROR", sentence or "the request is not valid", faults)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, code, sentence = FRAMEWORK.get(error.status_code, (error.status_code, "HTTP_ERROR", str(error.detail)))
    headers = dict(error.headers or {})
    if status == 413:
        headers["Connection"] = "close"  # else uvicorn goes on reading what nobody wants, for as long as it is sent
    detail = [{"type": "unreadable", "loc": ["body"], "msg": sentence}] if status == 422 else None
    if envelope.is_spoken(request.scope):
        sentence = envelope.refusal(error.status_code, request, sentence)
    return _reply(request.scope, status, code, sentence, detail, headers)


def _field(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location[1:])


def _reply(
    scope: Scope,
    status: int,
    code: str,
    sentence: str,
    detail: Any = None,
    headers: dict[str, str] | None = None,
    level: int = logging.INFO,
) -> Response:
    is_openai = envelope.is_spoken(scope)
    status = AT_OPENAI.get(code, status) if is_openai else status
    _note(scope, status, code, level)
    body: BaseModel
    if is_openai:
        body = envelope.envelope(status, code, _plain(sentence), detail)
        headers = {**(headers or {}), **({"X-Should-Retry": "false"} if status in NOT_AGAIN else {})}
    else:
        body = ErrorReply(
            error=_plain(sentence), error_code=code, detail=_plain(detail), request_id=context.request_id.get()
        )
    return Response(body.model_dump_json(), status, headers=headers, media_type="application/json")


def _note(scope: Scope, status: int, code: str, level: int) -> None:
    logger.log(level, "error status=%d code=%s route=%s", status, code, route_of(scope))
    scope["app"].state.recent_errors.add(code, status, route_of(scope), context.request_id.get())


def _level_of(status: int, error: SpeechError) -> int:
    return logging.WARNING if status >= 500 and not error.is_expected else logging.INFO


def _plain(value: Any) -> Any:
    """The value with lone surrogates, which no encoding can carry, written out as escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value
