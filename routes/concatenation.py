"""`POST /api/v1/concat` and `/api/v1/concat/mixed`: generated files, uploads and silences, joined into one."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import Response

from api_models.concatenation import (
    MOST_UPLOADS,
    ConcatenationBody,
    ConcatenationReply,
    DryRunReply,
    FileMode,
    JoinBody,
    MixedConcatenationBody,
)
from concatenation import ConcatenationRequest
from config.settings import ApiSettings
from resilience import errors
from resilience.errors import InvalidRequest, UploadMismatch
from routes.delivery import FormatQuery, delivery
from routes.deps import CoreDep, SettingsDep, json_only, unless_client_leaves
from routes.errors import documented
from routes.responses import audio_answers, generated_file
from routes.sources import Sources
from routes.uploads import read_form
from utils.media_types import FORM

JOIN_FAILURES = (
    errors.InvalidRequest,
    errors.InvalidPath,
    errors.InvalidAudio,
    errors.FileMissing,
    errors.NameTaken,
    errors.UnsupportedFormat,
    errors.FileTooLarge,
    errors.StorageFull,
)
JSON_FIELD, FILES_FIELD = "request_json", "uploaded_files"
SEGMENTS = ("server_file", "upload", "silence")

ModeQuery = Annotated[
    FileMode | None,
    Query(description="stream (or file, download): the finished file; url (or json): a description of the files"),
]
DryRunQuery = Annotated[
    bool | None, Query(description="true = only say what would be heard, and how long the work would take")
]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references to definitions of its own, which nothing finds inside another document."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items() if key not in ("$defs", "discriminator")}


BODY_SCHEMA = MixedConcatenationBody.model_json_schema()
MIXED_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": [JSON_FIELD],
                    "additionalProperties": False,
                    "properties": {
                        JSON_FIELD: {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": _inlined(BODY_SCHEMA, BODY_SCHEMA["$defs"]),
                        },
                        FILES_FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            }
        },
    }
}

router = APIRouter(prefix="/api/v1", tags=["concatenation"])


@router.post(
    "/concat",
    summary="Join generated files",
    response_class=Response,
    dependencies=[Depends(json_only)],
    responses={**audio_answers(ConcatenationReply), **documented(*JOIN_FAILURES)},
)
async def join_files(
    request: Request,
    body: ConcatenationBody,
    core: CoreDep,
    response_mode: ModeQuery = None,
    return_format: FormatQuery = None,
    dry_run: DryRunQuery = None,
) -> Response:
    """Join files below outputs/ and silences into one, and keep it in every one of `export_formats`.

    Between two files a silence that is written there wins; else there is a pause, if `pause_duration_ms` asks for
    one; else they meet, over `crossfade_ms`. Closing the connection stops the work.
    """
    return await _answer(request, core, body, body.to_request(), (response_mode, return_format, dry_run))


@router.post(
    "/concat/mixed",
    summary="Join generated files and uploads",
    response_class=Response,
    responses={**audio_answers(ConcatenationReply), **documented(*JOIN_FAILURES, errors.UploadMismatch)},
    openapi_extra=MIXED_FORM,
)
async def join_files_and_uploads(
    request: Request,
    core: CoreDep,
    settings: SettingsDep,
    response_mode: ModeQuery = None,
    return_format: FormatQuery = None,
    dry_run: DryRunQuery = None,
) -> Response:
    """The same with files of the form among them: the same options, rules and reply.

    `request_json` holds what is the body elsewhere, with `segments` in the place of `files`.
    """
    async with AsyncExitStack() as borrowed:
        body, uploads = await _read(request, settings.api, borrowed)
        sources = Sources(request, borrowed)
        files = [await sources.recording(None, upload) for upload in uploads]
        joined = body.to_request([file for file in files if file])
        return await _answer(request, core, body, joined, (response_mode, return_format, dry_run))


async def _answer(
    request: Request,
    core: CoreDep,
    body: JoinBody,
    joined: ConcatenationRequest,
    query: tuple[FileMode | None, FormatQuery, bool | None],
) -> Response:
    mode, format_name, dry_run = query
    wanted = delivery(
        query=(mode, format_name),
        body=(body.response_mode, body.return_format),
        options=core.concatenation_options(joined),
    )
    if body.dry_run if dry_run is None else dry_run:
        plan = await unless_client_leaves(request, core.plan_concatenation(joined))
        return await asyncio.to_thread(_json, DryRunReply.of, plan)
    result = await unless_client_leaves(request, core.join(joined))
    if wanted.mode == "json":
        return await asyncio.to_thread(_json, ConcatenationReply.of, result)
    return await generated_file(result, wanted.format, {"X-Generation-Seed": str(result.plan.seed)})


def _json(reply_of: Any, made: Any) -> Response:
    """Of a thousand files it is a megabyte."""
    return Response(reply_of(made).model_dump_json(), media_type="application/json")


async def _read(
    request: Request, api: ApiSettings, borrowed: AsyncExitStack
) -> tuple[MixedConcatenationBody, list[UploadFile]]:
    """The checked body of a form, and the files that came along."""
    form = await read_form(
        request,
        max_files=MOST_UPLOADS,
        max_fields=1,
        max_part_size=api.max_body_kb * 1024,
        hint="join some of them first",
    )
    borrowed.push_async_callback(form.close)
    uploads, written = [], None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name == FILES_FIELD:
            uploads.append(value)
        elif isinstance(value, str) and name == JSON_FIELD:
            written = value
        else:
            sentence = f"{name} is not one of the fields: {JSON_FIELD}, with JSON, and {FILES_FIELD}, with files"
            raise InvalidRequest(sentence, field=name, kind="extra_forbidden")
    if written is None:
        raise InvalidRequest(f"{JSON_FIELD} is missing", field=JSON_FIELD, kind="missing")
    body = _checked(written)
    if body.uploads != len(uploads):
        raise UploadMismatch(
            f"the segments speak of {body.uploads} uploads, and the form holds {len(uploads)}",
            detail={"uploads_used": body.uploads, "uploads_sent": len(uploads)},
        )
    return body, uploads


def _checked(written: str) -> MixedConcatenationBody:
    try:
        return MixedConcatenationBody.model_validate(json.loads(written))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**fault, "loc": ("body", *_place(fault["loc"]))} for fault in faults]) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{JSON_FIELD} is not JSON", field=JSON_FIELD, kind="json_invalid") from error


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Where a fault is, in the body's own words: without the kind of segment that it was checked as."""
    return tuple(
        part for at, part in enumerate(location) if not (at == 2 and location[0] == "segments" and part in SEGMENTS)
    )
