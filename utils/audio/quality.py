"""Is a recording fit to clone a voice from? Clipping, noise, silence and bandwidth, and what to do about them.

Judged is the first minute: no engine listens to more. `docs/decisions/audio-files.md` says where the thresholds come
from and how well the estimates hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

JUDGED_S = 60.0
FRAME_S = 0.032  # frames follow one another by half of it
LOWEST_HZ = 80.0  # hum and handling below it are no part of a voice
BANDS_PER_OCTAVE = 3
FLOOR_FRAMES = 3  # averaged before the floor is looked for: single frames of a narrow band are far below its noise
FLOOR_QUANTILE, FLOOR_DEVIATION = 0.05, -1.645  # the share of them that lie below the floor; as a z-score
DIGITAL_SILENCE_DBFS = -100.0  # put there by an editor or a gate: it says nothing about the room
AUDIBLE_DBFS = -70.0
SPEECH_ABOVE_FLOOR_DB = 3.0
SPEECH_BELOW_LOUD_DB = 35.0  # how much softer than the loudest frames speech can be
LEAST_SPEECH_S = 0.3
LEAST_SNR_DB, MOST_SNR_DB = 3.0, 60.0  # less is only the noise's own rise and fall, more no recording has

CLIPPED_RUN = 3
CLIPPED_WITHIN = 4e-5  # of the highest sample: a step of 16 bits
CLIPPED_FROM = 0.05  # of full scale; in what is softer, a step of 16 bits can be a plateau
CLIPPED_SHARE, BADLY_CLIPPED_SHARE = 1e-4, 1e-2

TOO_SHORT_S, SHORT_S, LONG_S = 3.0, 6.0, 30.0
POOR_SNR_DB, FAIR_SNR_DB = 15.0, 25.0
POOR_BANDWIDTH_HZ, FAIR_BANDWIDTH_HZ = 4500, 6500
MUCH_SILENCE = 0.5
QUIET_LUFS = -40.0

SMOOTHED_HZ = 200.0
EDGE_ABOVE_FLOOR_DB = 12.0  # how far the used part of a spectrum stands above its emptiest
EDGE_BELOW_PEAK_DB = (60.0, 70.0)  # and below its strongest: at 60 it is used anyway, at 70 it is not

Samples = NDArray[np.float32]
Fault = tuple[Literal["good", "fair", "poor"], str]  # the best rating that it allows, and what to do


class Judge:
    """Listens to a recording's blocks and has an opinion at the end. Holds 0.4 MB and some copies of a block."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._left = round(JUDGED_S * sample_rate)
        self._clipping = [_Clipping() for _ in range(channels)]
        self._spectra = _Spectra(sample_rate)

    def add(self, block: Samples) -> None:
        """The next samples, shape (n, channels)."""
        block = block[: self._left]
        self._left -= len(block)
        if not len(block):
            return
        for channel, clipping in zip(block.T, self._clipping, strict=True):
            clipping.add(channel)
        self._spectra.add(block.mean(axis=1))

    def verdict(self, duration_s: float, loudness_lufs: float | None) -> dict[str, Any]:
        """JSON-ready: the rating, what it rests on, and what to do about it. The arguments are the whole recording's.

        `snr_db` and `bandwidth_hz` are None where no speech is heard.
        """
        speech = self._spectra.speech()
        clipped = max(clipping.share for clipping in self._clipping)
        fit = _fit(duration_s)
        bandwidth_hz = None if speech.snr_db is None else self._spectra.bandwidth_hz()
        faults = [
            *_faults_of_duration(fit),
            *_faults_of_speech(speech, loudness_lufs),
            *(_faults_of_sound(clipped, bandwidth_hz) if bandwidth_hz is not None else ()),
        ]
        ratings = {rating for rating, _ in faults}
        return {
            "rating": next((rating for rating in ("poor", "fair") if rating in ratings), "good"),
            "duration": {"seconds": round(duration_s, 2), "fit": fit},
            "clipping": {"share": round(clipped, 6), "is_clipped": clipped >= CLIPPED_SHARE},
            "snr_db": None if speech.snr_db is None else round(speech.snr_db, 1),
            "silence_share": round(speech.silence_share, 3),
            "loudness_lufs": None if loudness_lufs is None else round(loudness_lufs, 1),
            "bandwidth_hz": bandwidth_hz,
            "advice": [advice for _, advice in faults],
        }


