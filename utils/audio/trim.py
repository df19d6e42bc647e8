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

HOP_S = 0.01
FRAMES_AT_ONCE = 256
BANDS_FROM_HZ = (150.0, 700.0, 2500.0, 6000.0)  # below: hum; narrower: noise alone would rise and fall more
QUIET_S = 0.12  # a recording's quietest stretch of this length is its noise
LEAST_CONTRAST_DB = 10.0  # of the loud frames above that noise; with less it may be speech without a pause
SOFTEST_DB = -52.0  # against the loud frames: the softest speech, where there is no noise
CLEARLY_DB = 6.0  # above the noise: speech in one frame
LASTING, LASTING_CAP, LASTING_ABOVE = 5, 2.2, 1.9  # or in so many, each counting up to the cap, times the noise
ALIKE = (1 / 12, 3.0)  # times the quietest stretch: still noise (frames of hum differ by their phase)
DIGITAL_SILENCE = 1e-10
LEAST_NOISE_S, LEAST_NOISE_BESIDE_SILENCE_S = 0.24, 0.6  # a voice's own hiss is heard for less
SILENT_DBFS = -75.0  # of the loudest frames: nothing is there to be found
LOUD_FRAMES, LOUD_SHARE = 10, 0.01  # so many, or this share of them, are as loud as the loud frames: clicks are fewer
SHORTEST_S = 0.06  # of what may stand alone; a click fills two or three frames
AHEAD_S = 0.5  # of sound from its first loud moment on: enough to tell where it begins
REMEMBERED_S = 10.0  # of what has gone out: enough to tell where it ends
LOUD = 10 ** (-40 / 10)  # power of a moment that is speech, if a model made it
VOWEL_BELOW_LOUDEST = 10 ** (-20 / 10)  # and of one that is a vowel
NEAR_S = 0.15  # the burst of a "t" comes so long after what it belongs to

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A waveform, and the seconds that were cut from its start and its end."""

    waveform: Waveform
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class _Limits:
    """An edge's silence is cut down to `kept_ms` if it is longer than `threshold_ms`."""

    sample_rate: int
    threshold_ms: float
    kept_ms: float

    def left_of(self, silence: int) -> int:
        """How many samples of it stay."""
        threshold, kept = (round(limit_ms * self.sample_rate / 1000) for limit_ms in (self.threshold_ms, self.kept_ms))
        return kept if silence > max(threshold, kept) else silence


def trimmed(waveform: Waveform, threshold_ms: float, kept_ms: float = 50.0) -> Trimmed:
    """Cut each edge's silence down to `kept_ms`, if it is longer than `threshold_ms`; else that edge is untouched.

    The kept samples are a view of the given ones. Where no speech is heard (silence, noise alone), and where nothing
    can be told apart (less than 0.1 s), the whole comes back as it is.
    """
    samples, rate = waveform.samples, waveform.sample_rate
    start, end = edges(waveform)
    limits = _Limits(rate, threshold_ms, kept_ms)
    first, last = start - limits.left_of(start), end + limits.left_of(len(samples) - end)
    if (first, last) == (0, len(samples)):
        return Trimmed(waveform, 0.0, 0.0)
    return Trimmed(Waveform(samples[first:last], rate), first / rate, (len(samples) - last) / rate)


