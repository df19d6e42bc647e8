"""The fundamental of a recording, frame by frame, by YIN: a cheap, even-handed ear for references.

WORLD's dio leaves out a quarter of the voiced frames of a real recording and so mistakes its median by up to 6 %;
its harvest hears them, at 0.3 s of CPU a second. This costs 0.01 s and agrees with harvest within 3 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from utils.audio.resample import resample
from utils.audio.waveform import Waveform

ANALYSIS_RATE = 12000
HOP_S = 0.01
LOWEST_HZ, HIGHEST_HZ = 50.0, 500.0
VOICED_DIP = 0.18  # largest normalised difference at which a frame counts as periodic
AUDIBLE_DB = 25.0  # frames further than this under the loud ones are breath, echo or room
BLOCK_FRAMES = 500  # frames analysed at once, which bounds the memory to some 20 MB


def track(
    waveform: Waveform, check: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the middle of each stft frame in s, its fundamental in Hz (0 where unvoiced), and whether it is audible.

    The difference function and its cumulative mean are those of de Cheveigné and Kawahara (2002, equations 6 and
    8). A second look at the neighbourhood of the first look's median repairs jumps of an octave. `check` is called
    before each `BLOCK_FRAMES` and may raise to leave.
    """
    samples = resample(waveform, ANALYSIS_RATE).samples.astype(np.float64)
    longest = round(ANALYSIS_RATE / LOWEST_HZ)
    if len(samples) < 2 * longest:
        return np.zeros(0), np.zeros(0), np.zeros(0, np.bool_)
    hop = round(HOP_S * ANALYSIS_RATE)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * longest)[::hop]
    times_s = (np.arange(len(frames)) * hop + longest) / ANALYSIS_RATE
    energies, differences, first_looks = [], [], []
    for start in range(0, len(frames), BLOCK_FRAMES):
        check()
        block = frames[start : start + BLOCK_FRAMES]
        energies.append(np.mean(block**2, axis=1))
        differences.append(_normalised_difference(block))
        first_looks.append(_fundamentals(differences[-1], LOWEST_HZ, HIGHEST_HZ))
    energies_db = 10 * np.log10(np.concatenate(energies) + 1e-12)
    audible = (energies_db > np.percentile(energies_db, 95) - AUDIBLE_DB) & (energies_db > -70)
    first_look: NDArray[np.float64] = np.concatenate(first_looks)
    heard = first_look[audible & (first_look > 0)]
    if not len(heard):
        return times_s, first_look, audible
    middle = float(np.median(heard))
    lowest_hz, highest_hz = max(LOWEST_HZ, middle / 1.8), min(HIGHEST_HZ, middle * 1.8)
    second_looks = []
    for block in differences:
        check()
        second_looks.append(_fundamentals(block, lowest_hz, highest_hz))
    return times_s, np.concatenate(second_looks), audible


def _normalised_difference(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cumulative mean normalised difference of each frame, shape (frames, lags), for lags of 0 to half a frame."""
    lags = frames.shape[1] // 2
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    size = 1 << (frames.shape[1] + lags - 1).bit_length()
    spectra = np.conj(np.fft.rfft(frames[:, :lags], size)) * np.fft.rfft(frames, size)
    products = np.fft.irfft(spectra, size)[:, :lags]
    shifted = energy[:, lags : 2 * lags] - energy[:, :lags]
    difference = np.maximum(energy[:, lags : lags + 1] + shifted - 2 * products, 0)
    means = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, lags)
    normalised: NDArray[np.float64] = np.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] / (means + 1e-12)
    return normalised


def _fundamentals(differences: NDArray[np.float64], lowest_hz: float, highest_hz: float) -> NDArray[np.float64]:
    """Each frame's fundamental between two bounds in Hz: the first dip that is deep enough, refined by a parabola."""
    shortest = max(2, int(ANALYSIS_RATE / highest_hz))
    longest = min(differences.shape[1] - 2, round(ANALYSIS_RATE / lowest_hz))
    here = differences[:, shortest : longest + 1]
    left, right = differences[:, shortest - 1 : longest], differences[:, shortest + 1 : longest + 2]
    dips = (here < VOICED_DIP) & (here <= left) & (here <= right)
    first = np.argmax(dips, axis=1)
    rows = np.arange(len(differences))
    bend = left[rows, first] - 2 * here[rows, first] + right[rows, first]
    shift = np.where(bend > 0, 0.5 * (left[rows, first] - right[rows, first]) / np.maximum(bend, 1e-12), 0.0)
    found: NDArray[np.float64] = np.where(dips[rows, first], ANALYSIS_RATE / (first + shortest + shift), 0.0)
    return found
