"""Joining the spoken chunks of a text, with the pauses a reader would make, while they are still being spoken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.audio.waveform import Waveform

Samples = NDArray[np.float32]

SILENCE_BELOW_PEAK_DB = -50.0  # an engine's own silence: hiss and the end of a decay, not speech
FADE_MS = 4.0  # at each end that meets a pause: long enough to be no click, too short to soften a consonant
NOTHING = np.zeros(0, np.float32)


class PauseJoin:
    """Takes the pieces of each chunk in turn and gives back what can be sent on already.

    After chunk i comes a pause of at least `pauses_ms[i]`; after the last one none. Engines end and begin their chunks
    with silences of different lengths. They count as part of the pause, and only what is missing is put in: nothing
    that an engine made is cut away. How long a chunk is silent at its end is measured against its own peak, at its
    start against the loudest sample before it, since its own is yet to come. So the joined samples are the same
    whatever the sizes of the pieces.

    Held back are the last `FADE_MS` of what a chunk has so far, and its start until something sounds.
    """

    def __init__(self, pauses_ms: Sequence[float], sample_rate: int) -> None:
        self._rate = sample_rate
        self._pauses: list[int] = []
        self.expect(pauses_ms)
        self._fade = round(FADE_MS * sample_rate / 1000)
        self._silent_below = 0.0
        self._index = 0
        self._parts: list[Samples] = []  # of the current chunk
        self._held = NOTHING
        self._has_begun = True
        self._silence_before = 0  # at the end of the chunk before

    def expect(self, pauses_ms: Sequence[float]) -> None:
        """The text goes on for longer than was known: the pauses after the next chunks.

        The chunk that was the last one until now must not have begun.
        """
        self._pauses += [round(pause_ms * self._rate / 1000) for pause_ms in pauses_ms]

    def add(self, samples: Samples) -> Samples:
        """The next piece of the current chunk."""
        self._parts.append(samples)
        self._held = np.concatenate([self._held, samples])
        if self._has_begun:
            return self._release()
        silence = _silence(self._held, self._silent_below)
        if len(self._held) < 2 * self._fade or silence == len(self._held):
            return NOTHING
        return np.concatenate([self._begin(silence), self._release()])

    def end_chunk(self) -> Samples:
        """The current chunk is whole; the next piece is the next chunk's."""
        gap = NOTHING if self._has_begun else self._begin(_silence(self._held, self._silent_below))
        whole = np.concatenate([NOTHING, *self._parts])
        rest = self._held
        if self._index < len(self._pauses):
            fading = min(self._fade, len(whole) // 2)
            rest[len(rest) - fading :] *= ramp(fading)[::-1]
        silent_below = float(np.abs(whole).max(initial=0.0)) * 10 ** (SILENCE_BELOW_PEAK_DB / 20)
        self._silence_before = _silence(whole[::-1], silent_below)
        self._silent_below = max(self._silent_below, silent_below)
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


class Brake:
    """Holds back the last `FADE_MS` of a sound that comes in pieces, so that it can stop at once without a click."""

    def __init__(self, sample_rate: int) -> None:
        self._fade = round(FADE_MS * sample_rate / 1000)
        self._held = NOTHING

    def add(self, samples: Samples) -> Samples:
        """The next piece; all but the end of what has come."""
        held = np.concatenate([self._held, samples])
        count = max(0, len(held) - self._fade)
        self._held = held[count:].copy()
        return held[:count]

    def rest(self) -> Samples:
        """What is held back, as it is: the sound has ended by itself."""
        rest, self._held = self._held, NOTHING
        return rest

    def stop(self) -> Samples:
        """What is held back, faded out."""
        rest = self.rest()
        return rest * ramp(len(rest))[::-1]


def in_a_row(pieces: Iterable[Samples], sample_rate: int) -> Waveform:
    """The pieces one after the other as they are; of one, itself, of none, no samples."""
    parts = [piece for piece in pieces if len(piece)]
    return Waveform(parts[0] if len(parts) == 1 else np.concatenate([NOTHING, *parts]), sample_rate)


def ramp(length: int) -> Samples:
    """The gains of a fade-in."""
    return np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)


def _silence(samples: Samples, silent_below: float) -> int:
    """How many samples at the start are not above that; all of them if nothing is."""
    sounds = np.abs(samples) > silent_below
    return int(np.argmax(sounds)) if sounds.any() else len(samples)
