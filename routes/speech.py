"""`POST /api/v1/tts`: a text in, speech out."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from api_models.speech import SpeechBody, SpeechReply
from mastering import bitrates
from resilience import errors
from routes.delivery import FormatQuery, ModeQuery, delivery
from routes.deps import CoreDep, json_only, unless_client_leaves
from routes.errors import documented
from routes.live import as_in_files, live_audio
from routes.responses import DOWNLOAD_FAILURES, GENERATION_FAILURES, audio_answers, generated_file
from routes.sources import Sources

router = APIRouter(prefix="/api/v1", tags=["speech"])


@router.post(
    "/tts",
    summary="Say a text",
    response_class=Response,
    dependencies=[Depends(json_only)],
    responses={
        **audio_answers(SpeechReply),
        **documented(*GENERATION_FAILURES, *DOWNLOAD_FAILURES, errors.TextTooLong),
    },
)
async def create_speech(
    request: Request,
    body: SpeechBody,
    core: CoreDep,
    response_mode: ModeQuery = None,
    return_format: FormatQuery = None,
) -> Response:
    """Say the text and keep the result in the outputs library, in every one of `export_formats`.

    The answer is the finished file, JSON that names the files, or the audio while it is made. Closing the connection
    stops the work.
    """
    async with AsyncExitStack() as borrowed:
        speech = body.to_request()
        if voice := await Sources(request, borrowed).recording(body.reference_audio_filename):
            speech = replace(speech, voice=voice.relative, voice_file=voice)
        options = await asyncio.to_thread(core.options, speech)
        wanted = delivery(
            query=(response_mode, return_format),
            body=(body.response_mode, body.return_format),
            save=body.save,
            options=options,
        )
        if wanted.mode == "live":
            stream = core.stream_speech(speech, keep=options.save)
            form = as_in_files(wanted.format, bitrates(options))
            return await live_audio(request, stream, *form, borrowed.pop_all(), tells_seed=True)
        result = await unless_client_leaves(request, core.speak(speech))
    if wanted.mode == "json":
        reply = SpeechReply.of(result)
        return JSONResponse(reply.model_dump(mode="json"), headers={"X-Engine": result.engine})
    return await generated_file(result, wanted.format, {"X-Generation-Seed": str(result.seed)})
