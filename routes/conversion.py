"""`POST /api/v1/vc`: a recording in, the same words in another voice out."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api_models.conversion import FILES, ConversionBody, ConversionReply, conversion_form_schema
from api_models.fields import listed
from mastering import bitrates
from resilience import errors
from resilience.errors import InvalidRequest, UnsupportedFormat
from routes.delivery import FormatQuery, ModeQuery, delivery
from routes.deps import CoreDep, unless_client_leaves
from routes.errors import documented
from routes.live import as_in_files, live_audio
from routes.responses import DOWNLOAD_FAILURES, GENERATION_FAILURES, audio_answers, generated_file
from routes.sources import Sources
from routes.uploads import read_form
from utils.media_types import FORM, is_json, media_type

BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ConversionBody.model_json_schema()},
            FORM: {"schema": conversion_form_schema()},
        },
    }
}

router = APIRouter(prefix="/api/v1", tags=["voice conversion"])


@router.post(
    "/vc",
    summary="Say a recording in another voice",
    response_class=Response,
    responses={
        **audio_answers(ConversionReply),
        **documented(*GENERATION_FAILURES, *DOWNLOAD_FAILURES, errors.FileMissing),
    },
    openapi_extra=BODY,
)
async def convert_voice(
    request: Request,
    core: CoreDep,
    response_mode: ModeQuery = None,
    return_format: FormatQuery = None,
) -> Response:
    """Convert the recording and keep the result, as long as the recording is, in every one of `export_formats`.

    Recording and voice are named by their paths in the libraries or by web addresses, or come along as the files of a
    form. The answer is the finished file, JSON that names the files, or the audio while it is made. Closing the
    connection stops the work.
    """
    async with AsyncExitStack() as borrowed:
        body, files = await _read(request, borrowed)
        options = core.conversion_options(body.to_request())
        wanted = delivery(
            query=(response_mode, return_format),
            body=(body.response_mode, body.return_format),
            save=body.save,
            options=options,
        )
        sources = Sources(request, borrowed)
        conversion = body.to_request()
        if source := await sources.recording(body.input_audio_source, files.get("input_audio")):
            conversion = replace(conversion, source=source.relative, source_file=source)
        if voice := await sources.recording(body.target_voice_source, files.get("target_voice")):
            conversion = replace(conversion, voice=voice.relative, voice_file=voice)
        if wanted.mode == "live":
            stream = core.stream_conversion(conversion, keep=options.save)
            form = as_in_files(wanted.format, bitrates(options))
            return await live_audio(request, stream, *form, borrowed.pop_all())
        result = await unless_client_leaves(request, core.convert(conversion))
    if wanted.mode == "json":
        reply = ConversionReply.of(result)
        return JSONResponse(reply.model_dump(mode="json"), headers={"X-Engine": result.engine})
    return await generated_file(result, wanted.format)


async def _read(request: Request, borrowed: AsyncExitStack) -> tuple[ConversionBody, dict[str, UploadFile]]:
    """The body in either form, checked by one model, and the files that came along."""
    if is_json(request.headers.get("content-type", "")):
        try:
            return _checked(json.loads(await request.body()), strict=True), {}
        except (ValueError, RecursionError) as error:
            raise HTTPException(400) from error
    if media_type(request.headers.get("content-type", "")) != FORM:
        raise UnsupportedFormat(f"the body must be application/json or {FORM}")
    form = await read_form(request, max_files=len(FILES), hint=f"it takes {' and '.join(FILES)}")
    borrowed.push_async_callback(form.close)
    given: dict[str, Any] = {}
    files: dict[str, UploadFile] = {}
    for name, value in form.multi_items():
        if name in given or name in files:
            raise InvalidRequest(f"{name} is given more than once", field=name)
        if isinstance(value, UploadFile):
            files[name] = value
        elif value:
            given[name] = listed(value) if name == "export_formats" else value
    for name, upload in files.items():
        if name not in FILES:
            raise InvalidRequest(f"{name} is no field for a file; {' and '.join(FILES)} are", field=name)
        if FILES[name] in given:
            raise InvalidRequest(f"{name} and {FILES[name]} are the same recording: give one of them", field=name)
        given[FILES[name]] = upload.filename or "upload"
    return _checked(given, strict=False), files


def _checked(given: Any, *, strict: bool) -> ConversionBody:
    try:
        return ConversionBody.model_validate(given, strict=strict)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from error
