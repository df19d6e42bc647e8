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
    return float(true_peaks(samples, TRANSFORM - 2 * MARGIN, check).max(initial=0.0))


def true_peaks(samples: Samples, hop: int, check: Check = lambda: None) -> Samples:
    """The same within each hop, which is shorter than a transform; the last hop may be shorter than the others.

    Four times the rate, by a transform. Where the upper tenth of the band is not nearly empty, as in noise and what was
    clipped, the wave depends on what a player makes of it, by up to 1 dB: there it is both the whole band's and that
    of one that fades out, whichever is larger. A parabola through the largest three values finds the top to 0.07 dB,
    where four times the rate alone may miss 0.7 dB.
    """
    count = -(-len(samples) // hop)
    peaks = np.zeros(count + 2, np.float32)  # the wave sounds on before its first sample and after its last
    hops_at_once = (TRANSFORM - 2 * MARGIN) // hop
    for turn, first in enumerate(range(0, count + 2, hops_at_once)):
        if turn % TRANSFORMS_PER_CHECK == 0:
            check()
        hops = min(hops_at_once, count + 2 - first)
        peaks[first : first + hops] = _tops(_oversampled(samples, (first - 1) * hop, hops * hop), hops)
    if not count:
        return peaks[:0]
    peaks[1], peaks[-2] = peaks[:2].max(), peaks[-2:].max()
    return peaks[1:-1]


def gain_curve(peaks: Samples, ceiling: float, nodes_per_s: float, check: Check = lambda: None) -> Samples:
    """The gain at each end of each hop, at most 1, under which no hop exceeds the ceiling; one more than the hops.

    Worked out as what is taken away: the most that any hop in reach of a node asks for, from which it falls back
    slowly, then averaged over the same reach.
    """
    reach = max(1, round(ATTACK_S * nodes_per_s / 2))
    window = np.hanning(2 * reach + 3)[1:-1]
    window /= window.sum()
    padded = np.pad(peaks, 2 * reach + 1)
    falling = np.exp(-np.arange(1, NODES_AT_ONCE + 1) / (RELEASE_S * nodes_per_s))
    curve = np.ones(len(peaks) + 1, np.float32)
    done, last = 0, 0.0
    held = np.zeros(0)
    for first in range(0, len(curve) + 2 * reach, NODES_AT_ONCE):
        check()
        count = min(NODES_AT_ONCE, len(curve) + 2 * reach - first)
        asked = 1 - ceiling / np.maximum(padded[first : first + count + 2 * reach + 1], np.float32(ceiling))
        near = [asked[k : k + count] for k in range(2 * reach + 2)]
        taken = np.maximum.reduce(near) / falling[:count]
        taken = np.maximum(np.maximum.accumulate(taken), last) * falling[:count]
        last = taken[-1] if taken[-1] > NOTHING else 0.0
        held = np.concatenate([held, taken])
        if len(held) > 2 * reach:
            smooth = 1 - np.convolve(held, window, "valid")
            curve[done : done + len(smooth)] = smooth
            done += len(smooth)
            held = held[len(smooth) :]
    return curve


def shape(samples: Samples, curve: Samples, hop: int, gain: float, out: Samples, check: Check = lambda: None) -> None:
    """Write the samples under a gain curve and a gain to `out`."""
    ramp = np.arange(hop, dtype=np.float32) / np.float32(hop)
    for first in range(0, len(curve) - 1, NODES_AT_ONCE):
        check()
        nodes = curve[first : first + NODES_AT_ONCE + 1, np.newaxis] * np.float32(gain)
        gains = (nodes[:-1] + (nodes[1:] - nodes[:-1]) * ramp).ravel()
        part = slice(first * hop, min(first * hop + len(gains), len(samples)))
        np.multiply(samples[part], gains[: part.stop - part.start], out=out[part])


def _oversampled(samples: Samples, start: int, count: int) -> Samples:
    """Absolute values at four times the rate of `count` samples, with one value more on either side."""
    part = np.zeros(TRANSFORM, np.float32)
    first = max(0, MARGIN - start)
    inside = samples[max(0, start - MARGIN) : max(0, start - MARGIN + TRANSFORM)]
    part[first : first + len(inside)] = inside[: TRANSFORM - first]
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
    """The largest value of each hop, of the parabola through it and its neighbours where it is a top."""
    inner = fine[1:-1].reshape(hops, -1)
    at = inner.argmax(axis=1) + np.arange(hops) * inner.shape[1] + 1
    left, top, right = fine[at - 1], fine[at], fine[at + 1]
    bend = np.where((left <= top) & (right <= top), 2 * top - left - right, 0)
    rise = np.square(right - left) / (8 * np.maximum(bend, np.float32(1e-30)))
    return np.asarray(top + np.where(bend > 0, rise, 0), np.float32)
