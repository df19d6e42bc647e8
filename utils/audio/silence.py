"""Shortening the silences inside a recording, by the rule of auto-editor.

A frame counts as loud if its peak is at least a given share of the recording's. What lies around loud frames stays,
by a margin; so does a silence too short to be a pause. All else is cut out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.audio.join import ramp
from utils.audio.waveform import Waveform

FRAME_S = 1 / 30  # auto-editor's, for audio without a picture
LEAST_SILENCE_S = 0.2  # its default too: the closure of a "p" is no pause, whatever the margin
FADE_S = 0.005

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shortened:
    """A waveform, the seconds that were cut out of it, and in how many places."""

    waveform: Waveform
    removed_s: float
    cuts: int


def shortened(waveform: Waveform, threshold: float = 0.06, margin_s: float = 0.2) -> Shortened:
    """Cut out what is silent: below `threshold` times the loudest sample, and `margin_s` away from anything louder.

    So a pause of a second becomes one of twice the margin, and silence at the edges becomes one margin. Cuts inside
    are cross-faded, those at the edges faded. At 0 nothing is silent; at 1 what is around the loudest sample stays.
    A recording without any sound stays as it is.
    """
    samples, rate = waveform.samples, waveform.sample_rate
    kept = list(_kept(samples, rate, threshold, margin_s))
    length = sum(end - start for start, end in kept)
    if length == len(samples):
        return Shortened(waveform, 0.0, 0)
    cuts = len(kept) - 1 + (kept[0][0] > 0) + (kept[-1][1] < len(samples))
    return Shortened(Waveform(_joined(samples, kept, round(FADE_S * rate)), rate), (len(samples) - length) / rate, cuts)


def _kept(samples: Samples, rate: int, threshold: float, margin_s: float) -> Iterator[tuple[int, int]]:
    """Start and end sample of what stays, in order; they neither touch nor overlap."""
    count = len(samples)
    frame = max(1, round(FRAME_S * rate))
    starts = np.arange(0, count, frame)
    peaks = np.zeros(1)
    if count:
        peaks = np.maximum(np.maximum.reduceat(samples, starts), -np.minimum.reduceat(samples, starts))
    if not peaks.any():
        yield 0, count
        return
    loud = peaks >= threshold * float(peaks.max())
    changes = np.flatnonzero(np.diff(loud, prepend=False, append=False))
    margin, least = round(margin_s * rate), round(LEAST_SILENCE_S * rate)
    start = end = last_loud = -1
    for first, last in (changes.reshape(-1, 2) * frame).tolist():
        if end < 0:
            start = max(0, first - margin) if first > least else 0
        elif first - last_loud > max(least, 2 * margin):
            yield start, end
            start = first - margin
        last_loud = min(last, count)
        end = min(last_loud + margin, count)
    yield start, end if count - last_loud > max(least, margin) else count


def _joined(samples: Samples, kept: list[tuple[int, int]], fade: int) -> Samples:
    """What is kept, each stretch fading into the next over `fade` samples of what was cut out on either side."""
    half = fade // 2
    result = np.zeros(sum(end - start for start, end in kept), np.float32)
    position = 0
    for start, end in kept:
        before = half if position else 0
        after = half if end != kept[-1][1] else 0
        part = samples[start - before : end + after].copy()
        if start:
            _fade(part, ramp(2 * half if before else fade))
        if end < len(samples):
            _fade(part[::-1], 1 - ramp(2 * half)[::-1] if after else ramp(fade))
        result[position - before : position - before + len(part)] += part
        position += end - start
    return result


def _fade(samples: Samples, gains: Samples) -> None:
    """Fade in, in place; a stretch that is shorter than that, at the very end of a recording, as far as it goes."""
    samples[: len(gains)] *= gains[: len(samples)]
