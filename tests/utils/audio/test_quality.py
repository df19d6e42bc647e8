from __future__ import annotations

import io
import json

import numpy as np
import pytest

from tests.utils.audio.coded import coded, speech
from utils.audio.analysis import listen
from utils.audio.resample import resample
from utils.audio.waveform import Waveform

RATE = 24_000
VOICES = ["male_voice", "female_voice"]


def judged(samples, rate=RATE, kind="wav 16 bit"):
    quality = listen(io.BytesIO(coded(samples, rate, kind)), 600, judge=True).quality
    assert quality is not None
    json.dumps(quality, allow_nan=False)
    return quality


def says(quality, word):
    return any(word in sentence for sentence in quality["advice"])


def white(count):
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def pink(count):
    """As deep as a voice: what is below it is not counted as noise."""
    lowest = count * 80 // RATE
    spectrum = np.fft.rfft(white(count)) / np.sqrt(np.maximum(lowest, np.arange(count // 2 + 1)))
    spectrum[:lowest] = 0
    samples = np.fft.irfft(spectrum, count)
    return (samples / samples.std()).astype(np.float32)


def band_limited(samples, top_hz, rate=RATE):
    narrow = resample(Waveform(samples, rate), 2 * top_hz)
    return resample(narrow, rate).samples


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("kind", ["wav 16 bit", "wav 64-bit float", "mp3", "m4a", "opus"])
def test_a_clean_recording_is_good_and_needs_no_advice(name, kind):
    quality = judged(speech(times=4, name=name), kind=kind)

    assert quality["rating"] == "good"
    assert quality["advice"] == []
    assert quality["duration"]["fit"] == "good"
    assert quality["snr_db"] > 28
    assert quality["silence_share"] < 0.25
    assert not quality["clipping"]["is_clipped"]


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("noise", [white, pink])
@pytest.mark.parametrize("snr_db", [5, 10, 15, 20, 25, 30])
def test_noise_of_a_known_level_is_heard_within_3_db(name, noise, snr_db):
    voice = speech(times=4, name=name)
    spoken = np.abs(voice) > 0  # its pauses are digital silence
    level = np.sqrt(np.mean(np.square(voice[spoken]))) * 10 ** (-snr_db / 20)

    quality = judged(0.5 * (voice + level * noise(len(voice))))

    assert quality["snr_db"] == pytest.approx(snr_db, abs=3)
    if snr_db != 15 and snr_db != 25:
        assert quality["rating"] == ("poor" if snr_db < 15 else "fair" if snr_db < 25 else "good")
        assert says(quality, "noise") == (snr_db < 25)


def test_noise_in_the_pauses_only_is_heard_through_digital_silence():
    voice = speech(times=4)
    noisy = voice + 0.05 * white(len(voice))
    gaps = np.concatenate([np.zeros(RATE, np.float32), noisy, np.zeros(RATE, np.float32)])

    assert judged(gaps)["snr_db"] == pytest.approx(judged(noisy)["snr_db"], abs=1)


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("level", [1.0, 0.3])
@pytest.mark.parametrize("kind", ["wav 16 bit", "wav 24 bit", "flac"])
def test_clipping_is_found_even_if_it_was_made_softer_later(name, level, kind):
    voice = speech(times=4, name=name)
    clipped = level * np.clip(4 * voice / np.abs(voice).max(), -1, 1)

    quality = judged(clipped, kind=kind)

    assert quality["clipping"]["is_clipped"]
    assert quality["clipping"]["share"] == pytest.approx(np.mean(np.abs(clipped) >= level), rel=0.5)
    assert quality["rating"] == "poor"
    assert says(quality, "overdriven")


def test_one_clipped_channel_is_enough():
    voice = speech(times=4)
    both = np.stack([voice, np.clip(4 * voice / np.abs(voice).max(), -1, 1)], axis=1)

    assert judged(both)["clipping"]["is_clipped"]


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("kind", ["wav 8 bit", "wav 16 bit", "wav 24 bit", "wav 64-bit float", "mp3"])
def test_a_clean_peak_at_full_scale_is_no_clipping(name, kind):
    voice = speech(times=4, name=name)

    assert not judged(voice / np.abs(voice).max(), kind=kind)["clipping"]["is_clipped"]


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
@pytest.mark.parametrize("kind", ["wav 16 bit", "wav 64-bit float"])
def test_a_telephones_band_is_found_at_any_rate(name, rate, kind):
    narrow = band_limited(speech(rate, 4, name), 3400, rate)

    quality = judged(narrow, rate, kind)

    assert quality["bandwidth_hz"] == pytest.approx(3400, abs=300)
    assert quality["rating"] == "poor"
    assert says(quality, "telephone")


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("kind", ["wav 16 bit", "wav 64-bit float"])
def test_material_of_16_khz_is_found_in_a_file_of_48(name, kind):
    quality = judged(speech(48_000, 4, name), 48_000, kind)

    assert quality["bandwidth_hz"] == pytest.approx(8000, abs=400)
    assert quality["rating"] == "good"


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000])
def test_a_full_band_is_found(rate):
    voice = speech(rate, 4)
    sibilant = 0.02 * np.abs(voice) * white(len(voice))

    assert judged(voice + sibilant, rate)["bandwidth_hz"] == pytest.approx(rate / 2, rel=0.05)


@pytest.mark.parametrize(
    ("duration_s", "fit", "best"),
    [
        (1.0, "too short", "poor"),
        (2.9, "too short", "poor"),
        (5.0, "short", "fair"),
        (12.0, "good", "good"),
        (29.0, "good", "good"),
        (31.0, "long", "good"),
        (100.0, "long", "good"),
    ],
)
def test_the_duration_is_judged(duration_s, fit, best):
    quality = judged(speech(times=40)[: round(duration_s * RATE)])

    assert quality["duration"] == {"seconds": duration_s, "fit": fit}
    assert quality["rating"] == best
    assert says(quality, "second") == (fit != "good")


def test_what_comes_after_the_first_minute_is_not_judged():
    voice = speech(times=20)[: 60 * RATE]
    spoilt = np.concatenate([voice, np.clip(100 * white(20 * RATE), -1, 1)])

    quality = judged(spoilt)

    assert quality["clipping"]["share"] == 0
    assert quality["rating"] == "good"


@pytest.mark.parametrize("rate", [8000, 24_000, 48_000])
@pytest.mark.parametrize(
    "make",
    [
        np.zeros,
        lambda count: 0.1 * white(count),
        lambda count: 0.1 * pink(count),
        lambda count: 1e-5 * white(count),
        lambda count: np.full(count, 0.5),
        lambda count: 0.3 * np.sin(np.arange(count) / 24),
        lambda count: np.eye(1, count, count // 2)[0],
    ],
    ids=["silence", "white noise", "pink noise", "next to nothing", "direct current", "hum", "a click"],
)
def test_without_speech_it_is_poor_and_says_so(rate, make):
    quality = judged(np.asarray(make(8 * rate), np.float32), rate)

    assert quality["rating"] == "poor"
    assert says(quality, "No speech")
    assert quality["snr_db"] is None
    assert quality["bandwidth_hz"] is None
    assert quality["silence_share"] == 1


@pytest.mark.parametrize("count", [2400, 2500, 5000])
def test_the_shortest_recordings_can_be_judged(count):
    assert judged(white(count) * 0.1)["rating"] == "poor"


def test_a_quiet_recording_is_told_to_be_louder():
    quality = judged(0.01 * speech(times=4), kind="wav 24 bit")

    assert quality["rating"] == "fair"
    assert quality["loudness_lufs"] < -40
    assert says(quality, "very quiet")


def test_a_recording_that_is_mostly_silent_is_told_to_be_cut():
    quality = judged(np.concatenate([speech(times=2), np.zeros(20 * RATE, np.float32)]))

    assert quality["silence_share"] == pytest.approx(0.8, abs=0.08)
    assert quality["rating"] == "fair"
    assert says(quality, "cut the silence")
