"""What the tests of the engines can hear: a fundamental measured in another way than the engine does it.

The engine listens with YIN, in time; this listens to the sum of harmonics, in frequency, so they cannot share a
mistake.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from utils.audio.waveform import Waveform

WINDOW_S, HOP_S = 0.06, 0.02
LOWEST_HZ, HIGHEST_HZ = 55.0, 520.0
HARMONICS, DECAY = 10, 0.84
AUDIBLE_DB = 25.0
HARMONIC_SHARE = 0.75


def fundamentals_hz(waveform: Waveform) -> NDArray[np.float64]:
    """The fundamental in Hz of each stft frame that is loud and has one: subharmonic summation (Hermes 1988)."""
    sample_rate = waveform.sample_rate
    window = np.hanning(round(WINDOW_S * sample_rate))
    samples = waveform.samples.astype(np.float64)
    if len(samples) < len(window):
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(samples, len(window))[:: round(HOP_S * sample_rate)]
    energies = np.sum(frames**2, axis=1)
    frames = frames[energies > max(np.percentile(energies, 95) * 10 ** (-AUDIBLE_DB / 10), 1e-9)]
    size = 1 << (4 * len(window)).bit_length()
    spectra = np.abs(np.fft.rfft(frames * window, size))
    candidates = np.exp(np.arange(np.log(LOWEST_HZ), np.log(HIGHEST_HZ), 0.005))
    found = []
    for spectrum in spectra:
        strengths = np.zeros(len(candidates))
        between = np.zeros(len(candidates))
        for harmonic in range(1, HARMONICS + 1):
            places = candidates * harmonic * size / sample_rate
            half = places - candidates * size / sample_rate / 2
            bins = np.arange(len(spectrum))
            strengths += DECAY**harmonic * np.interp(places, bins, spectrum, right=0)
            between += DECAY**harmonic * np.interp(half, bins, spectrum, right=0)
        # What lies between the harmonics speaks against a candidate: it is strong an octave below the true one.
        best = int(np.argmax(strengths - between))
        if strengths[best] * (1 - HARMONIC_SHARE) > between[best]:
            found.append(candidates[best])
    return np.array(found)


def median_fundamental_hz(waveform: Waveform) -> float:
    """Raises ValueError if nothing in the waveform has a fundamental."""
    found = fundamentals_hz(waveform)
    if len(found) < 5:
        raise ValueError("nothing voiced to measure")
    return float(np.median(found))
