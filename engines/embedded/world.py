"""Taking on a recorded voice by classical signal processing: pitch, its spread, formant scale, tilt and loudness.

WORLD takes speech apart into fundamental, spectral envelope and aperiodicity, and puts it together again. This is no
clone: a listener hears the reference's register and colour in a synthetic voice.

What takes long calls `check` every quarter of a second of work or more often; it may raise to leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.embedded import SAMPLE_RATE
from engines.embedded.fundamental import track
from engines.embedded.vocoder import (
    HIGHEST_HZ,
    SYNTHESIS_CONTEXT,
    Check,
    Samples,
    aperiodicity_of,
    contour_of,
    envelopes_of,
    in_step,
    lay,
    windows,
)
from resilience.errors import InvalidAudio
from utils.audio.resample import resample
from utils.audio.waveform import Waveform

LOWEST_SPOKEN_HZ = 58.0  # lower is creak, not pitch

SHORTEST_SPEECH_S, SHORTEST_VOICED_S = 0.3, 0.12
ENVELOPE_FRAMES = 1500  # voiced frames that the mean envelope is made of: more change nothing but the time
FRAMES_PER_S = 100  # of `fundamental.track`

WIDEST_SWING = 0.6  # log F0: just under an octave (0.69), past which a frame is an error of the tracker
NARROWEST_WARP, WIDEST_WARP = 0.82, 1.22
EQUALISER_LIMIT = 1.0 * np.log(10)  # 10 dB as the log of a power
QUIETEST_DBFS, LOUDEST_DBFS = -32.0, -14.0
LIMITER_KNEE, CEILING = 0.7, 0.98
FADE_S = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What is kept of a voice.

    `fundamental_hz` is the median fundamental and `spread` the deviation of its natural logarithm. `envelope` is the
    mean log power envelope of voiced frames, less its own mean, shape (513,), bins from 0 to 12 kHz. `loudness_dbfs`
    is the RMS of the parts where somebody speaks.
    """

    fundamental_hz: float
    spread: float
    envelope: Samples
    loudness_dbfs: float

    @property
    def size_bytes(self) -> int:
        return self.envelope.nbytes + 256


def never() -> None:
    """The check of one who does not leave."""


def profile(waveform: Waveform, check: Check = never) -> Profile:
    """Listen to a voice. Raises InvalidAudio if the recording has less than `SHORTEST_SPEECH_S` of voiced speech.

    Takes some 0.03 s of CPU a second of recording and memory in proportion, so the caller bounds the recording.
    """
    check()
    heard = resample(waveform, SAMPLE_RATE)
    times_s, fundamentals_hz, audible = track(heard, check)
    if np.count_nonzero(audible) < SHORTEST_SPEECH_S * FRAMES_PER_S:
        raise InvalidAudio(f"the recording holds less than {SHORTEST_SPEECH_S} seconds of sound")
    voiced = audible & (fundamentals_hz > 0)
    if np.count_nonzero(voiced) < max(SHORTEST_VOICED_S * FRAMES_PER_S, 0.05 * np.count_nonzero(audible)):
        raise InvalidAudio("the recording holds no voice: nothing in it has a pitch")
    logs = np.log(fundamentals_hz[voiced])
    middle = float(np.median(logs))
    swings = logs - middle
    spread = float(np.clip(np.std(swings[np.abs(swings) < WIDEST_SWING]), 0.03, 0.45))
    envelope = _mean_envelope(heard.samples.astype(np.float64), times_s[voiced], fundamentals_hz[voiced], check)
    return Profile(float(np.exp(middle)), spread, envelope, _active_dbfs(heard.samples))


