"""Where the sound in a recording begins and ends, whatever the room sounds like, and cutting the silence around it.

Heard in four bands of the spectrum, each against its own noise: a fricative is far below a room's rumble and still
stands out in its band. What is shorter than a syllable and far from any speech is a click. In doubt it is speech.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.audio.waveform import Waveform

FRAME_S, HOP_S = 0.02, 0.01
BAND_EDGES_HZ = (150.0, 700.0, 2500.0, 6000.0, math.inf)  # below: hum; narrower: noise alone would rise and fall more
QUIET_S = 0.12  # a recording's quietest stretch of this length is its noise
LEAST_CONTRAST_DB = 10.0  # of the loud frames above that noise; with less it may be speech without a pause
SOFTEST_DB = -52.0  # against the loud frames: the softest speech, where there is no noise
ABOVE_NOISE_DB = 6.0
SILENT_DBFS = -75.0  # of the loudest frames: nothing is there to be found
LOUD_SHARE = 0.95
SHORTEST_S = 0.06  # of what may stand alone; a click fills two or three frames
NEAR_S = 0.15  # the burst of a "t" comes so long after what it belongs to

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A waveform, and the seconds that were cut from its start and its end."""

    waveform: Waveform
    start_s: float
    end_s: float


def trimmed(waveform: Waveform, threshold_ms: float, kept_ms: float = 50.0) -> Trimmed:
    """Cut each edge's silence down to `kept_ms`, if it is longer than `threshold_ms`; else that edge is untouched.

    The kept samples are a view of the given ones. Where no speech is heard (silence, noise alone), and where nothing
    can be told apart (less than 0.1 s), the whole comes back as it is.
    """
    samples, rate = waveform.samples, waveform.sample_rate
    start, end = edges(waveform)
    threshold, kept = round(threshold_ms * rate / 1000), round(kept_ms * rate / 1000)
    first = start - kept if start > max(threshold, kept) else 0
    last = end + kept if len(samples) - end > max(threshold, kept) else len(samples)
    if (first, last) == (0, len(samples)):
        return Trimmed(waveform, 0.0, 0.0)
    return Trimmed(Waveform(samples[first:last], rate), first / rate, (len(samples) - last) / rate)


def edges(waveform: Waveform) -> tuple[int, int]:
    """First sample of the speech and the one after its last, to some 10 ms; all samples where no speech is heard."""
    count, rate = len(waveform.samples), waveform.sample_rate
    hop = max(1, round(HOP_S * rate))
    levels = _levels(waveform.samples, rate, hop)
    if len(levels) < 10:
        return 0, count
    heard = _heard(levels)
    if not heard.any():
        return 0, count
    first, last = _long_enough(heard)
    # Frame i is centred at (i + 1) hops and half as wide at half its height.
    return max(0, round((first + 0.5) * hop)), min(count, round((last + 1.5) * hop))


def _levels(samples: Samples, rate: int, hop: int) -> Samples:
    """Power in each band, shape (frames, bands), of frames of two hops that follow each other by one."""
    size = 2 * hop
    if len(samples) < size:
        return np.zeros((0, len(BAND_EDGES_HZ) - 1), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    spectra = np.fft.rfft(frames * (window / np.float32(size / 2)), axis=1)
    powers = np.square(spectra.real) + np.square(spectra.imag)
    bins = [math.ceil(edge * size / rate) for edge in BAND_EDGES_HZ[:-1] if edge < 0.45 * rate]
    return np.add.reduceat(powers, bins, axis=1).astype(np.float32)


def _heard(levels: Samples) -> NDArray[np.bool_]:
    """Which frames hold sound that stands out from the noise in some band."""
    total = levels.sum(axis=1)
    loud = np.quantile(total, LOUD_SHARE)
    if loud < 10 ** (SILENT_DBFS / 10):
        return np.zeros(len(levels), np.bool_)
    noise = _noise(levels, total)
    if noise.sum() > loud * 10 ** (-LEAST_CONTRAST_DB / 10):
        return np.ones(len(levels), np.bool_)
    softest = loud * 10 ** (SOFTEST_DB / 10)
    threshold = np.maximum(noise * 10 ** (ABOVE_NOISE_DB / 10), softest)
    return np.asarray((levels > threshold).any(axis=1))


def _noise(levels: Samples, total: Samples) -> Samples:
    """Power of the noise in each band: of the quietest stretch, leaving out digital silence, which no room has."""
    width = min(len(levels), round(QUIET_S / HOP_S))
    sums = np.cumsum(np.concatenate([np.zeros((1, levels.shape[1])), levels]), axis=0)
    means = (sums[width:] - sums[:-width]) / width
    in_all = means.sum(axis=1)
    in_all[in_all < 1e-10] = math.inf
    at = int(in_all.argmin())
    return np.asarray(means[at] if math.isfinite(in_all[at]) else np.zeros(levels.shape[1]), np.float32)


def _long_enough(heard: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last frame of the runs that are no clicks, with what is near to them; of all if all are short."""
    changes = np.flatnonzero(np.diff(heard, prepend=False, append=False))
    starts, ends = changes[::2], changes[1::2]
    long = np.flatnonzero(ends - starts >= SHORTEST_S / HOP_S)
    if not len(long):
        return int(starts[0]), int(ends[-1]) - 1
    first, last = int(long[0]), int(long[-1])
    near = NEAR_S / HOP_S
    while first and starts[first] - ends[first - 1] <= near:
        first -= 1
    while last < len(starts) - 1 and starts[last + 1] - ends[last] <= near:
        last += 1
    return int(starts[first]), int(ends[last]) - 1
