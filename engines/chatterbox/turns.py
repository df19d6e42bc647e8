"""Whose tokens become sound now, and with whom together.

On a processor one by one: together they would take as long. A GPU renders several in little more time than one, so
there whoever is due waits a moment for others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import groupby, islice

from engines.chatterbox.work import SpeakingChunk

GATHER_S = 0.05  # for so long a chunk that is spoken waits for others
SOON_TOKENS = 6  # a stream that lacks so many will be due in a hundredth of a second


def due(decoding: Sequence[SpeakingChunk], together: int) -> list[list[SpeakingChunk]]:
    """The chunks to be rendered now, in batches of at most `together`: pieces that are wanted early, then whole chunks.

    Those of a batch have the same model and as many steps of the flow; one without speech is a batch of its own. Whole
    chunks take long: there is one batch of them at most, after which the others are given their next token.
    """
    streams = [chunk for chunk in decoding if chunk.stream is not None]
    ready = [chunk for chunk in streams if not chunk.needs_tokens]
    if len(ready) < together and any(0 < chunk.needs_tokens <= SOON_TOKENS for chunk in streams):
        ready = []
    ready.sort(key=lambda chunk: chunk.has_sounded)
    whole = [chunk for chunk in decoding if chunk.stream is None and chunk.is_spoken]
    if len(whole) < min(together, len(decoding)) and not _have_waited(whole):
        whole = []
    return [*_batches(ready, together), *islice(_batches(whole, together), 1)]


def _have_waited(spoken: Sequence[SpeakingChunk]) -> bool:
    now = time.monotonic()
    for chunk in spoken:
        chunk.spoken_at = chunk.spoken_at or now
    return any(now - (chunk.spoken_at or now) > GATHER_S for chunk in spoken)


def _batches(chunks: Iterable[SpeakingChunk], together: int) -> Iterable[list[SpeakingChunk]]:
    def likeness(chunk: SpeakingChunk) -> tuple[int, int, int]:
        return (0 if chunk.speech_tokens else id(chunk)), id(chunk.model), chunk.steps

    for _, alike in groupby(sorted(chunks, key=likeness), likeness):
        batch = list(alike)
        yield from (batch[start : start + together] for start in range(0, len(batch), together))
