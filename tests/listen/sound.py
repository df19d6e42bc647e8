"""What can be heard in a sound without understanding it: its level, its pitch, its pauses, its faults.

Every listener is written apart from the code it judges (numpy and a loudness meter, no pyworld, no librosa), so that
the two do not share a mistake.
"""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    from numpy.typing import NDArray

SILENT_DBFS = -60.0
"""A sound whose peak stays below this is silent to a test."""

_METER_BLOCK_S = 0.4
_YIN_RATE = 16_000
_YIN_NEAR_BEST = 0.08
_YIN_VOICED = 0.25
_YIN_FRAME_S = 0.05
_CLICK_RATE = 24_000
_CLICK_FLOOR = 0.004
_CLICK_RATIO = 3.0
_CLICK_BESIDE = np.arange(6, 49)  # samples beside a click that must be quieter, up to 2 ms


def read(source: bytes | Path) -> Waveform:
    """Any file that libsndfile knows (WAV, FLAC, MP3, Ogg), its channels averaged; raises what soundfile raises."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    samples, sample_rate = soundfile.read(file, dtype="float32", always_2d=True)
    return Waveform(samples.mean(axis=1, dtype=np.float32), int(sample_rate))


def duration_s(waveform: Waveform) -> float:
    return waveform.duration_s


def peak_dbfs(waveform: Waveform) -> float:
    """The largest sample against full scale; -inf for digital silence and for no samples."""
    return _db(float(np.abs(waveform.samples).max(initial=0.0)) ** 2)


def is_silent(waveform: Waveform) -> bool:
    return peak_dbfs(waveform) < SILENT_DBFS


def loudness_lufs(waveform: Waveform) -> float:
    """Integrated loudness (ITU-R BS.1770-4); -inf for silence.

    A clip shorter than the 400 ms block of the standard is measured as one block of its own length.
    """
    if is_silent(waveform):
        return -math.inf
    import pyloudnorm  # takes seconds for the whole of scipy.signal, which tests that only hear words need not wait for

    block_s = min(_METER_BLOCK_S, waveform.duration_s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the meter takes log10 of blocks that are silent
        meter = pyloudnorm.Meter(waveform.sample_rate, block_size=block_s)
        return float(meter.integrated_loudness(waveform.samples.astype(np.float64)))


def fundamental_hz(waveform: Waveform, lowest_hz: float = 60.0, highest_hz: float = 500.0) -> float:
    """Median pitch over the voiced frames, nan where none is voiced (so that every comparison with it fails)."""
    track_hz = voiced_hz(waveform, lowest_hz, highest_hz)
    return float(np.median(track_hz)) if len(track_hz) else math.nan


def voiced_hz(waveform: Waveform, lowest_hz: float = 60.0, highest_hz: float = 500.0) -> NDArray[np.float64]:
    """Pitch of each voiced frame, a frame every 10 ms.

    YIN (de Cheveigne and Kawahara 2002, equations 6 to 8), but for its threshold: the first dip of the normalised
    difference that is nearly as deep as the deepest. The first, so that it is not two periods; as deep, so that a
    strong second harmonic does not pass for the fundamental. A parabola refines it.
    """
    samples = _at_rate(waveform, _YIN_RATE)
    longest, shortest = math.ceil(_YIN_RATE / lowest_hz) + 1, int(_YIN_RATE / highest_hz)
    window = int(_YIN_RATE * _YIN_FRAME_S) - longest
    levels = _levels_db(samples, _YIN_RATE, 0.01)
    if is_silent(waveform) or len(samples) < window + longest:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window + longest)[:: _YIN_RATE // 100]
    loud = levels[np.minimum(np.arange(len(frames)) + 2, len(levels) - 1)] > levels.max(initial=-math.inf) - 35
    voiced = [_yin(part, window, shortest) for part in np.array_split(frames[loud], max(1, loud.sum() // 2000))]
    return _YIN_RATE / np.concatenate(voiced)


def _yin(frames: NDArray[np.float32], window: int, shortest: int) -> NDArray[np.float64]:
    """Periods in samples of those frames that are voiced; each frame is a window and the longest lag after it."""
    longest = frames.shape[1] - window
    size = 1 << (frames.shape[1] + window - 1).bit_length()
    frames64 = frames.astype(np.float64)
    spectrum = np.fft.rfft(frames64, size)
    head = np.fft.rfft(frames64[:, :window], size)
    products = np.fft.irfft(spectrum * head.conj(), size)[:, :longest]
    powers = np.cumsum(np.pad(frames64**2, ((0, 0), (1, 0))), axis=1)
    energies = powers[:, window : window + longest] - powers[:, :longest]
    difference = np.maximum(energies[:, :1] + energies - 2 * products, 0)[:, 1:]
    lags = np.arange(1, longest)
    normal = difference * lags / np.maximum(np.cumsum(difference, axis=1), 1e-12)

    dips = normal[:, 1:-1]
    is_dip = (dips <= normal[:, :-2]) & (dips < normal[:, 2:]) & (lags[1:-1] >= shortest)
    depth = np.where(is_dip, dips, np.inf)
    chosen = np.argmax(depth <= depth.min(axis=1, keepdims=True) + _YIN_NEAR_BEST, axis=1)
    rows = np.arange(len(frames))
    voiced = rows[depth[rows, chosen] < _YIN_VOICED]
    at = chosen[voiced] + 1
    left, here, right = normal[voiced, at - 1], normal[voiced, at], normal[voiced, at + 1]
    shift = 0.5 * (left - right) / np.maximum(left - 2 * here + right, 1e-12)
    return np.asarray(lags[at] + np.clip(shift, -0.5, 0.5), dtype=np.float64)


def energy_at(waveform: Waveform, hz: float, width_hz: float = 20.0) -> float:
    """Share of all energy that lies within `width_hz` of a frequency, in dB: 0 for a tone there, -inf for none."""
    power = np.abs(np.fft.rfft(waveform.samples * np.hanning(len(waveform.samples)))) ** 2
    near = np.abs(np.fft.rfftfreq(len(waveform.samples), 1 / waveform.sample_rate) - hz) <= width_hz
    total = float(power.sum())
    return _db(float(power[near].sum()) / total) if total > 0 else -math.inf


def silences(waveform: Waveform, at_least_s: float = 0.2, below_db: float = -40.0) -> list[tuple[float, float]]:
    """Start and end in seconds of each pause, those at either end of the sound among them.

    A pause is `below_db` under the sound's own loud parts (its 95th percentile), or within 9 dB of a noise floor that
    is itself 25 dB under them; a silent sound is one pause. The edges are exact to 5 ms.
    """
    step_s = 0.005
    levels = _levels_db(waveform.samples, waveform.sample_rate, step_s)
    if is_silent(waveform):
        return [(0.0, waveform.duration_s)] if waveform.duration_s >= at_least_s else []
    loud, floor = np.percentile(levels, 95), np.percentile(levels, 5)
    threshold = max(loud + below_db, floor + 9 if loud - floor > 25 else -math.inf)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], levels < threshold, [False]]).astype(np.int8)))
    runs = ((start * step_s, min(end * step_s, waveform.duration_s)) for start, end in edges.reshape(-1, 2).tolist())
    return [(start, end) for start, end in runs if end - start >= at_least_s]


def clicks(waveform: Waveform) -> list[float]:
    """Times in seconds of jumps between samples that speech does not have, those at its start and end among them.

    A step or a spike is the one thing that bends both ways within three samples and is sharp for just that long. The
    second difference is taken after (1, 2, 1) smoothing, so that the ringing a resampler leaves around a step does
    not hide it. One counts above -48 dBFS and where it is three times all others within 25 ms: bursts, hiss and the
    pulses of a voice come in numbers. So clicks in pauses and tones are heard, few of those inside a loud vowel.
    """
    sample_rate = min(waveform.sample_rate, _CLICK_RATE)  # never upwards: a resampled step rings
    margin, block = sample_rate // 20, sample_rate // 1000
    samples = np.pad(_at_rate(waveform, sample_rate).astype(np.float64), margin)
    bend = np.diff(np.convolve(samples, (1.0, 2.0, 1.0), "valid"), 2)  # smoothed against the ringing of a resampler
    jumps = np.where(bend[:-2] * bend[2:] < 0, np.minimum(np.abs(bend[:-2]), np.abs(bend[2:])), 0.0)
    heights = jumps[: len(jumps) // block * block].reshape(-1, block)
    peaks = heights.max(axis=1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(peaks, 25), 51)
    others = np.concatenate([around[:, :24], around[:, 27:]], axis=1).max(axis=1)
    found = np.flatnonzero((peaks > _CLICK_FLOOR) & (peaks > _CLICK_RATIO * others))
    at = found * block + heights[found].argmax(axis=1)
    beside = np.concatenate([at[:, None] - _CLICK_BESIDE, at[:, None] + _CLICK_BESIDE], axis=1)
    at = at[peaks[found] > _CLICK_RATIO * jumps[np.clip(beside, 0, len(jumps) - 1)].max(axis=1, initial=0.0)]
    at = at[np.diff(at, prepend=-margin) > 2 * block]
    return [float(time) for time in np.clip((at + 3 - margin) / sample_rate, 0.0, waveform.duration_s)]


def _at_rate(waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
    if waveform.sample_rate == sample_rate or not len(waveform.samples):
        return waveform.samples
    return np.asarray(soxr.resample(waveform.samples, waveform.sample_rate, sample_rate), dtype=np.float32)


def _levels_db(samples: NDArray[np.float32], sample_rate: int, step_s: float) -> NDArray[np.float64]:
    """Mean power of each step in dB, the last step filled up with its own part; no lower than -100."""
    if not len(samples):
        return np.zeros(0)
    starts = (np.arange(math.ceil(len(samples) / sample_rate / step_s)) * step_s * sample_rate).astype(np.int64)
    power = np.add.reduceat(samples.astype(np.float64) ** 2, starts) / np.diff(starts, append=len(samples))
    return np.asarray(10 * np.log10(power + 1e-10), dtype=np.float64)


def _db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
