"""`/v1/audio/speech/stream`: a WebSocket over which a text is spoken while it is still being written."""

from __future__ import annotations

import asyncio
import base64
import logging
from contextlib import aclosing, suppress
from typing import Final, Literal

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from starlette.responses import Response

import mastering
from api_models.dictation import (
    Audio,
    Cancel,
    Done,
    End,
    Failure,
    Flush,
    Message,
    Said,
    SentenceStarts,
    Start,
    Started,
    Text,
    Usage,
)
from dictation import Dictation, Script, Sentence
from resilience.errors import InvalidRequest, NothingCame, OriginRefused, SpeechError, TryAgainLater
from routes.delivery import check_live
from routes.deps import CoreDep, HostDep, SettingsDep, VoicesDep
from routes.errors import told_in_envelope
from routes.live import STALLED_AFTER_S
from routes.openai.events import usage
from routes.openai.messages import Messages
from routes.openai.speech import MEDIA_TYPES, SAMPLE_RATE, encoder_at, named_as_sent, request_of
from security.origins import is_welcome
from utils.audio.join import Brake, Samples
from utils.audio.live_encode import LiveEncoder
from utils.audio.waveform import Waveform
from utils.text.tokens import count_tokens

FRAME_BYTES = 65_536  # of audio in one message at most: clients refuse what is too long
MADE_AHEAD = 2  # pieces that wait to be encoded, before the engine's wait for them

# What a connection is closed with (RFC 6455), by the status that a request would have got.
DONE, REFUSED, FAILED, LATER = 1000, 1008, 1011, 1013

logger = logging.getLogger(__name__)
router = APIRouter()

OVER: Final = "over"
Piece = Sentence | Waveform | Literal["flushed", "cancelled", "over"]


@router.websocket("/v1/audio/speech/stream")
async def dictate(socket: WebSocket, core: CoreDep, host: HostDep, voices: VoicesDep, settings: SettingsDep) -> None:
    """Docs: docs/api/endpoints/openai-websocket.md."""
    allowed = settings.server.cors_origin_regex
    if not is_welcome(socket.headers.get("origin"), socket.headers.get("host"), allowed):
        status, body = told_in_envelope(socket.scope, OriginRefused("pages of this origin may not use this server"))
        await socket.send_denial_response(Response(body.model_dump_json(), status, media_type="application/json"))
        return
    await socket.accept()
    wire = Wire(socket, settings.openai.dictation_idle_s)
    try:
        start = await wire.receive()
        if not isinstance(start, Start):
            raise InvalidRequest("the first message must be of the type 'start'", field="type")
        engine = host.info or await host.wait_until_ready()
        request = await asyncio.to_thread(request_of, start, engine, voices, settings)
        with named_as_sent(start):
            async with core.dictation(request) as dictation:
                check_live(dictation.manner.options)
                script = Script(dictation.manner.options.language, settings.api.max_text_length)
                await Session(wire, start, dictation, script).run()
    except WebSocketDisconnect:
        logger.info("dictation left by its client")
    except TimeoutError:
        logger.info("dictation client took nothing for %g seconds", STALLED_AFTER_S)
    except SpeechError as error:
        await wire.fail(error)