class Trim:
    """Does what `trimmed` does while the sound comes, for speech without a room around it: what a model made.

    The first edge is found in what has come 0.5 s after the first loud moment, the last one in the last 10 s. Held back
    are all before that, and what follows the last vowel. Joined, what comes out is the same whatever the sizes of the
    pieces; a sound that is soft throughout is held to its end, and `trimmed`.
    """

    def __init__(self, sample_rate: int, threshold_ms: float, kept_ms: float = 50.0) -> None:
        self._rate = sample_rate
        self._limits = _Limits(sample_rate, threshold_ms, kept_ms)
        self._hop = max(1, round(HOP_S * sample_rate))
        self._held = np.zeros(0, np.float32)  # what came, from `_held_from` on
        self._held_from = 0
        self._parts: list[Samples] = []  # and what came after that: joined when something can go out
        self._came = 0
        self._unheard = np.zeros(0, np.float32)  # the end of it, from the first frame on whose level is unknown
        self._frames = 0  # whose level is known
        self._loudest = 0.0
        self._loud_run = 0  # frames
        self._first_loud: int | None = None
        self._sure = 0  # up to there all stays, whatever follows
        self._given: int | None = None  # up to there it has gone out; None while the first edge is unknown
        self.start_s = self.end_s = 0.0

    def add(self, samples: Samples) -> Samples:
        """The next piece; what is sure to stay."""
        self._parts.append(samples)
        self._came += len(samples)
        self._listen(samples)
        if self._given is None:
            if self._first_loud is None or self._came < (decided_at := self._decided_at(self._first_loud)):
                return samples[:0]
            self._join()
            start, _ = edges(Waveform(self._held[:decided_at], self._rate))
            self._given = start - self._limits.left_of(start)
            self.start_s = self._given / self._rate
        return self._give(self._sure) if self._sure > self._given else samples[:0]

    def finish(self) -> Samples:
        """The rest; nothing can be added any more."""
        self._join()
        if self._given is None:
            cut = trimmed(Waveform(self._held, self._rate), self._limits.threshold_ms, self._limits.kept_ms)
            self.start_s, self.end_s = cut.start_s, cut.end_s
            return cut.waveform.samples
        _, end = edges(Waveform(self._held, self._rate))
        last = self._held_from + end + self._limits.left_of(len(self._held) - end)
        rest = self._give(max(last, self._given))
        self.end_s = (self._came - self._given) / self._rate
        return rest

    def _decided_at(self, first_loud: int) -> int:
        return first_loud * self._hop + round(AHEAD_S * self._rate)

    def _listen(self, samples: Samples) -> None:
        """Find the first loud moment and the end of the last vowel in what is new."""
        heard = np.concatenate([self._unheard, samples])
        levels = _levels(heard, self._rate, self._hop).sum(axis=1)
        self._unheard = heard[len(levels) * self._hop :].copy()
        if not len(levels):
            return
        loudest = np.maximum.accumulate(np.concatenate([[self._loudest], levels]))[1:]
        loud = levels > np.maximum(loudest * VOWEL_BELOW_LOUDEST, LOUD)
        if self._first_loud is None and loud.any():
            self._first_loud = self._frames + int(loud.argmax())
        runs = _runs(loud, self._loud_run)
        self._loudest, self._loud_run = float(loudest[-1]), int(runs[-1])
        vowels = np.flatnonzero(runs >= SHORTEST_S / HOP_S)
        if len(vowels):
            self._sure = (self._frames + int(vowels[-1]) + 1) * self._hop
        self._frames += len(levels)

    def _join(self) -> None:
        if self._parts:
            parts = [self._held, *self._parts] if len(self._held) else self._parts
            self._held, self._parts = parts[0] if len(parts) == 1 else np.concatenate(parts), []

    def _give(self, until: int) -> Samples:
        """What has not gone out up to there. What went out is kept for a while, to find the last edge by."""
        assert self._given is not None
        self._join()
        part = self._held[self._given - self._held_from : until - self._held_from]
        self._given = until
        forgotten = until - round(REMEMBERED_S * self._rate)
        if forgotten > self._held_from:
            self._held, self._held_from = self._held[forgotten - self._held_from :].copy(), forgotten
        return part


def edges(waveform: Waveform) -> tuple[int, int]:
    """First sample of the speech and the one after its last, to some 10 ms; all samples where no speech is heard."""
    count, rate = len(waveform.samples), waveform.sample_rate
    hop = max(1, round(HOP_S * rate))
    levels = _levels(waveform.samples, rate, hop)
    if len(levels) < LOUD_FRAMES:
        return 0, count
    heard = _heard(levels)
    if not heard.any():
        return 0, count
    first, last = _long_enough(heard)
    # Frame i is centred at (i + 1) hops; half a hop from there it hears half as well.
    start = round((first + 0.5) * hop) if first else 0
    return start, round((last + 1.5) * hop) if last < len(levels) - 1 else count


