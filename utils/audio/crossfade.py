"""Joining stretches of one recording that overlap, so that no seam is heard."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from utils.audio.waveform import Waveform

Curve = Literal["equal_power", "linear"]


def crossfade(left: Waveform, right: Waveform, overlap: int) -> Waveform:
    """Join two waveforms over the `overlap` samples that they share; n + m - overlap remain.

    The gains are the cosine and sine of one angle, so uncorrelated signals keep their power (equal-power law); where
    equal ones would exceed full scale they are held there. Raises ValueError if the rates differ or the overlap fits
    neither side.
    """
    if left.sample_rate != right.sample_rate:
        raise ValueError(f"cannot join {left.sample_rate} Hz to {right.sample_rate} Hz")
    if not 0 <= overlap <= min(len(left.samples), len(right.samples)):
        raise ValueError(f"an overlap of {overlap} samples fits neither side")
    before = len(left.samples) - overlap
    joint = left.samples[before:] * falling(overlap) + right.samples[:overlap] * rising(overlap)
    parts: list[NDArray[np.float32]] = [left.samples[:before], joint.clip(-1, 1), right.samples[overlap:]]
    return Waveform(np.concatenate(parts), left.sample_rate)


def rising(length: int, start: int = 0, stop: int | None = None, curve: Curve = "equal_power") -> NDArray[np.float32]:
    """The gains of a fade-in over `length` samples, from 0 to 1: of its samples from `start` to before `stop`."""
    share = np.arange(start, length if stop is None else stop) / max(1, length - 1)
    return np.asarray(share if curve == "linear" else np.sin(np.pi / 2 * share), np.float32)


def falling(length: int, start: int = 0, stop: int | None = None, curve: Curve = "equal_power") -> NDArray[np.float32]:
    """As `rising`, of a fade-out; the powers of both make 1 (equal power), or the gains do (linear)."""
    share = np.arange(start, length if stop is None else stop) / max(1, length - 1)
    return np.asarray(1 - share if curve == "linear" else np.cos(np.pi / 2 * share), np.float32)


class CrossfadeJoin:
    """Joins windows as they come, each to the one before by `crossfade`, into memory for `count` samples."""

    def __init__(self, count: int, overlap: int, sample_rate: int) -> None:
        self.joined = Waveform(np.zeros(count, np.float32), sample_rate)
        self._overlap = overlap
        self._end = 0  # of the windows so far
        self._given = 0

    @property
    def is_whole(self) -> bool:
        return self._end == len(self.joined.samples)

    def add(self, window: Waveform) -> Waveform:
        """What will not change any more once this window is there: all but the part that the next one overlaps."""
        rate = self.joined.sample_rate
        start = max(0, self._end - self._overlap)
        before = Waveform(self.joined.samples[start : self._end], rate)
        shared = len(before.samples)
        # only what is shared is computed: a copy of a window of five minutes would be 29 MB
        joint = crossfade(before, Waveform(window.samples[:shared], window.sample_rate), shared).samples
        self.joined.samples[start : self._end] = joint
        end = start + len(window.samples)
        self.joined.samples[self._end : end] = window.samples[shared:]
        self._end = end
        given, self._given = self._given, self._end - (0 if self.is_whole else self._overlap)
        return Waveform(self.joined.samples[given : self._given], rate)
