"""Recordings to clone from, made here: vowels of a voice whose pitch is known to the hertz."""

from __future__ import annotations

import io

import numpy as np

from utils.audio.encode import write_wav
from utils.audio.waveform import Waveform

RATE = 24_000
VOWELS_HZ = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240), "e": (530, 1840, 2480)}


def vowels(fundamental_hz: float, duration_s: float = 4.0, formant_scale: float = 1.0) -> Waveform:
    """Four vowels in turn, with short pauses and a slow rise and fall of the pitch around `fundamental_hz`.

    A pulse train through three resonances (Fant's source and filter), the mean of the log pitch being exact.
    """
    count = round(duration_s * RATE)
    time_s = np.arange(count) / RATE
    pitch_hz = fundamental_hz * np.exp(0.06 * np.sin(2 * np.pi * time_s / 1.0))
    phase = np.cumsum(pitch_hz) / RATE
    samples = np.zeros(count)
    spans = np.array_split(np.arange(count), round(duration_s))
    for span, formants_hz in zip(spans, [*VOWELS_HZ.values()] * len(spans), strict=False):
        for harmonic in range(1, int(8000 / fundamental_hz)):
            hz = harmonic * fundamental_hz
            resonances = (1 / (1 + ((hz - formant * formant_scale) / 90) ** 2) for formant in formants_hz)
            samples[span] += (0.02 / harmonic + sum(resonances)) * np.sin(2 * np.pi * harmonic * phase[span])
        edge = np.minimum(1, np.minimum(np.arange(len(span)), np.arange(len(span))[::-1]) / (0.06 * RATE))
        samples[span] *= edge
    breath = 0.002 * np.random.default_rng(1).standard_normal(count)
    return Waveform((0.3 * samples / np.abs(samples).max() + breath).astype(np.float32), RATE)


def vowels_wav(fundamental_hz: float) -> bytes:
    file = io.BytesIO()
    write_wav(vowels(fundamental_hz), file)
    return file.getvalue()
