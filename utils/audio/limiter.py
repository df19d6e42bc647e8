"""A true-peak limiter: which gain each instant needs so that nothing exceeds a ceiling, at the samples or between them.

Peaks are kept per hop of half a millisecond. A gain curve has a node at each end of every hop and straight lines
between. The lowest gain over a window, averaged over a window as long, is never above what its middle asked for: so
the ceiling holds, and yet no gain jumps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOPS_PER_S = 2000
OVERSAMPLING = 4
TRANSFORM, MARGIN = 16_384, 512  # samples; the ends of a transform are felt in the margins, which are left out
TRUE_PEAK_HOP = TRANSFORM - 2 * MARGIN  # where only the highest peak is wanted
ATTACK_S = 0.004  # from the first thing done to the peak
RELEASE_S = 0.05  # in which what is taken away falls to 1 / e
NODES_AT_ONCE = 16_384
NOTHING = 1e-5  # of gain taken away: 0.0001 dB
TRANSFORMS_PER_CHECK = 32
TAPER_FROM, TAPERED_ENERGY = 0.9, 1e-4  # of the band; of its energy

Samples = NDArray[np.float32]
Check = Callable[[], None]


def hop_length(sample_rate: int) -> int:
    """Samples between two nodes of a gain curve."""
    return max(1, round(sample_rate / HOPS_PER_S))


def true_peak(samples: Samples, check: Check = lambda: None) -> float:
    """The largest absolute value of the wave that the samples stand for; 1 is full scale."""
    return float(true_peaks(samples, TRUE_PEAK_HOP, check).max(initial=0.0))


def true_peaks(samples: Samples, hop: int, check: Check = lambda: None) -> Samples:
    """The same within each hop, which is shorter than a transform; the last hop may be shorter than the others."""
    meter, size = TruePeaks(hop), TRANSFORMS_PER_CHECK * TRANSFORM
    peaks = []
    for start in range(0, len(samples), size):
        check()
        peaks.append(meter.add(samples[start : start + size]))
    return np.concatenate([*peaks, meter.rest()])


class TruePeaks:
    """Finds the true peak of every hop, of samples of one channel that come in blocks of any length.

    Four times the rate, by a transform. Where the upper tenth of the band is not nearly empty, as in noise and what was
    clipped, the wave depends on what a player makes of it, by up to 1 dB: there it is both the whole band's and that
    of one that fades out, whichever is larger. A parabola through each top and its neighbours finds it to 0.07 dB,
    where four times the rate alone may miss 0.7 dB.
    """

    def __init__(self, hop: int) -> None:
        self._hop = hop
        self._at_once = TRUE_PEAK_HOP // hop  # hops of a transform
        self._held = np.zeros(MARGIN + hop, np.float32)  # the wave sounds on before its first sample and after its last
        self._count = 0
        self._peaks = np.zeros(0, np.float32)  # the one that may still turn out to be the last hop's
        self._begins = True

    def add(self, samples: Samples) -> Samples:
        """The peaks of the hops that are known by now."""
        self._count += len(samples)
        held = np.concatenate([self._held, samples])
        start, found = 0, []
        while len(held) - start >= TRANSFORM:
            found.append(_tops(_oversampled(held[start : start + TRANSFORM], self._at_once * self._hop), self._at_once))
            start += self._at_once * self._hop
        self._held = held[start:].copy()
        peaks = self._known(found)
        self._peaks = peaks[-1:]
        return peaks[:-1]

    def rest(self) -> Samples:
        """The peaks that are left; nothing can be added any more."""
        if not self._count:
            return np.zeros(0, np.float32)
        end = len(self._held) - MARGIN  # of what was added, and a hop more; the hops that are missing come before
        missing = -(-end // self._hop) + 1
        found = []
        for first in range(0, missing, self._at_once):
            hops = min(self._at_once, missing - first)
            part = np.zeros(TRANSFORM, np.float32)
            inside = self._held[first * self._hop : first * self._hop + TRANSFORM]
            part[: len(inside)] = inside
            found.append(_tops(_oversampled(part, hops * self._hop), hops))
        peaks = self._known(found)
        peaks[-2] = peaks[-2:].max()
        return peaks[:-1]

    def _known(self, found: list[Samples]) -> Samples:
        """The peaks that were not given yet. That of the hop before the first counts as the first one's."""
        peaks = np.concatenate([self._peaks, *found])
        if self._begins and len(peaks) > 1:
            self._begins = False
            peaks[1] = peaks[:2].max()
            peaks = peaks[1:]
        return peaks