def _levels(samples: Samples, rate: int, hop: int) -> Samples:
    """Power in each band, shape (frames, bands), of frames of two hops that follow each other by one."""
    size = 2 * hop
    window = np.hanning(size + 1)[:-1].astype(np.float32) / np.float32(hop)
    bins = [math.ceil(edge * size / rate) for edge in BANDS_FROM_HZ if edge < 0.45 * rate]
    levels = [np.zeros((0, len(bins)), np.float32)]
    for start in range(0, len(samples) - size + 1, FRAMES_AT_ONCE * hop):
        block = samples[start : start + (FRAMES_AT_ONCE + 1) * hop]
        spectra = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(block, size)[::hop] * window, axis=1)
        powers = np.square(spectra.real) + np.square(spectra.imag)
        levels.append(np.add.reduceat(powers, bins, axis=1).astype(np.float32, copy=False))
    return np.concatenate(levels)


def _heard(levels: Samples) -> NDArray[np.bool_]:
    """Which frames hold sound that stands out from the noise in some band."""
    total = levels.sum(axis=1)
    rank = max(LOUD_FRAMES, round(LOUD_SHARE * len(total)))
    loud = float(np.partition(total, -rank)[-rank])
    if loud < 10 ** (SILENT_DBFS / 10):
        return np.zeros(len(levels), np.bool_)
    noise = _noise(levels, total)
    if noise.sum() > loud * 10 ** (-LEAST_CONTRAST_DB / 10):
        noise = np.zeros_like(noise)
    above = levels / np.maximum(noise, loud * 10 ** ((SOFTEST_DB - CLEARLY_DB) / 10))
    # Softer sound must last; one loud frame alone does not lift its neighbours.
    lasting = np.pad(np.minimum(above, LASTING_CAP), ((LASTING // 2 + 1, LASTING // 2), (0, 0)), mode="edge")
    sums = np.cumsum(lasting, axis=0)
    means = (sums[LASTING:] - sums[:-LASTING]) / LASTING
    return np.asarray(((above > 10 ** (CLEARLY_DB / 10)) | (means > LASTING_ABOVE)).any(axis=1))


def _noise(levels: Samples, total: Samples) -> Samples:
    """Mean power of the noise in each band: of the quietest stretch, and of all frames that are much like it.

    Digital silence is left out, since no room has it: it was put there. What is heard only briefly is no noise, but
    the "f" at the end of a clean recording.
    """
    is_sounding = total > DIGITAL_SILENCE
    sounding, in_all = levels[is_sounding], total[is_sounding]
    width = min(len(sounding), round(QUIET_S / HOP_S))
    if not width:
        return np.zeros(levels.shape[1], np.float32)
    sums = np.cumsum(np.pad(sounding, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
    means = (sums[width:] - sums[:-width]) / width
    noise = means[means.sum(axis=1).argmin()]
    for _ in range(2):
        alike = (sounding < ALIKE[1] * noise + DIGITAL_SILENCE).all(axis=1) & (in_all > ALIKE[0] * noise.sum())
        if alike.any():
            noise = sounding[alike].mean(axis=0)
    is_clean = len(levels) - len(sounding) >= LEAST_NOISE_S / HOP_S
    least_s = LEAST_NOISE_BESIDE_SILENCE_S if is_clean else LEAST_NOISE_S
    return np.asarray(noise if np.count_nonzero(alike) * HOP_S >= least_s else np.zeros_like(noise), np.float32)


def _long_enough(heard: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last frame of the runs that are no clicks, with what is near to them; of all if all are short."""
    changes = np.flatnonzero(np.diff(heard, prepend=False, append=False))
    starts, ends = changes[::2], changes[1::2]
    several = ends - starts >= 2  # noise alone lifts a single frame now and then
    if several.any():
        starts, ends = starts[several], ends[several]
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


def _runs(loud: NDArray[np.bool_], before: int) -> NDArray[np.int64]:
    """How many frames up to each are loud without a break; `before` is how many were, before the first."""
    counts = np.arange(1, len(loud) + 1) + before
    return np.asarray(counts - np.maximum.accumulate(np.where(loud, 0, counts)))
