"""Joining the spoken chunks of a text into one waveform, with the pauses a reader would make."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.audio.waveform import Waveform

SILENCE_BELOW_PEAK_DB = -50.0  # an engine's own trailing silence: hiss and the end of a decay, not speech
FADE_MS = 4.0  # at each end that meets a pause: long enough to be no click, too short to soften a consonant


def with_pauses(waveforms: Sequence[Waveform], pauses_ms: Sequence[float]) -> Waveform:
    """One waveform, with a pause of at least `pauses_ms[i]` after waveform i; the last has none (n - 1 pauses).

    Engines end and begin their chunks with silences of different lengths. They count as part of the pause, and only
    what is missing is put in: nothing that an engine made is cut away. Raises ValueError if the rates differ.
    """
    if len(pauses_ms) != len(waveforms) - 1:
        raise ValueError(f"{len(waveforms)} waveforms have {len(waveforms) - 1} gaps, not {len(pauses_ms)}")
    rate = waveforms[0].sample_rate
    if any(waveform.sample_rate != rate for waveform in waveforms):
        raise ValueError("waveforms of different rates cannot be joined")
    gaps = [
        max(0, round(pause_ms * rate / 1000) - edge_silence(left.samples[::-1]) - edge_silence(right.samples))
        for left, right, pause_ms in zip(waveforms, waveforms[1:], pauses_ms, strict=False)
    ]
    joined = np.zeros(sum(gaps) + sum(len(waveform.samples) for waveform in waveforms), dtype=np.float32)
    position = 0
    for index, (waveform, gap) in enumerate(zip(waveforms, [*gaps, 0], strict=True)):
        part = joined[position : position + len(waveform.samples)]
        part[:] = waveform.samples
        _fade(part, rate, at_start=index > 0, at_end=index < len(waveforms) - 1)
        position += len(part) + gap
    return Waveform(joined, rate)


def in_a_row(waveforms: Sequence[Waveform], sample_rate: int) -> Waveform:
    """The waveforms one after the other as they are; of none, no samples at `sample_rate`."""
    return Waveform(
        np.concatenate([np.zeros(0, np.float32), *(waveform.samples for waveform in waveforms)]), sample_rate
    )


def edge_silence(samples: NDArray[np.float32]) -> int:
    """How many samples at the start stay more than 50 dB below the peak; all of them if nothing sounds."""
    magnitude = np.abs(samples)
    peak = float(magnitude.max(initial=0.0))
    if peak == 0.0:
        return len(samples)
    return int(np.argmax(magnitude > peak * 10 ** (SILENCE_BELOW_PEAK_DB / 20)))


def ramp(length: int) -> NDArray[np.float32]:
    """The gains of a fade-in."""
    return np.linspace(0.0, 1.0, length, endpoint=False, dtype=np.float32)


def _fade(samples: NDArray[np.float32], rate: int, *, at_start: bool, at_end: bool) -> None:
    """Fade the ends in place."""
    length = min(round(FADE_MS * rate / 1000), len(samples) // 2)
    if at_start:
        samples[:length] *= ramp(length)
    if at_end:
        samples[len(samples) - length :] *= ramp(length)[::-1]
