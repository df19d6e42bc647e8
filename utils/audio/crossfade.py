"""Joining stretches of one recording that overlap, so that no seam is heard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utils.audio.waveform import Waveform


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
    angle = np.linspace(0, np.pi / 2, overlap, dtype=np.float32)
    before = len(left.samples) - overlap
    joint = left.samples[before:] * np.cos(angle) + right.samples[:overlap] * np.sin(angle)
    parts: list[NDArray[np.float32]] = [left.samples[:before], joint.clip(-1, 1), right.samples[overlap:]]
    return Waveform(np.concatenate(parts), left.sample_rate)


class CrossfadeJoin:
    """Joins windows as they come, each to the one before by `crossfade`; keeps no more than the overlap."""

    def __init__(self, overlap: int, sample_rate: int) -> None:
        self._overlap = overlap
        self._held: Waveform | None = None
        self._nothing = Waveform(np.zeros(0, np.float32), sample_rate)

    def add(self, window: Waveform) -> Waveform:
        """What can be sent on once this window is there: all but the part that the next one overlaps."""
        joined = crossfade(self._held, window, self._overlap) if self._held else window
        count = max(0, len(joined.samples) - self._overlap)
        self._held = Waveform(joined.samples[count:], joined.sample_rate)
        return Waveform(joined.samples[:count], joined.sample_rate)

    def finish(self) -> Waveform:
        """The rest, after the last window."""
        return self._held or self._nothing