class GainCurve:
    """The gain at each end of each hop, at most 1, under which no hop exceeds the ceiling; one more than the hops.

    Worked out as what is taken away: the most that any hop in reach of a node asks for, from which it falls back
    slowly, then averaged over the same reach. The peaks of the hops may come in blocks.
    """

    def __init__(self, ceiling: float, nodes_per_s: float) -> None:
        self._ceiling = ceiling
        self._reach = max(1, round(ATTACK_S * nodes_per_s / 2))
        window = np.hanning(2 * self._reach + 3)[1:-1]
        self._window = window / window.sum()
        self._falling = np.exp(-np.arange(1, NODES_AT_ONCE + 1) / (RELEASE_S * nodes_per_s))
        self._peaks = np.zeros(2 * self._reach + 1, np.float32)
        self._taken = np.zeros(0)
        self._last = 0.0

    def add(self, peaks: Samples) -> Samples:
        """The gains that are known by now."""
        held = np.concatenate([self._peaks, peaks])
        around = 2 * self._reach + 1
        count = len(held) - around
        parts = [self._taken]
        for first in range(0, count, NODES_AT_ONCE):
            parts.append(self._asked(held[first : min(first + NODES_AT_ONCE, count) + around]))
        self._peaks = held[count:].copy()
        taken = np.concatenate(parts)
        if len(taken) < around:
            self._taken = taken
            return np.zeros(0, np.float32)
        self._taken = taken[1 - around :].copy()
        return np.asarray(1 - np.convolve(taken, self._window, "valid"), np.float32)

    def rest(self) -> Samples:
        """The gains that are left; nothing can be added any more."""
        return self.add(np.zeros(2 * self._reach + 1, np.float32))

    def _asked(self, peaks: Samples) -> NDArray[np.float64]:
        """What is taken away at the nodes before the last ones of these peaks, not yet averaged."""
        count = len(peaks) - 2 * self._reach - 1
        falling = self._falling[:count]
        asked = 1 - self._ceiling / np.maximum(peaks, np.float32(self._ceiling))
        most = np.maximum.reduce([asked[k : k + count] for k in range(2 * self._reach + 2)]) / falling
        taken = np.maximum(np.maximum.accumulate(most), self._last) * falling
        self._last = float(taken[-1]) if taken[-1] > NOTHING else 0.0
        return np.asarray(taken, np.float64)


def gain_curve(peaks: Samples, ceiling: float, nodes_per_s: float, check: Check = lambda: None) -> Samples:
    """As `GainCurve`, of all the peaks."""
    curve = GainCurve(ceiling, nodes_per_s)
    gains, done = np.empty(len(peaks) + 1, np.float32), 0
    for first in range(0, len(peaks), NODES_AT_ONCE):
        check()
        part = curve.add(peaks[first : first + NODES_AT_ONCE])
        gains[done : done + len(part)] = part
        done += len(part)
    gains[done:] = curve.rest()
    return gains


