"""`POST /api/v1/tts`: a text in, speech out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from api_models import FormatName, ResponseMode, SpeechBody, SpeechReply
from resilience import errors
from resilience.errors import InvalidRequest
from routes.deps import CoreDep, json_only, unless_client_leaves
from routes.errors import documented
from routes.responses import AUDIO_HEADERS, generated_file
from utils.audio.formats import FORMATS

router = APIRouter(prefix="/api/v1", tags=["speech"])

AS_JSON = frozenset({"url", "json"})
BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "/tts",
    summary="Say a text",
    response_class=Response,
    dependencies=[Depends(json_only)],
    responses={
        200: {
            "description": "the audio (`response_mode=stream`), or a description of the files (`url`)",
            "model": SpeechReply,
            "content": {audio_format.media_type: BINARY for audio_format in FORMATS.values()},
            "headers": {name: {"schema": {"type": "string"}} for name in AUDIO_HEADERS},
        },
        **documented(
            errors.InvalidRequest,
            errors.TextTooLong,
            errors.InvalidPath,
            errors.InvalidAudio,
            errors.VoiceNotFound,
            errors.FileTooLarge,
            errors.UnsupportedFormat,
            errors.GenerationFailed,
            errors.GenerationTimeout,
            errors.ModelUnavailable,
            errors.ServiceOverloaded,
            errors.StorageFull,
        ),
    },
)
async def create_speech(
    request: Request,
    body: SpeechBody,
    core: CoreDep,
    response_mode: Annotated[
        ResponseMode | None,
        Query(description="stream (or file, download): the finished file; url (or json): a description of the files"),
    ] = None,
    return_format: Annotated[
        FormatName | None, Query(description="which of `export_formats` to stream; the first if left out")
    ] = None,
) -> Response:
    """Say the text and keep the result in the outputs library, in every one of `export_formats`.

    The answer is the finished file, or JSON that names the files. Closing the connection stops the work.
    """
    mode = response_mode or body.response_mode or "stream"
    if mode == "live":
        where = "query" if response_mode else "body"
        raise InvalidRequest(
            "live is not available in this version", field="response_mode", where=where, kind="not_available_yet"
        )
    speech = body.to_request()
    formats = core.options(speech).export_formats
    chosen = return_format or body.return_format or formats[0]
    if chosen not in formats:
        raise InvalidRequest(
            f"{chosen} is not among the export_formats of this request: {', '.join(formats)}",
            field="return_format",
            where="query" if return_format else "body",
        )
    result = await unless_client_leaves(request, core.speak(speech))
    if mode in AS_JSON:
        reply = SpeechReply.of(result)
        return JSONResponse(reply.model_dump(mode="json"), headers={"X-Engine": result.engine})
    return generated_file(result, chosen)