def take_on(waveform: Waveform, source: Profile, target: Profile, check: Check = never) -> Waveform:
    """The same words in the voice of `target`: as many samples, at `SAMPLE_RATE`, at most `CEILING` in size.

    `source` is the speaking voice as it usually sounds, so that all its chunks are coloured alike and the livelier ones
    stay livelier. The median fundamental and the loudness (held between `QUIETEST_DBFS` and `LOUDEST_DBFS`) become the
    target's. What has no pitch keeps its sound, but for the loudness. Takes memory for some seconds of analysis,
    however long the speech. Raises ValueError at another rate.
    """
    if waveform.sample_rate != SAMPLE_RATE:
        raise ValueError(f"cannot convert at {waveform.sample_rate} Hz, only at {SAMPLE_RATE} Hz")
    samples = waveform.samples.astype(np.float64)
    looked_s, heard_hz, audible = track(waveform, check)
    if np.count_nonzero(audible & (heard_hz > 0)) < SHORTEST_VOICED_S * FRAMES_PER_S:
        return Waveform(_finish(samples, target.loudness_dbfs), SAMPLE_RATE)

    parts = windows(samples)
    contour, times_s = contour_of(samples, parts, check)
    # Median and spread of the contour itself: only what dio finds voiced has a pitch in the result.
    counted = (contour > 0) & (np.interp(times_s, looked_s, audible) > 0.5)
    if not np.any(counted):
        return Waveform(_finish(samples, target.loudness_dbfs), SAMPLE_RATE)
    moved = _moved(contour, float(np.median(np.log(contour[counted]))), source.spread, target)
    bins = _source_bins(len(source.envelope), formant_scale(source, target))
    equaliser = _equaliser(source, target, bins)
    whole = np.zeros(len(samples))
    for part in parts:
        wide = part.with_context(SYNTHESIS_CONTEXT)
        envelopes = envelopes_of(samples, contour[wide], times_s[wide], check)
        aperiodicity = aperiodicity_of(samples, contour[wide], times_s[wide], check)
        check()
        coloured = np.exp(_at_bins(np.log(envelopes + 1e-16), bins) + equaliser)
        aperiodicity = np.clip(_at_bins(aperiodicity, bins), 1e-6, 1 - 1e-9)
        check()
        lay(whole, part, in_step(part, moved), np.ascontiguousarray(coloured), np.ascontiguousarray(aperiodicity))
    check()
    return Waveform(_finish(whole, target.loudness_dbfs), SAMPLE_RATE)


def formant_scale(source: Profile, target: Profile) -> float:
    """How much higher the target's formants lie: above 1 for a shorter vocal tract.

    The mean of two opinions: the stretch at which the envelopes, freed of their tilt because microphones differ,
    agree best, with a preference for none; and what the difference in pitch suggests (formants rise with about its
    fourth root).
    """
    frequencies_hz = np.linspace(0, SAMPLE_RATE / 2, len(source.envelope))
    band = (frequencies_hz > 200) & (frequencies_hz < 5000)
    ours, theirs = _smooth(source.envelope, 40), _without_tilt(_smooth(target.envelope, 40)[band])

    def agreement(scale: float) -> float:
        stretched = _without_tilt(_at_bins(ours[None, :], _source_bins(len(ours), scale))[0][band])
        size = float(np.sqrt(np.sum(stretched**2) * np.sum(theirs**2))) + 1e-12
        return float(np.sum(stretched * theirs)) / size - 0.6 * abs(float(np.log(scale)))

    best = max((float(scale) for scale in np.linspace(NARROWEST_WARP, WIDEST_WARP, 41)), key=agreement)
    by_pitch = (target.fundamental_hz / source.fundamental_hz) ** 0.25
    return float(np.clip(np.sqrt(best * by_pitch), NARROWEST_WARP, WIDEST_WARP))


def _moved(contour: Samples, middle: float, spread: float, target: Profile) -> Samples:
    """The contour with the target's median and spread; unvoiced frames (0) stay unvoiced."""
    voiced = contour > 0
    swings = np.clip(np.log(contour[voiced]) - middle, -WIDEST_SWING, WIDEST_SWING)
    width = float(np.clip(target.spread / spread, 0.6, 1.8))
    swings = np.clip(swings * width, -WIDEST_SWING, WIDEST_SWING)
    moved = np.zeros_like(contour)
    moved[voiced] = np.clip(target.fundamental_hz * np.exp(swings), LOWEST_SPOKEN_HZ, HIGHEST_HZ)
    return moved


