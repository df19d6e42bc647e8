from __future__ import annotations

import numpy as np
import pytest

from engines.base import Cancellation, VoicePrompt
from engines.embedded.fundamental import track
from engines.embedded.voices import Performance
from engines.embedded.world import QUIETEST_DBFS, never, profile, take_on
from resilience.errors import InvalidAudio
from tests.engines.embedded.conftest import harmonic_tone, recording_of
from tests.engines.embedded.hearing import fundamentals_hz, median_fundamental_hz
from tests.engines.embedded.test_espeak import DATA, LIBRARY
from utils.audio.resample import resample
from utils.audio.waveform import Waveform

HEARD = "Please send me the report before the end of the week, and not a day later."


def spoken_by(variant, pitch):
    from engines.embedded.espeak import stream_utterance

    told = Performance(variant, pitch, pitch_range=50, words_per_minute=175, seed=3)
    pieces = stream_utterance(HEARD, "en-us", told, LIBRARY, DATA, Cancellation())
    return resample(Waveform(np.concatenate(list(pieces)), 22050), 24000)


def noise(duration_s=2.0, size=0.1):
    return Waveform(np.random.default_rng(0).normal(0, size, round(24000 * duration_s)).astype(np.float32), 24000)


REFERENCES = {
    "a creaking man": lambda: spoken_by("edward", 15),
    "a rough man": lambda: spoken_by("croak", 50),
    "a woman": lambda: spoken_by("grandma", 50),
    "a high woman": lambda: spoken_by("f5", 95),
    "a noisy tone at 75 Hz": lambda: harmonic_tone(75, noise=0.03),
    "a noisy tone at 380 Hz": lambda: harmonic_tone(380, noise=0.03),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_speech_takes_on_the_fundamental_of_the_reference(name, engine, speak):
    reference = REFERENCES[name]()
    prepared = engine.prepare("espeak-world", VoicePrompt("somebody.wav"), recording_of(reference), Cancellation())

    heard = speak(conditionals=prepared)

    assert median_fundamental_hz(heard) == pytest.approx(median_fundamental_hz(reference), rel=0.05)
    assert np.isfinite(heard.samples).all()
    assert np.max(np.abs(heard.samples)) < 0.99


@pytest.mark.parametrize("harmonic", [2, 3])
def test_a_strong_overtone_does_not_pass_for_the_fundamental(harmonic):
    times_s = np.arange(48000) / 24000
    partials = [(3 if k == harmonic else 0.5) * np.sin(2 * np.pi * 110 * k * times_s) / k for k in range(1, 12)]
    tone = Waveform((0.1 * np.sum(partials, axis=0)).astype(np.float32), 24000)

    assert profile(tone).fundamental_hz == pytest.approx(110, rel=0.01)


def test_two_ears_agree_on_where_speech_has_its_pitch():
    reference = spoken_by("f2", 60)
    _, heard_hz, audible = track(reference, never)

    by_yin = np.median(heard_hz[audible & (heard_hz > 0)])
    assert by_yin == pytest.approx(np.median(fundamentals_hz(reference)), rel=0.02)


def test_the_loudness_of_the_reference_is_taken_on_within_bounds():
    speech = spoken_by("edward", 50)
    quiet, loud, inaudible = (Waveform(speech.samples * np.float32(gain), 24000) for gain in (0.25, 1.0, 0.01))

    def loudness_dbfs(reference):
        return profile(take_on(speech, profile(speech), profile(reference))).loudness_dbfs

    assert loudness_dbfs(loud) - loudness_dbfs(quiet) == pytest.approx(12, abs=1)
    assert loudness_dbfs(inaudible) == pytest.approx(QUIETEST_DBFS, abs=1)


def test_converted_speech_is_as_long_as_before_and_silent_at_its_ends():
    speech = spoken_by("f2", 50)
    cut = Waveform(speech.samples[5000:40001], 24000)

    heard = take_on(cut, profile(speech), profile(harmonic_tone(120)))

    assert len(heard.samples) == len(cut.samples)
    assert abs(heard.samples[0]) < 1e-4
    assert abs(heard.samples[-1]) < 1e-4


@pytest.mark.parametrize("count", [0, 1, 5, 240, 1440, 24000])
@pytest.mark.parametrize("size", [0.0, 0.1, 1.0])
def test_what_has_no_voice_comes_back_whole_and_finite(count, size):
    voice = profile(harmonic_tone(150))

    heard = take_on(Waveform(noise(size=size).samples[:count].clip(-1, 1), 24000), voice, voice)

    assert len(heard.samples) == count
    assert np.isfinite(heard.samples).all()
    assert np.max(np.abs(heard.samples), initial=0) < 0.99


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (Waveform(np.zeros(48000, np.float32), 24000), "seconds of sound"),
        (Waveform(harmonic_tone(150).samples[:4800], 24000), "seconds of sound"),
        (noise(), "holds no voice"),
    ],
)
def test_a_recording_without_a_voice_is_refused(recording, reason):
    with pytest.raises(InvalidAudio, match=reason):
        profile(recording)


def test_conversion_at_another_rate_is_refused():
    voice = profile(harmonic_tone(150))

    with pytest.raises(ValueError, match="16000 Hz"):
        take_on(Waveform(np.zeros(16000, np.float32), 16000), voice, voice)
