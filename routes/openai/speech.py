"""`POST /v1/audio/speech`: a text in, speech out, as clients of OpenAI's API ask for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

import mastering
from api_models.openai import CreateSpeech, SpeechManner
from config.settings import Settings, SpeechSettings
from engines.base import EngineInfo
from management.voices import Voices
from planning import SpeechRequest
from resilience.errors import InvalidPath, InvalidRequest
from routes.deps import CoreDep, HostDep, SettingsDep, VoicesDep, json_only, unless_client_leaves
from routes.live import Bare, Framing, live_audio
from routes.openai.envelope import FAILURES, blamed_on
from routes.openai.events import SpeechEvents
from routes.openai.names import find_model, find_voice
from utils.audio.formats import Bitrates
from utils.audio.live_encode import LiveEncoder, Resampled, live_encoder

SAMPLE_RATE = 24_000
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}

router = APIRouter(prefix="/v1/audio", tags=["openai"], responses=FAILURES)


@router.post(
    "/speech",
    summary="Say a text (OpenAI)",
    response_class=Response,
    dependencies=[Depends(json_only)],
    responses={
        200: {
            "description": "the audio while it is made, bare or in events",
            "content": {
                **{
                    media_type: {"schema": {"type": "string", "format": "binary"}}
                    for media_type in MEDIA_TYPES.values()
                },
                "text/event-stream": {"schema": {"type": "string"}},
            },
        },
    },
)
async def create_speech(
    request: Request, body: CreateSpeech, core: CoreDep, host: HostDep, voices: VoicesDep, settings: SettingsDep
) -> Response:
    """Say the text, and send the audio while it is made: one file, 24 kHz, mono. Closing the connection stops the work.

    Fields of other servers of this API are ignored; those of `POST /api/v1/tts` that say how are heeded.
    """
    began_at = time.perf_counter()
    engine = host.info
    if engine is None:
        engine = await unless_client_leaves(request, host.wait_until_ready())

    def understood() -> tuple[SpeechRequest, SpeechSettings]:
        speech = request_of(body, engine, voices, settings)
        return speech, core.options(speech)

    with named_as_sent(body):
        speech, options = await asyncio.to_thread(understood)
    stream = core.stream_speech(speech, keep=settings.openai.save if body.save is None else body.save)
    framing: Framing = Bare(MEDIA_TYPES[body.response_format])
    if body.stream_format == "sse":
        framing = SpeechEvents(body.input)
    encoder = partial(encoder_at, format_name=body.response_format, bitrates=mastering.bitrates(options))
    with named_as_sent(body), blamed_on(body.sent_as("project"), InvalidPath):
        answer = await live_audio(request, stream, encoder, framing, AsyncExitStack(), tells_seed=True)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["OpenAI-Processing-Ms"] = str(round(1000 * (time.perf_counter() - began_at)))
    return answer


@contextmanager
def named_as_sent(body: SpeechManner) -> Iterator[None]:
    """A field at fault has the name that the client gave it."""
    try:
        yield
    except InvalidRequest as error:
        location = error.detail[0]["loc"]
        location[-1] = body.sent_as(location[-1])
        raise


def request_of(body: SpeechManner, engine: EngineInfo, voices: Voices, settings: Settings) -> SpeechRequest:
    """What is asked for, in this server's own names.

    Looks into the library: call it from a thread. Raises ModelNotFound, VoiceNotFound, AmbiguousVoice.
    """
    model = find_model(body.model, engine, settings.openai.models)
    voice = find_voice(body.voice, model, voices, settings.openai.voices, settings.speech.default_voice)
    return body.to_request(model.name, voice)


def encoder_at(sample_rate: int, format_name: str, bitrates: Bitrates) -> LiveEncoder:
    """For a model of this rate in Hz, in OpenAI's rate and containers."""
    encoder = live_encoder(format_name, SAMPLE_RATE, bitrates, integer16=True)
    return encoder if sample_rate == SAMPLE_RATE else Resampled(encoder, sample_rate, SAMPLE_RATE)
