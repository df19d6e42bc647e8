"""Whose tokens become sound now, and with whom together.

On a processor one by one: together they would take as long. A GPU renders several in little more time than one, so
there whoever is ready waits a moment for others of his kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from engines.chatterbox.work import SpeakingChunk

GATHER_S = 0.05  # for so long at most
SOON_TOKENS = 6  # a stream that lacks no more will be ready in some hundredths of a second

Batch = list[SpeakingChunk]


def due(decoding: Sequence[SpeakingChunk], together: int) -> list[Batch]:
    """The chunks to be rendered now, in batches of at most `together`: first sounds, further pieces, whole chunks.

    Those of a batch have the same model and as many steps of the flow; one without speech is a batch of its own. Whole
    chunks take long: there is one batch of them at most, and none while a piece waits for others. Who is ready is given
    the time since when.
    """
    now = time.monotonic()
    for chunk in decoding:
        if not chunk.needs_tokens:
            chunk.ready_at = chunk.ready_at or now
    mute = [chunk for chunk in decoding if chunk.is_spoken and not chunk.speech_tokens]
    others = [chunk for chunk in decoding if chunk not in mute]
    pieces, are_held = _ready_pieces([chunk for chunk in others if chunk.stream is not None], together)
    whole = [] if are_held else _ready_whole([chunk for chunk in others if chunk.stream is None], together)
    return [*([chunk] for chunk in mute), *pieces, *whole]


def _ready_pieces(streams: Sequence[SpeakingChunk], together: int) -> tuple[list[Batch], bool]:
    """Batches of those that have tokens enough for their next piece, and whether some of them wait for others."""
    batches: list[Batch] = []
    are_held = False
    for alike in _grouped(sorted(streams, key=lambda chunk: chunk.has_sounded)):
        ready = [chunk for chunk in alike if not chunk.needs_tokens]
        if any(0 < chunk.needs_tokens <= SOON_TOKENS for chunk in alike) and _may_wait(ready, together):
            are_held = True
        else:
            batches += [ready[start : start + together] for start in range(0, len(ready), together)]
    return batches, are_held


def _ready_whole(chunks: Sequence[SpeakingChunk], together: int) -> list[Batch]:
    """A batch of those whose last token is there, if any."""
    for alike in _grouped(chunks):
        spoken = [chunk for chunk in alike if chunk.is_spoken]
        if spoken and (len(spoken) == len(alike) or not _may_wait(spoken, together)):
            return [spoken[:together]]
    return []


def _may_wait(ready: Sequence[SpeakingChunk], together: int) -> bool:
    """Whether there is room beside them in a batch, and none of them has waited for long."""
    longest_ago = time.monotonic() - GATHER_S
    return 0 < len(ready) < together and all((chunk.ready_at or 0.0) > longest_ago for chunk in ready)


def _grouped(chunks: Iterable[SpeakingChunk]) -> Iterable[Batch]:
    """Those that can be rendered together, and have as much reason to; in the order in which the first of each came."""
    groups: dict[tuple[int, int, bool], Batch] = {}
    for chunk in chunks:
        groups.setdefault((id(chunk.model), chunk.steps, chunk.has_sounded), []).append(chunk)
    return groups.values()