class Wire:
    """Messages in and out. Either may raise WebSocketDisconnect; TimeoutError is a client that takes nothing."""

    def __init__(self, socket: WebSocket, idle_s: float) -> None:
        self._socket = socket
        self._idle_s = idle_s
        self._messages = Messages()

    async def receive(self) -> Message:
        """The next message. Raises NothingCame and InvalidRequest."""
        try:
            async with asyncio.timeout(self._idle_s):
                frame = await self._socket.receive()
        except TimeoutError:
            raise NothingCame(f"nothing came and nothing was spoken for {self._idle_s:g} seconds") from None
        if frame["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(frame["code"])
        return self._messages.read(frame.get("text") or "")

    async def tell(self, message: BaseModel) -> None:
        async with asyncio.timeout(STALLED_AFTER_S):
            await self._socket.send_text(message.model_dump_json())

    async def play(self, content: bytes) -> None:
        async with asyncio.timeout(STALLED_AFTER_S):
            await self._socket.send_bytes(content)

    async def fail(self, error: SpeechError) -> None:
        """The last message, and why it is the last."""
        status, body = told_in_envelope(self._socket.scope, error)
        if body.error.param == "input":  # as it is called in a request for speech
            body.error.param = "text"
        later = error.retry_after_s if isinstance(error, TryAgainLater) else None
        with suppress(WebSocketDisconnect, TimeoutError):
            await self.tell(Failure(error=body.error, retry_after=later))
            await self.close(REFUSED if status < 500 else LATER if later else FAILED)

    async def close(self, code: int) -> None:
        await self._socket.close(code)


class Session:
    """Three tasks: one hears what is written, one has it spoken, one sends what is spoken."""

    def __init__(self, wire: Wire, start: Start, dictation: Dictation, script: Script) -> None:
        self._wire = wire
        self._start = start
        self._dictation = dictation
        self._script = script
        self._spoken: asyncio.Queue[Piece] = asyncio.Queue(MADE_AHEAD)
        self._speaking: asyncio.Task[None]
        self._is_sending = False

    async def run(self) -> None:
        """Until all was said, or something fails: raises what does."""
        await self._wire.tell(self._started())
        try:
            async with asyncio.TaskGroup() as tasks:
                self._speaking = tasks.create_task(self._speak())
                hearing = tasks.create_task(self._hear(tasks))
                await self._send()
                hearing.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        await self._wire.close(DONE)

    async def _hear(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                message = await self._wire.receive()
            except NothingCame:
                if self._is_idle:
                    raise
                continue
            match message:
                case Text():
                    await self._script.add(message.text)
                case Flush():
                    self._script.flush()
                case End():
                    self._script.end()
                case Cancel():
                    await self._cancel(tasks)
                case Start():
                    raise InvalidRequest("it has been started already", field="type")

    @property
    def _is_idle(self) -> bool:
        """Whether neither side has anything to do."""
        return self._script.is_waited_for and self._spoken.empty() and not self._is_sending

    async def _cancel(self, tasks: asyncio.TaskGroup) -> None:
        self._script.drop()
        self._speaking.cancel()
        await asyncio.wait([self._speaking])
        while not self._spoken.empty():
            self._spoken.get_nowait()
        await self._spoken.put("cancelled")
        self._speaking = tasks.create_task(self._speak())

    async def _speak(self) -> None:
        while await self._script.has_more():
            async with aclosing(self._dictation.utter(self._script.passages())) as utterance:
                async for piece in utterance:
                    await self._spoken.put(piece)
            await self._spoken.put("flushed")
        await self._spoken.put(OVER)

    async def _send(self) -> None:
        encoder = self._encoder()
        brake = Brake(self._dictation.sample_rate)
        tokens, count = 0, 0
        while (piece := await self._spoken.get()) != OVER:
            self._is_sending = True
            match piece:
                case Sentence():
                    tokens += count_tokens(piece.text)
                    await self._wire.tell(SentenceStarts(index=piece.index, text=piece.text.strip()))
                case Waveform():
                    count += len(piece.samples)
                    await self._play(encoder, brake.add(piece.samples))
                case "flushed" | "cancelled":
                    await self._play(encoder, brake.rest() if piece == "flushed" else brake.stop())
                    await self._wire.tell(Said(type=piece))
            self._is_sending = False
        await self._play(encoder, brake.rest(), is_last=True)
        duration_s = count / self._dictation.sample_rate
        done = Done(usage=Usage(**usage(tokens, duration_s)), duration_seconds=round(duration_s, 4))
        await self._wire.tell(done)
        logger.info("dictation done audio_s=%.2f", duration_s)

    async def _play(self, encoder: LiveEncoder, samples: Samples, *, is_last: bool = False) -> None:
        def encoded() -> bytes:
            content = encoder.encode(samples)
            return content + encoder.finish() if is_last else content

        if not len(samples) and not is_last:
            return
        content = await asyncio.to_thread(encoded)
        for start in range(0, len(content), FRAME_BYTES):
            part = content[start : start + FRAME_BYTES]
            if self._start.audio == "binary":
                await self._wire.play(part)
            else:
                await self._wire.tell(Audio(audio=base64.b64encode(part).decode()))

    def _encoder(self) -> LiveEncoder:
        bitrates = mastering.bitrates(self._dictation.manner.options)
        return encoder_at(self._dictation.sample_rate, self._start.response_format, bitrates)

    def _started(self) -> Started:
        manner = self._dictation.manner
        return Started(
            model=manner.model.name,
            voice=manner.voice.name,
            response_format=self._start.response_format,
            content_type=MEDIA_TYPES[self._start.response_format],
            sample_rate=SAMPLE_RATE,
            seed=manner.seed,
            warnings=manner.ignored,
        )
