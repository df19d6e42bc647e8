"""Failures as OpenAI's clients read them. Which status each of them has is decided in `routes/errors.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.types import Scope

from api_models.openai import ErrorBody, ErrorEnvelope, bounds
from resilience.errors import SpeechError
from utils.media_types import FORM, media_type

# Native codes under other names; the rest keep theirs, in lower case. None: the status says it all.
CODES: dict[str, str | None] = {
    "INTERNAL_ERROR": None,
    "HTTP_ERROR": None,
    "NOT_FOUND": None,
    "FILE_NOT_FOUND": "not_found",
    "FILE_EXISTS": "name_taken",
    "FILE_TOO_LARGE": "request_too_large",
    "METHOD_NOT_ALLOWED": "method_not_supported",
    "SERVICE_OVERLOADED": "server_is_overloaded",
}
PARAMS = {"VOICE_NOT_FOUND": "voice", "FILE_EXISTS": "name"}
FIELDS = {"text": "input", "reference_audio_filename": "voice"}  # of the native API, by their names here

UNREADABLE = "We could not parse the JSON body of your request."
EXPECTED = {  # what the validator calls it
    "string": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "list": "an array",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
}
KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
LONGEST_PATH = 200
NO_JSON = ("json_invalid", "unreadable")


FAILURES: dict[int | str, dict[str, Any]] = {  # of every address, for OpenAPI
    "4XX": {"model": ErrorEnvelope, "description": "400 for whatever is wrong in the request, 404, 405, 413, 415"},
    500: {"model": ErrorEnvelope, "description": "generation_failed, or null"},
    503: {
        "model": ErrorEnvelope,
        "description": "server_is_overloaded, model_unavailable, with `Retry-After`",
    },
    504: {"model": ErrorEnvelope, "description": "generation_timeout"},
    507: {"model": ErrorEnvelope, "description": "storage_full"},
}


@contextmanager
def blamed_on(field: str, *kinds: type[SpeechError]) -> Iterator[None]:
    """Failures of these kinds come from this field of the request, and name it."""
    try:
        yield
    except kinds as error:
        error.detail = [{"type": "value_error", "loc": ["body", field], "msg": error.message}]
        raise


def is_spoken(scope: Scope) -> bool:
    """True for the addresses whose clients expect OpenAI's envelope."""
    path: str = scope["path"]
    return path == "/v1" or path.startswith("/v1/")


def envelope(status: int, code: str, sentence: str, detail: Any = None) -> ErrorEnvelope:
    """A failure with what is known of it natively: its code, and as `detail` the fields at fault if it has any."""
    faults = detail if isinstance(detail, list) else []
    fault = faults[0] if faults and isinstance(faults[0], dict) and "loc" in faults[0] else None
    param = _param(fault["loc"]) if fault else PARAMS.get(code)
    if fault and code in ("VALIDATION_ERROR", "TEXT_TOO_LONG"):
        named = None if _is_unreadable(fault) else _code(fault["type"])
    else:
        named = CODES.get(code, code.lower())
    return ErrorEnvelope(error=ErrorBody(message=sentence, type=_type(status), param=param, code=named))


def refusal(status: int, request: Request, otherwise: str) -> str:
    """What the framework refuses, in OpenAI's words where it has some."""
    method, path = request.method, request.url.path[:LONGEST_PATH]
    is_form = media_type(request.headers.get("content-type", "")) == FORM
    return {
        400: "We could not parse the form in the body of your request." if is_form else UNREADABLE,
        404: f"Invalid URL ({method} {path})",
        405: f"Not allowed to {method} on {path}.",
    }.get(status, otherwise)


def sentence_of(fault: Mapping[str, Any], names: Mapping[str, str] = FIELDS) -> str:
    """What is wrong with a field, in the words that OpenAI's clients look for. `fault` is the validator's own.

    `names` are those that fields have here instead of their own.
    """
    kind, field = fault["type"], _param(fault["loc"], names)
    if _is_unreadable(fault):
        return UNREADABLE
    code = _code(kind)
    if code == "missing_required_parameter":
        return f"Missing required parameter: '{field}'."
    if code == "invalid_type":
        expected = EXPECTED.get(_expected(kind), "another type")
        where = f"'{field}'" if field else "the body"
        return f"Invalid type for {where}: expected {expected}, but got {_kind(fault.get('input'))} instead."
    if field is None:
        return str(fault["msg"])
    if kind == "literal_error":
        return f"Invalid value for '{field}'. Supported values are: {fault['ctx']['expected']}."
    if "than" in kind and (both := bounds(field)):
        return f"Invalid value for '{field}': it must be from {both[0]:.10g} to {both[1]:.10g}."
    return f"Invalid value for '{field}': {fault['msg']}"


def _param(location: Sequence[Any], names: Mapping[str, str] = FIELDS) -> str | None:
    """The field at the top of the body; an item of a list is told by its list."""
    named = [part for part in location[1:] if isinstance(part, str)]
    return names.get(named[0], named[0]) if named else None


def _is_unreadable(fault: Mapping[str, Any]) -> bool:
    """True if there is no JSON in the body, or no body."""
    return fault["type"] in NO_JSON or (fault["type"] == "missing" and _param(fault["loc"]) is None)


def _code(kind: str) -> str:
    if kind == "missing":
        return "missing_required_parameter"
    if kind in ("string_too_short", "string_too_long"):
        return kind
    return "invalid_type" if _expected(kind) in EXPECTED else "invalid_value"


def _expected(kind: str) -> str:
    return "int" if kind == "int_from_float" else kind.removesuffix("_type")


def _kind(value: Any) -> str:
    return KINDS.get(type(value), "null")


def _type(status: int) -> str:
    if status < 500:
        return "requests" if status == 429 else "invalid_request_error"
    return "service_unavailable_error" if status == 503 else "server_error"
