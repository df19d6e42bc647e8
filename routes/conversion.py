"""`POST /api/v1/vc`: a recording in, the same words in another voice out."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from api_models.conversion import ConversionBody, ConversionReply
from mastering import bitrates
from resilience import errors
from routes.delivery import FormatQuery, ModeQuery, delivery
from routes.deps import CoreDep, json_only, unless_client_leaves
from routes.errors import documented
from routes.live import live_audio
from routes.responses import GENERATION_FAILURES, audio_answers, generated_file

router = APIRouter(prefix="/api/v1", tags=["voice conversion"])


@router.post(
    "/vc",
    summary="Say a recording in another voice",
    response_class=Response,
    dependencies=[Depends(json_only)],
    responses={**audio_answers(ConversionReply), **documented(*GENERATION_FAILURES, errors.FileMissing)},
)
async def convert_voice(
    request: Request,
    body: ConversionBody,
    core: CoreDep,
    response_mode: ModeQuery = None,
    return_format: FormatQuery = None,
) -> Response:
    """Convert the recording and keep the result, as long as the recording is, in every one of `export_formats`.

    The answer is the finished file, JSON that names the files, or the audio while it is made. Closing the connection
    stops the work.
    """
    conversion = body.to_request()
    options = core.conversion_options(conversion)
    wanted = delivery(
        query=(response_mode, return_format), body=(body.response_mode, body.return_format), options=options
    )
    if wanted.mode == "live":
        stream = core.stream_conversion(conversion)
        return await live_audio(request, stream, wanted.format, bitrates(options))
    result = await unless_client_leaves(request, core.convert(conversion))
    if wanted.mode == "json":
        reply = ConversionReply.of(result)
        return JSONResponse(reply.model_dump(mode="json"), headers={"X-Engine": result.engine})
    return await generated_file(result, wanted.format)
