"""Integrated loudness by ITU-R BS.1770-4, of audio that arrives in blocks, and its range by EBU Tech 3342."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

HOPS_PER_S = 10
HOPS_OF_A_BLOCK = 4  # gating blocks of 400 ms, each sharing three quarters with the one before
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
HOPS_OF_A_SHORT_TERM = 30  # Tech 3342: the range is that of stretches of 3 s
RANGE_GATE_LU = -20.0
RANGE_PERCENTILES = (10, 95)
TWICE_LU = 10 * math.log10(2)  # of twice the power
OFFSET_LU = -0.691  # makes a sine of 997 Hz at full scale -3.01 LUFS
RESPONSE_S = 0.08  # of the weighting filter; what would come later is below -130 dB
TRANSFORM_PER_RESPONSE = 6  # about where filtering is cheapest


class LoudnessMeter:
    """Listens to blocks of any length at 8 to 192 kHz and says how loud all of them are together.

    The channels count alike, as left, right and centre do: the greater weight of surround channels needs to know which
    they are, and recordings of voices do not say. Holds ten numbers a second, and one transform's samples.
    """

    def __init__(self, sample_rate: int, channels: int = 1) -> None:
        self._filter = KWeighting(sample_rate, channels)
        self._hops = _Hops(sample_rate)

    def add(self, block: NDArray[np.float32]) -> None:
        """The next samples, shape (n, channels) or, of one channel, (n,)."""
        for weighted in self._filter.add(block):
            self._hops.add(weighted)

    @property
    def integrated_lufs(self) -> float | None:
        """Of all that was added; None if it is shorter than a gating block or none of it passes the absolute gate."""
        return gated_lufs(self._heard().block_powers())

    @property
    def level_lufs(self) -> float | None:
        """The same, but what the standard leaves unmeasured because it is short, or sounds for less than a gating
        block, counts by its mean; None if that is below the absolute gate, too."""
        heard = self._heard()
        gated = gated_lufs(heard.block_powers())
        mean = heard.mean_power
        return gated if gated is not None or mean <= power(ABSOLUTE_GATE_LUFS) else lufs(mean)

    def _heard(self) -> _Hops:
        hops = self._hops.copy()
        hops.add(self._filter.rest())
        return hops


def gated_lufs(block_powers: NDArray[np.float64]) -> float | None:
    """Of the mean squares of gating blocks (weighted); None if none of them passes the absolute gate."""
    loud = block_powers[block_powers > power(ABSOLUTE_GATE_LUFS)]
    if not len(loud):
        return None
    return lufs(loud[loud > power(lufs(loud.mean()) + RELATIVE_GATE_LU)].mean())


def range_lu(short_term_powers: NDArray[np.float64]) -> float | None:
    """The loudness range of the mean squares of stretches of 3 s (weighted), which should overlap by nearly all of it;
    None if none of them passes the absolute gate."""
    loud = short_term_powers[short_term_powers > power(ABSOLUTE_GATE_LUFS)]
    if not len(loud):
        return None
    low, high = np.percentile(loud[loud > power(lufs(loud.mean()) + RANGE_GATE_LU)], RANGE_PERCENTILES)
    return lufs(high) - lufs(low)


class KWeighting:
    """The standard's two filters as one, applied by the fast Fourier transform (overlap-save)."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        response = _response(sample_rate)
        self._before = len(response) - 1  # samples that each new one needs
        self._size = 1 << math.ceil(math.log2(TRANSFORM_PER_RESPONSE * len(response)))
        self._transfer = np.fft.rfft(response, self._size).astype(np.complex64)
        self._held = np.zeros((channels, self._before), np.float32)

    def add(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """What can be given of the weighted samples, shape (channels, n), some at a time."""
        new = block.reshape(len(block), len(self._held)).T
        held = np.concatenate([self._held, new], axis=1)
        start = 0
        while held.shape[1] - start >= self._size:
            yield self._weighted(held[:, start : start + self._size])
            start += self._size - self._before
        self._held = held[:, start:].copy()

    def rest(self) -> NDArray[np.float32]:
        """What was not given yet; it stays held."""
        return self._weighted(self._held)

    def _weighted(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """All but the first samples, at most a transform's."""
        sounding = samples.any(axis=1)
        if sounding.all():
            spectrum = np.fft.rfft(samples, self._size) * self._transfer
            weighted = np.fft.irfft(spectrum, self._size)[:, self._before : samples.shape[1]]
            return weighted.astype(np.float32, copy=False)
        silent = np.zeros((len(samples), max(0, samples.shape[1] - self._before)), np.float32)
        if sounding.any():  # the unused channels of a recorder, and digital silence, cost nothing
            silent[sounding] = self._weighted(samples[sounding])
        return silent


class _Hops:
    """The energy of each tenth of a second, summed over the channels. At some rates they are not all equally long."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._whole = array("d")
        self._open = 0.0  # energy of the hop that is not whole
        self._count = 0

    def copy(self) -> _Hops:
        same = _Hops(self._rate)
        same._whole, same._open, same._count = self._whole[:], self._open, self._count
        return same

    def add(self, samples: NDArray[np.float32]) -> None:
        """Samples of shape (channels, n)."""
        powers = np.square(samples, dtype=np.float64).sum(axis=0)
        if not len(powers):
            return
        whole = (self._count + len(powers)) * HOPS_PER_S // self._rate
        ends = [self._end(hop) - self._count for hop in range(len(self._whole), whole)]
        sums = np.add.reduceat(np.append(powers, 0.0), [0, *ends])
        sums[0] += self._open
        self._whole.extend(sums[:-1])
        self._open = float(sums[-1])
        self._count += len(powers)

    def block_powers(self) -> NDArray[np.float64]:
        """The mean square of each gating block that is whole."""
        sums = np.array(self._whole)
        if len(sums) < HOPS_OF_A_BLOCK:
            return np.zeros(0)
        return np.convolve(sums, np.ones(HOPS_OF_A_BLOCK), "valid") * HOPS_PER_S / (HOPS_OF_A_BLOCK * self._rate)

    @property
    def mean_power(self) -> float:
        """The mean square of all samples; 0 of none."""
        return (sum(self._whole) + self._open) / max(1, self._count)

    def _end(self, hop: int) -> int:
        return -(-(hop + 1) * self._rate // HOPS_PER_S)


def lufs(power: float) -> float:
    """Of a weighted mean square above 0."""
    return OFFSET_LU + 10 * math.log10(power)


def power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET_LU) / 10))


def _response(sample_rate: int) -> NDArray[np.float64]:
    """The impulse response of the weighting: the inverse transform of both filters' transfer function.

    The transform is more than long enough for the response to have died away before it would wrap around.
    """
    count = round(RESPONSE_S * sample_rate)
    z = np.exp(-2j * np.pi * np.arange(count + 1) / (2 * count))  # z to the power of -1
    transfer = np.ones(count + 1, np.complex128)
    for numerator, denominator in (_shelf(sample_rate), _high_pass(sample_rate)):
        transfer *= np.polyval(numerator[::-1], z) / np.polyval(denominator[::-1], z)
    response: NDArray[np.float64] = np.fft.irfft(transfer)[:count]
    return response


Biquad = tuple[list[float], list[float]]  # b and a, a[0] is 1

# The standard gives coefficients for 48 kHz only. These are the analogue filters behind them, brought to any rate by
# the bilinear transform; at 48 kHz they are the standard's, all digits of them (parameters as derived by B. De Man,
# "Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
SHELF_HZ, SHELF_Q, SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
SHELF_MIDDLE = 0.4996667741545416  # the gain at its frequency, as a share of its decibels
RATE_OF_THE_STANDARD = 48_000
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773


def _shelf(sample_rate: int) -> Biquad:
    """Stage 1, what a head does to sound: some 4 dB more above 2 kHz."""
    k = math.tan(math.pi * SHELF_HZ / sample_rate)
    high = 10 ** (SHELF_DB / 20)
    middle = high**SHELF_MIDDLE
    scale = _scale(k, SHELF_Q)
    numerator = [high + middle * k / SHELF_Q + k * k, 2 * (k * k - high), high - middle * k / SHELF_Q + k * k]
    return [b / scale for b in numerator], _denominator(k, SHELF_Q)


def _high_pass(sample_rate: int) -> Biquad:
    """Stage 2, how little low sounds count.

    The standard's numerator is 1, -2, 1, which at 48 kHz lets high sounds through 0.04 dB louder than they are. At each
    other rate that would be another gain (0.25 dB at 8 kHz), and one sound would have several loudnesses; so the gain
    is that of 48 kHz everywhere.
    """
    k = math.tan(math.pi * HIGH_PASS_HZ / sample_rate)
    gain = _scale(math.tan(math.pi * HIGH_PASS_HZ / RATE_OF_THE_STANDARD), HIGH_PASS_Q) / _scale(k, HIGH_PASS_Q)
    return [gain, -2 * gain, gain], _denominator(k, HIGH_PASS_Q)


def _denominator(k: float, q: float) -> list[float]:
    scale = _scale(k, q)
    return [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale]


def _scale(k: float, q: float) -> float:
    return 1 + k / q + k * k