def _mean_envelope(samples: Samples, times_s: Samples, fundamentals_hz: Samples, check: Check) -> Samples:
    """The mean log envelope of the louder 70 % of the voiced frames, less its mean; read-only."""
    chosen = np.unique(np.linspace(0, len(times_s) - 1, min(len(times_s), ENVELOPE_FRAMES)).astype(int))
    voiced = envelopes_of(samples, fundamentals_hz[chosen], times_s[chosen], check)
    powers = voiced.sum(axis=1)
    loud = voiced[powers >= np.percentile(powers, 30)]
    mean: Samples = np.log(loud + 1e-14).mean(axis=0)
    mean -= mean.mean()
    mean.flags.writeable = False
    return mean


def _equaliser(source: Profile, target: Profile, bins: Samples) -> Samples:
    """What lifts the warped source's colour to the target's, as log power for each bin, within `EQUALISER_LIMIT`."""
    warped = _at_bins(source.envelope[None, :], bins)[0]
    wanted = _smooth(target.envelope, 24) - _smooth(warped, 24)
    limited: Samples = np.tanh(wanted / EQUALISER_LIMIT) * EQUALISER_LIMIT
    return limited


def _smooth(envelope: Samples, coefficients: int) -> Samples:
    """Keep the first cepstral coefficients of a log envelope: its shape without the ripple of harmonics."""
    cepstrum = np.fft.irfft(envelope)
    cepstrum[coefficients : len(cepstrum) - coefficients + 1] = 0
    return np.fft.rfft(cepstrum).real


def _without_tilt(envelope: Samples) -> Samples:
    axis = np.linspace(-1, 1, len(envelope))
    return envelope - np.polyval(np.polyfit(axis, envelope, 1), axis)


def _source_bins(count: int, scale: float) -> Samples:
    """Where each output bin is read from: f / scale up to a knee, then straight to the top of the band."""
    axis = np.arange(count) / (count - 1)
    knee = 0.75 * min(1.0, scale)
    rest = (axis - knee) / (1 - knee)
    sources: Samples = np.where(axis <= knee, axis / scale, knee / scale + rest * (1 - knee / scale))
    return sources * (count - 1)


def _at_bins(rows: Samples, bins: Samples) -> Samples:
    """Each row read between its bins, linearly."""
    below = np.clip(np.floor(bins).astype(int), 0, rows.shape[1] - 2)
    share = bins - below
    between: Samples = rows[:, below] * (1 - share) + rows[:, below + 1] * share
    return between


def _active_dbfs(samples: NDArray[np.floating]) -> float:
    """RMS of the 20 ms blocks within 25 dB of the loud ones, in dB below full scale; -120 for silence."""
    size = SAMPLE_RATE // 50
    blocks = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size)
    if not len(blocks):
        return -120.0
    powers = np.mean(blocks**2, axis=1)
    active = powers[powers > np.percentile(powers, 95) * 10**-2.5]
    return float(10 * np.log10(np.mean(active) + 1e-12)) if len(active) else -120.0


def _finish(samples: Samples, loudness_dbfs: float) -> NDArray[np.float32]:
    """Bring the speech to its loudness, bend what would clip, and let the ends begin and end at zero, in place."""
    loudness_now = _active_dbfs(samples)
    if loudness_now > -70:
        samples *= 10 ** ((np.clip(loudness_dbfs, QUIETEST_DBFS, LOUDEST_DBFS) - loudness_now) / 20)
    sizes = np.abs(samples)
    room = CEILING - LIMITER_KNEE
    loud = sizes > LIMITER_KNEE
    samples[loud] = np.sign(samples[loud]) * (LIMITER_KNEE + room * np.tanh((sizes[loud] - LIMITER_KNEE) / room))
    fade = min(len(samples) // 2, round(FADE_S * SAMPLE_RATE))
    ramp = np.linspace(0, 1, fade, endpoint=False)
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    return samples.astype(np.float32)