class _Clipping:
    """Counts a channel's samples that stay at its highest or lowest value, `CLIPPED_RUN` and more on end.

    Measured against the file's own extremes: what was clipped and then made softer is clipped all the same. A new
    extreme starts the count anew.
    """

    def __init__(self) -> None:
        self._count = 0
        self._levels = [0.0, 0.0]
        self._clipped = [0, 0]

    @property
    def share(self) -> float:
        clipped = (count for count, level in zip(self._clipped, self._levels, strict=True) if level >= CLIPPED_FROM)
        return sum(clipped) / max(1, self._count)

    def add(self, samples: Samples) -> None:
        self._count += len(samples)
        for side, extreme in enumerate((float(samples.max()), -float(samples.min()))):
            if extreme > self._levels[side] * (1 + CLIPPED_WITHIN):
                self._levels[side], self._clipped[side] = extreme, 0
            limit = self._levels[side] * (1 - CLIPPED_WITHIN)
            if self._levels[side] >= CLIPPED_FROM and extreme >= limit:
                self._clipped[side] += _in_runs(samples >= limit if side == 0 else samples <= -limit)


def _in_runs(flags: NDArray[np.bool_]) -> int:
    """How many are set among `CLIPPED_RUN` or more set ones on end."""
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    lengths = changes[1::2] - changes[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())


class _Speech(NamedTuple):
    snr_db: float | None  # None if there is no speech
    silence_share: float


class _Spectra:
    """A recording's short-time spectra: in bands for each frame, in full for their sum."""

    def __init__(self, sample_rate: int) -> None:
        self._hop = 16 * round(FRAME_S * sample_rate / 32)  # a size that is transformed quickly
        self._bin_hz = sample_rate / (2 * self._hop)
        window = np.hanning(2 * self._hop + 1)[:-1]
        self._window = (window / np.sqrt(2 * self._hop * np.square(window).sum() / 2)).astype(np.float32)
        self._starts, self._widths = self._bands()
        self._held = np.zeros(0, np.float32)
        self._frames: list[Samples] = []  # power in each band, of full scale; shape (n, bands)
        self._sum = np.zeros(self._hop + 1)

    def add(self, samples: Samples) -> None:
        samples = np.concatenate([self._held, samples])
        size = 2 * self._hop
        count = max(0, (len(samples) - size) // self._hop + 1)
        self._held = samples[count * self._hop :]
        if not count:
            return
        frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: self._hop]
        spectra = np.fft.rfft(frames * self._window)
        powers = np.square(spectra.real) + np.square(spectra.imag)
        self._sum += powers.sum(axis=0)
        self._frames.append(np.add.reduceat(powers, self._starts, axis=1).astype(np.float32))

    def speech(self) -> _Speech:
        """How far speech stands above the noise, and how much of the recording is no speech.

        A band's noise is the level that it falls back to again and again, in pauses and between the sounds that use it,
        so speech without a pause can be judged too. Speech is the frames that rise above all bands' noise together.
        """
        if not self._frames:
            return _Speech(None, 1.0)
        bands = np.concatenate(self._frames).astype(np.float64)
        powers = bands.sum(axis=1)
        sounding = powers > _power(DIGITAL_SILENCE_DBFS)
        if not sounding.any():
            return _Speech(None, 1.0)
        noise = float((np.quantile(_averaged(bands[sounding]), FLOOR_QUANTILE, axis=0) / self._below_mean()).sum())
        least = max(
            noise * _power(SPEECH_ABOVE_FLOOR_DB),
            float(np.quantile(powers[sounding], 0.95)) * _power(-SPEECH_BELOW_LOUD_DB),
            _power(AUDIBLE_DBFS),
        )
        spoken = powers[powers > least]
        if len(spoken) * FRAME_S / 2 < LEAST_SPEECH_S:
            return _Speech(None, 1.0)
        ratio = (float(spoken.mean()) - noise) / max(noise, _power(-200))
        if ratio < _power(LEAST_SNR_DB):
            return _Speech(None, 1.0)
        return _Speech(min(MOST_SNR_DB, 10 * math.log10(ratio)), 1 - len(spoken) / len(powers))

    def bandwidth_hz(self) -> int:
        """Above which the long-term spectrum has fallen to its floor, in steps of 100 Hz."""
        width = max(1, round(SMOOTHED_HZ / self._bin_hz))
        smooth = np.convolve(self._sum, np.ones(width) / width, "valid")[self._starts[0] :]
        levels_db = 10 * np.log10(smooth + 1e-30)
        used, unused = (levels_db.max() - below_db for below_db in EDGE_BELOW_PEAK_DB)
        edge_db = np.clip(levels_db.min() + EDGE_ABOVE_FLOOR_DB, unused, used)
        last = int(np.flatnonzero(levels_db > edge_db)[-1])
        at_the_end = last == len(levels_db) - 1
        middle = self._starts[0] + last + (width - 1 if at_the_end else (width - 1) / 2)
        return round(middle * self._bin_hz / 100) * 100

    def _bands(self) -> tuple[list[int], NDArray[np.intp]]:
        """Where the bands begin among the spectrum's bins, and how many bins each has. The last takes what is left."""
        starts = [math.ceil(LOWEST_HZ / self._bin_hz)]
        while (start := max(starts[-1] + 2, round(starts[-1] * 2 ** (1 / BANDS_PER_OCTAVE)))) < self._hop:
            starts.append(start)
        return starts, np.diff([*starts, self._hop + 1])

    def _below_mean(self) -> NDArray[np.float64]:
        """By what factor the floor of a band lies below its noise's mean.

        Noise's power in n independent bins is spread as chi-squared with 2 n degrees of freedom; its quantile is E. B.
        Wilson's and M. M. Hilferty's approximation (1931). Neighbouring bins share the window, and with it 4/9 of
        their spread; frames share next to nothing.
        """
        degrees = FLOOR_FRAMES * self._widths**2 / (self._widths + 8 / 9 * (self._widths - 1))
        factor: NDArray[np.float64] = (1 - 1 / (9 * degrees) + FLOOR_DEVIATION / np.sqrt(9 * degrees)) ** 3
        return factor


