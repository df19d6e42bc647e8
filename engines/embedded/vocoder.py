"""WORLD (Morise et al. 2016) in steps short enough to leave between: no call takes more than a fifth of a second.

WORLD's own calls take a whole utterance, for two minutes of speech seconds each, and cannot be stopped. Its envelopes
and aperiodicity look at each frame by itself, so asking for some frames at a time changes nothing. Its contour and its
synthesis depend on their neighbourhood: they go window by window, cut where the speech is quietest, with context on
both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.embedded import SAMPLE_RATE

STFT_HOP_MS = 5.0
HOP_LENGTH = 120
LOWEST_HZ, HIGHEST_HZ = 50.0, 600.0
UNVOICED_HZ = 500.0  # WORLD's kDefaultF0

# All in frames of 5 ms. A window with its context fits dio's transform of 2**17 samples; one more would double it.
LONGEST_WINDOW, SHORTEST_WINDOW, SHORTEST_REST = 800, 400, 100
CONTOUR_CONTEXT = 100  # past what dio's filters (0.04 s) and its mending of the contour reach
SYNTHESIS_CONTEXT = 20  # past the 1024 samples of one pulse; even, so that `aperiodicity` looks at the same frames
CATCHING_UP = 16  # of the context; what is left lets the last pulse out of step die away
BLOCK = 200  # frames in one call for envelopes or aperiodicity
FADE = 120  # samples to each side of a cut over which one window gives way to the next

Samples = NDArray[np.float64]
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `start` to `stop` of `count` in all."""

    start: int
    stop: int
    count: int

    def with_context(self, frames: int) -> slice:
        return slice(max(0, self.start - frames), min(self.count, self.stop + frames))


def windows(samples: Samples) -> list[Window]:
    """The utterance in windows of at most `LONGEST_WINDOW` frames, cut at the quietest place within two seconds."""
    count = len(samples) // HOP_LENGTH + 1
    if count <= LONGEST_WINDOW:
        return [Window(0, count, count)]
    powers = np.mean(samples[: (count - 1) * HOP_LENGTH].reshape(-1, HOP_LENGTH) ** 2, axis=1)
    around = np.convolve(powers, np.ones(4), "same")  # the power from 10 ms before to 10 ms after each frame
    found, start = [], 0
    while count - start > LONGEST_WINDOW:
        earliest, latest = start + SHORTEST_WINDOW, min(start + LONGEST_WINDOW, count - SHORTEST_REST)
        cut = earliest + int(np.argmin(around[earliest:latest])) // 2 * 2
        found.append(Window(start, cut, count))
        start = cut
    return [*found, Window(start, count, count)]


def contour_of(samples: Samples, parts: list[Window], check: Check) -> tuple[Samples, Samples]:
    """The fundamental of each frame in Hz (0 where unvoiced) and its time in s."""
    import pyworld

    times_s = np.arange(parts[-1].count) * STFT_HOP_MS / 1000
    found = []
    for part in parts:
        check()
        wide = part.with_context(CONTOUR_CONTEXT)
        coarse, _ = pyworld.dio(
            samples[wide.start * HOP_LENGTH : wide.stop * HOP_LENGTH],
            SAMPLE_RATE,
            f0_floor=LOWEST_HZ,
            f0_ceil=HIGHEST_HZ,
            frame_period=STFT_HOP_MS,
            allowed_range=0.2,  # dio's 0.1 leaves frames of moving pitch unvoiced, which sound hoarse
        )
        check()
        kept = np.ascontiguousarray(coarse[part.start - wide.start : part.stop - wide.start])
        found.append(pyworld.stonemask(samples, kept, times_s[part.start : part.stop], SAMPLE_RATE))
    return np.concatenate(found), times_s


def envelopes_of(samples: Samples, contour: Samples, times_s: Samples, check: Check) -> Samples:
    """The spectral envelope at each frame as power, shape (frames, 513), bins from 0 to 12 kHz."""
    import pyworld

    return _in_blocks(pyworld.cheaptrick, samples, contour, times_s, check)


