"""Audio that leaves while it is made: one chunk of the HTTP body for each piece, and no length before the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from generations import Generation, LivePiece
from resilience.errors import SpeechError
from routes.deps import unless_client_leaves
from routes.errors import cut_short
from routes.responses import warning_header
from utils.audio.formats import FORMATS, Bitrates
from utils.audio.live_encode import LiveEncoder, live_encoder

STALLED_AFTER_S = 60.0  # a client that takes nothing for so long holds a place in line for nothing

logger = logging.getLogger(__name__)

Made = TypeVar("Made", bound=Generation)


class Framing(Protocol):
    """How encoded audio stands in the body. `add` takes a thread's time."""

    @property
    def media_type(self) -> str: ...

    def add(self, content: bytes) -> bytes: ...
    def end(self, duration_s: float) -> bytes: ...
    def failure(self, error: SpeechError) -> bytes:
        """The last words to a client that has part of the audio; with none, the connection is cut."""


@dataclass(frozen=True, slots=True)
class Bare:
    """The audio and nothing else."""

    media_type: str

    def add(self, content: bytes) -> bytes:
        return content

    def end(self, duration_s: float) -> bytes:  # noqa: ARG002 - nothing is told of it
        return b""

    def failure(self, error: SpeechError) -> bytes:  # noqa: ARG002 - there is no place for words
        return b""


def as_in_files(format_name: str, bitrates: Bitrates) -> tuple[Callable[[int], LiveEncoder], Framing]:
    """The encoder and the framing for audio as the finished file has it."""
    return partial(live_encoder, format_name, bitrates=bitrates), Bare(FORMATS[format_name].media_type)


async def live_audio(
    request: Request,
    stream: AsyncGenerator[LivePiece | Made],
    encoder_at: Callable[[int], LiveEncoder],
    framing: Framing,
    borrowed: AsyncExitStack,
    *,
    tells_seed: bool = False,
) -> Response:
    """The answer, once the first audio is there: what fails before it gets a status of its own.

    `encoder_at` makes the encoder for a sample rate. Takes `stream` over, and what was `borrowed` for it: both are
    closed when the answer is sent, or when the client leaves.
    """
    async with borrowed:
        first = await unless_client_leaves(request, _next(stream))
        assert isinstance(first, LivePiece)
        encoder = encoder_at(first.waveform.sample_rate)
        response = LiveAudio(first, stream, encoder, framing, borrowed.pop_all())
    response.headers.update({"X-Engine": first.engine, **warning_header(first.warnings)})
    if tells_seed:
        response.headers["X-Generation-Seed"] = str(first.seed)
    return response


class LiveAudio(StreamingResponse):
    """Sends pieces as they come. The body ends only if all was made and kept; else the connection is closed."""

    def __init__(
        self,
        first: LivePiece,
        stream: AsyncGenerator[LivePiece | Made],
        encoder: LiveEncoder,
        framing: Framing,
        borrowed: AsyncExitStack,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        super().__init__(_encoded(first, stream, encoder, framing), media_type=framing.media_type)
        self._stream = stream
        self._framing = framing
        self._borrowed = borrowed
        self._stalled_after_s = stalled_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._stalled_after_s):
                await send(message)

        async with self._borrowed, aclosing(self._stream):
            try:
                await self._send_all(scope, receive, send_in_time)
            except TimeoutError:
                logger.info("live client took nothing for %g seconds", self._stalled_after_s)

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SpeechError as error:
            cut_short(scope, error)
            if last_words := self._framing.failure(error):
                await send({"type": "http.response.body", "body": last_words})


async def _encoded(
    first: LivePiece, stream: AsyncIterator[LivePiece | Made], encoder: LiveEncoder, framing: Framing
) -> AsyncIterator[bytes]:
    def framed(piece: LivePiece) -> bytes:
        content = encoder.encode(piece.waveform.samples)
        return framing.add(content + encoder.finish() if piece.is_last else content)

    item: LivePiece | Made = first
    duration_s = 0.0
    while isinstance(item, LivePiece):
        duration_s += item.waveform.duration_s
        if content := await asyncio.to_thread(framed, item):
            yield content
        item = await anext(stream)
    logger.info("live audio sent files=%d warnings=%s", len(item.files), item.warnings)
    if end := framing.end(duration_s):
        yield end


async def _next(stream: AsyncIterator[LivePiece | Made]) -> LivePiece | Made:
    return await anext(stream)