def _averaged(bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of `FLOOR_FRAMES` frames in a row; of fewer, the frames."""
    if len(bands) < FLOOR_FRAMES:
        return bands
    means: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(bands, FLOOR_FRAMES, axis=0).mean(axis=-1)
    return means


def _power(level_db: float) -> float:
    return float(10 ** (level_db / 10))


def _fit(duration_s: float) -> str:
    if duration_s < TOO_SHORT_S:
        return "too short"
    if duration_s < SHORT_S:
        return "short"
    return "good" if duration_s <= LONG_S else "long"


def _faults_of_duration(fit: str) -> Iterator[Fault]:
    match fit:
        case "too short":
            yield "poor", "The recording is too short: record at least 6 seconds of speech, better 10 to 20."
        case "long":
            yield "good", "Only the first 10 to 60 seconds are used, as the model has it: begin with the best speech."
        case "short":
            yield "fair", "The recording is short: 10 to 20 seconds of speech give a better likeness."


def _faults_of_speech(speech: _Speech, loudness_lufs: float | None) -> Iterator[Fault]:
    if speech.snr_db is None:
        yield "poor", "No speech stands out in the recording: listen to it, and record one person speaking alone."
        return
    if speech.snr_db < POOR_SNR_DB:
        yield "poor", "There is loud noise behind the voice: record in a quiet room, close to the microphone."
    elif speech.snr_db < FAIR_SNR_DB:
        yield "fair", "There is some noise behind the voice: a quieter room or a closer microphone helps."
    if speech.silence_share > MUCH_SILENCE:
        yield "fair", "More than half of the recording is no speech: cut the silence at its ends and in long pauses."
    if loudness_lufs is not None and loudness_lufs < QUIET_LUFS:
        yield "fair", "The recording is very quiet: move closer to the microphone or raise its level."


def _faults_of_sound(clipped_share: float, bandwidth_hz: int) -> Iterator[Fault]:
    if clipped_share >= BADLY_CLIPPED_SHARE:
        yield "poor", "The recording is badly overdriven: lower the microphone's level and record again."
    elif clipped_share >= CLIPPED_SHARE:
        yield "fair", "The recording is overdriven in places: lower the microphone's level and record again."
    ends = f"nothing is heard above {bandwidth_hz} Hz; record at 24 kHz or more, and not over a phone or Bluetooth."
    if bandwidth_hz < POOR_BANDWIDTH_HZ:
        yield "poor", f"The sound is that of a telephone: {ends}"
    elif bandwidth_hz < FAIR_BANDWIDTH_HZ:
        yield "fair", f"The sound is dull: {ends}"