def aperiodicity_of(samples: Samples, contour: Samples, times_s: Samples, check: Check) -> Samples:
    """The share of noise at each frame and bin, looked at every 10 ms: D4C is over half of all the work.

    A frame in between takes its neighbour's, a voiced one if there is one: an unvoiced neighbour would whisper.
    """
    import pyworld

    looked = contour[::2]
    shares = _in_blocks(pyworld.d4c, samples, looked, times_s[::2], check)
    before = np.arange(len(contour)) // 2
    after = np.minimum(before + np.arange(len(contour)) % 2, len(looked) - 1)
    chosen: Samples = shares[np.where((looked[before] == 0) & (looked[after] > 0), after, before)]
    return chosen


def lay(whole: Samples, part: Window, contour: Samples, envelopes: Samples, aperiodicity: Samples) -> None:
    """Synthesize one window and add it to `whole`, faded into its neighbours over `FADE` samples around the cuts.

    The three descriptions are those of the window `with_context(SYNTHESIS_CONTEXT)`.
    """
    import pyworld

    spoken = pyworld.synthesize(contour, envelopes, aperiodicity, SAMPLE_RATE, STFT_HOP_MS)
    origin = part.with_context(SYNTHESIS_CONTEXT).start * HOP_LENGTH
    is_first, is_last = part.start == 0, part.stop == part.count
    start = 0 if is_first else part.start * HOP_LENGTH - FADE
    stop = len(whole) if is_last else part.stop * HOP_LENGTH + FADE
    piece = spoken[start - origin : stop - origin]
    ramp = (np.arange(2 * FADE) + 0.5) / (2 * FADE)
    if not is_first:
        piece[: 2 * FADE] *= ramp
    if not is_last:
        piece[-2 * FADE :] *= ramp[::-1]
    whole[start : start + len(piece)] += piece


def in_step(part: Window, contour: Samples) -> Samples:
    """The window's part of a contour, with context, bent so that the voice's pulses fall where the windows before have
    theirs.

    WORLD sets a pulse at each whole cycle from where it starts. So the cycles that the whole contour has gone through
    by then, less the whole ones, are caught up with in the context, where it is not heard: some 10 Hz more.
    """
    wide = part.with_context(SYNTHESIS_CONTEXT)
    own = contour[wide].copy()
    bend = np.zeros(len(own))
    bend[1:CATCHING_UP] = own[1:CATCHING_UP] > 0
    if part.start == 0 or contour[part.start] == 0 or np.count_nonzero(bend) < CATCHING_UP // 2:
        return own
    late = _cycles(contour[: part.start + 1]) - _cycles(own[: part.start - wide.start + 1])
    return own + bend * (late % 1.0) / (_cycles(own + bend) - _cycles(own))


def _cycles(contour: Samples) -> float:
    """The cycles that WORLD's synthesis goes through before the last frame: 500 a second where nothing is voiced."""
    places = np.arange((len(contour) - 1) * HOP_LENGTH) / HOP_LENGTH
    frames = np.arange(len(contour))
    voiced = np.interp(places, frames, contour > 0) > 0.5
    return float(np.sum(np.where(voiced, np.interp(places, frames, contour), UNVOICED_HZ))) / SAMPLE_RATE


def _in_blocks(
    look: Callable[[Samples, Samples, Samples, int], Samples],
    samples: Samples,
    contour: Samples,
    times_s: Samples,
    check: Check,
) -> Samples:
    found = []
    for start in range(0, len(contour), BLOCK):
        check()
        block = slice(start, start + BLOCK)
        found.append(
            look(samples, np.ascontiguousarray(contour[block]), np.ascontiguousarray(times_s[block]), SAMPLE_RATE)
        )
    return np.concatenate(found)
