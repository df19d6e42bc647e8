"""Joining the chunks of a text while they are still being spoken, with the pauses of `join.with_pauses`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.audio.join import FADE_MS, SILENCE_BELOW_PEAK_DB, edge_silence, ramp

Samples = NDArray[np.float32]

NOTHING = np.zeros(0, np.float32)


class LiveJoin:
    """Takes the pieces of each chunk in turn and gives back what can be sent on already.

    Joined, it is what `join.with_pauses` makes of the chunks, but for one thing: how long a chunk is silent at its
    start is measured against the loudest sample heard until then, of this chunk and those before it, because the rest
    of the chunk is yet to come. The pause before a chunk that grows louder than all before it may so be longer, that
    before a quieter one shorter, by the time that its onset takes; chunks of one voice differ by a few milliseconds.

    Held back are the last `FADE_MS` of what a chunk has so far, and its start until something sounds.
    """

    def __init__(self, pauses_ms: Sequence[float], sample_rate: int) -> None:
        self._pauses = [round(pause_ms * sample_rate / 1000) for pause_ms in pauses_ms]
        self._fade = round(FADE_MS * sample_rate / 1000)
        self._loudest = 0.0
        self._index = 0
        self._parts: list[Samples] = []  # of the current chunk
        self._held = NOTHING
        self._has_begun = True
        self._silence_before = 0  # at the end of the chunk before

    def add(self, samples: Samples) -> Samples:
        """The next piece of the current chunk."""
        self._parts.append(samples)
        self._held = np.concatenate([self._held, samples])
        self._loudest = max(self._loudest, float(np.abs(samples).max(initial=0.0)))
        if self._has_begun:
            return self._release()
        sounding = np.abs(self._held) > self._loudest * 10 ** (SILENCE_BELOW_PEAK_DB / 20)
        if len(self._held) < 2 * self._fade or not sounding.any():
            return NOTHING
        return np.concatenate([self._begin(int(sounding.argmax())), self._release()])

    def end_chunk(self) -> Samples:
        """The current chunk is whole; the next piece is the next chunk's."""
        whole = np.concatenate([NOTHING, *self._parts])
        gap = NOTHING if self._has_begun else self._begin(edge_silence(whole))
        rest = self._held
        if self._index < len(self._pauses):
            fading = min(self._fade, len(whole) // 2)
            rest[len(rest) - fading :] *= ramp(fading)[::-1]
        self._silence_before = edge_silence(whole[::-1])
        self._index += 1
        self._parts, self._held, self._has_begun = [], NOTHING, False
        return np.concatenate([gap, rest])

    def _begin(self, silence: int) -> Samples:
        """The gap before the current chunk, which is all held still and begins with so much silence of its own."""
        self._has_begun = True
        fading = min(self._fade, len(self._held) // 2)
        self._held[:fading] *= ramp(fading)
        return np.zeros(max(0, self._pauses[self._index - 1] - self._silence_before - silence), np.float32)

    def _release(self) -> Samples:
        """What cannot be part of the fade at the chunk's end; the last chunk has none."""
        kept = self._fade if self._index < len(self._pauses) else 0
        count = max(0, len(self._held) - kept)
        released, self._held = self._held[:count], self._held[count:].copy()
        return released