class Limiter:
    """Gives blocks, shape (n, channels), a gain, and holds their true peak under a ceiling; all channels alike.

    1 is full scale. Joined, what comes out is as long as what went in. Some ten thousand samples are held back.
    """

    def __init__(self, sample_rate: int, channels: int, ceiling: float, gain: float = 1.0) -> None:
        self._hop = hop_length(sample_rate)
        self._gain = gain
        self._meters = [TruePeaks(self._hop) for _ in range(channels)]
        self._curve = GainCurve(ceiling / gain, sample_rate / self._hop)
        self._held = np.zeros((0, channels), np.float32)
        self._nodes = np.zeros(0, np.float32)

    def add(self, block: Samples) -> Samples:
        """What can be given by now."""
        peaks = [meter.add(block[:, channel]) for channel, meter in enumerate(self._meters)]
        return self._shaped(block, self._curve.add(np.maximum.reduce(peaks)))

    def rest(self) -> Samples:
        """What was held back; nothing can be added any more."""
        peaks = np.maximum.reduce([meter.rest() for meter in self._meters])
        nodes = np.concatenate([self._curve.add(peaks), self._curve.rest()])
        return self._shaped(self._held[:0], nodes)

    def _shaped(self, block: Samples, nodes: Samples) -> Samples:
        self._held = np.concatenate([self._held, block])
        self._nodes = np.concatenate([self._nodes, nodes])
        hops = max(0, len(self._nodes) - 1)
        shaped = np.empty_like(self._held[: hops * self._hop])
        for channel in range(shaped.shape[1] if hops else 0):
            samples = self._held[: len(shaped), channel]
            shape(samples, self._nodes, self._hop, self._gain, shaped[:, channel])
        self._held, self._nodes = self._held[len(shaped) :], self._nodes[hops:]
        return shaped


def shape(samples: Samples, curve: Samples, hop: int, gain: float, out: Samples, check: Check = lambda: None) -> None:
    """Write the samples under a gain curve and a gain to `out`."""
    ramp = np.arange(hop, dtype=np.float32) / np.float32(hop)
    for first in range(0, len(curve) - 1, NODES_AT_ONCE):
        check()
        nodes = curve[first : first + NODES_AT_ONCE + 1, np.newaxis] * np.float32(gain)
        gains = (nodes[:-1] + (nodes[1:] - nodes[:-1]) * ramp).ravel()
        part = slice(first * hop, min(first * hop + len(gains), len(samples)))
        np.multiply(samples[part], gains[: part.stop - part.start], out=out[part])


def _oversampled(part: Samples, count: int) -> Samples:
    """Absolute values at four times the rate of `count` samples after the margin, with one value more on either side.

    `part` is a transform's samples.
    """
    spectrum = np.fft.rfft(part)
    spectrum[-1] *= 0.5  # of the Nyquist frequency, which is no longer its own mirror image
    begin = OVERSAMPLING * MARGIN - 1
    end = begin + OVERSAMPLING * count + 2
    fine = np.abs(np.fft.irfft(spectrum, OVERSAMPLING * TRANSFORM)[begin:end])
    upper = round(TAPER_FROM * len(spectrum))
    if _energy(spectrum[upper:]) > TAPERED_ENERGY * _energy(spectrum):
        spectrum[upper:] *= np.cos(np.linspace(0, np.pi / 2, len(spectrum) - upper)) ** 2
        faded = np.abs(np.fft.irfft(spectrum, OVERSAMPLING * TRANSFORM)[begin:end])
        fine = np.maximum(fine, faded)
    return np.asarray(fine * OVERSAMPLING, np.float32)


def _energy(spectrum: NDArray[np.complexfloating[Any, Any]]) -> float:
    return float(np.vdot(spectrum, spectrum).real)


def _tops(fine: Samples, hops: int) -> Samples:
    """The largest value of each hop, of the parabolas through its tops and their neighbours.

    Every top counts: of two that are equal at four times the rate, one may rise 0.2 dB further between the values.
    """
    left, values, right = fine[:-2], fine[1:-1].copy(), fine[2:]
    at = np.flatnonzero((left <= values) & (right <= values))
    bend = 2 * values[at] - left[at] - right[at]
    values[at] += np.square(right[at] - left[at]) / (8 * np.maximum(bend, np.float32(1e-30)))
    return np.asarray(values.reshape(hops, -1).max(axis=1), np.float32)
