"""Audio that leaves while it is made: one chunk of the HTTP body for each piece, and no length before the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import TypeVar

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


async def live_audio(
    request: Request,
    stream: AsyncGenerator[LivePiece | Made],
    format_name: str,
    bitrates: Bitrates,
    borrowed: AsyncExitStack,
    *,
    tells_seed: bool = False,
) -> Response:
    """The answer, once the first audio is there: what fails before it gets a status of its own.

    Takes `stream` over, and what was `borrowed` for it: both are closed when the answer is sent, or when the client
    leaves.
    """
    async with borrowed:
        first = await unless_client_leaves(request, _next(stream))
        assert isinstance(first, LivePiece)
        encoder = live_encoder(format_name, first.waveform.sample_rate, bitrates)
        response = LiveAudio(first, stream, encoder, FORMATS[format_name].media_type, borrowed.pop_all())
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
        media_type: str,
        borrowed: AsyncExitStack,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        super().__init__(_encoded(first, stream, encoder), media_type=media_type)
        self._stream = stream
        self._borrowed = borrowed
        self._stalled_after_s = stalled_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._stalled_after_s):
                await send(message)

        async with self._borrowed, aclosing(self._stream):
            try:
                await super().__call__(scope, receive, send_in_time)
            except SpeechError as error:
                cut_short(scope, error)
            except TimeoutError:
                logger.info("live client took nothing for %g seconds", self._stalled_after_s)


async def _encoded(
    first: LivePiece, stream: AsyncIterator[LivePiece | Made], encoder: LiveEncoder
) -> AsyncIterator[bytes]:
    item: LivePiece | Made = first
    while isinstance(item, LivePiece):
        content = await asyncio.to_thread(encoder.encode, item.waveform.samples)
        if item.is_last:
            content += await asyncio.to_thread(encoder.finish)
        if content:
            yield content
        item = await anext(stream)
    logger.info("live audio sent files=%d warnings=%s", len(item.files), item.warnings)


async def _next(stream: AsyncIterator[LivePiece | Made]) -> LivePiece | Made:
    return await anext(stream)
