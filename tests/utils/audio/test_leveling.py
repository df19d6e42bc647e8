from __future__ import annotations

import io
import json
import time
import tracemalloc

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import listen
from tests.utils.audio.coded import speech
from utils.audio.leveling import MOST_GAIN_DB, normalized
from utils.audio.waveform import Waveform

RATE = 24_000
RATES = [16_000, 22_050, 24_000, 44_100, 48_000]
VOICES = ["male_voice", "female_voice"]


def leveled(samples, rate=RATE, *, method="ebu", level=-24.0, tp=-2.0, lra=7.0, check=lambda: None):
    waveform = Waveform(np.asarray(samples, np.float32), rate)
    return normalized(waveform, method=method, level=level, true_peak_dbtp=tp, lra=lra, check=check)


def true_peak_dbtp(samples):
    """By another interpolator, at eight times the rate."""
    fine = scipy.signal.resample_poly(np.pad(samples.astype(np.float64), 200), 8, 1)
    return 20 * np.log10(np.abs(fine).max())


def range_lu(samples, rate=RATE):
    return pyloudnorm.Meter(rate).loudness_range(samples.astype(np.float64))


def both_voices(duration_s, rate=RATE):
    said = np.concatenate([speech(rate, 1, name) for name in VOICES])
    return np.tile(said, 1 + round(duration_s * rate) // len(said))[: round(duration_s * rate)]


def alternating(step_db, every_s, duration_s=45.0):
    """Speech that is so much quieter in every other stretch."""
    samples = 0.3 * both_voices(duration_s)
    is_quiet = np.arange(len(samples)) // round(every_s * RATE) % 2 == 1
    return (samples * np.where(is_quiet, 10 ** (-step_db / 20), 1)).astype(np.float32)


@pytest.mark.parametrize("level", [-30, -24, -16, -14])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", VOICES)
def test_a_voice_comes_out_at_the_level_that_another_meter_hears(name, rate, level):
    done = leveled(speech(rate, 2, name), rate, level=level)

    assert listen.loudness_lufs(done.waveform) == pytest.approx(level, abs=0.4)
    assert done.loudness_lufs == pytest.approx(listen.loudness_lufs(done.waveform), abs=0.1)


@pytest.mark.parametrize("level", [-24, -16])
@pytest.mark.parametrize("gain_db", [-25, -12, 6])
def test_how_loud_it_was_does_not_matter(gain_db, level):
    done = leveled(speech(RATE, 2) * 10 ** (gain_db / 20), level=level)

    if done.gain_db < MOST_GAIN_DB - 3:
        assert listen.loudness_lufs(done.waveform) == pytest.approx(level, abs=0.1)
        assert done.notes == []


@pytest.mark.parametrize("tp", [-9.0, -2.0, 0.0])
@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("rate", RATES)
def test_no_true_peak_is_above_the_ceiling(name, rate, tp):
    done = leveled(speech(rate, 2, name), rate, level=-14, tp=tp)

    assert done.is_limited
    assert true_peak_dbtp(done.waveform.samples) < tp + 0.1
    assert done.true_peak_dbtp == pytest.approx(true_peak_dbtp(done.waveform.samples), abs=0.1)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_the_ceiling_holds_in_the_file(subtype):
    done, file = leveled(speech(RATE, 2), level=-14, tp=-1), io.BytesIO()

    soundfile.write(file, done.waveform.samples, RATE, subtype, format="WAV")

    assert true_peak_dbtp(listen.read(file.getvalue()).samples) < -1 + 0.1


N = np.arange(2 * RATE)
HARD = {
    "clipped": np.clip(20 * speech(RATE, 2), -1, 1),
    "impulses": np.where(N % 4801 == 0, 1.0, 0.0),
    "between samples": np.sin(np.pi / 2 * N + np.pi / 4),
    "a click in a soft voice": np.where(np.arange(2 * len(speech(RATE, 1))) == 20_000, 1.0, 0.1 * speech(RATE, 2)),
    "square": np.sign(np.sin(0.031 * N)),
    "direct current": np.full(len(N), 0.5),
    "a voice on direct current": 0.5 + 0.3 * speech(RATE, 2),
    "above full scale": 5 * speech(RATE, 2),
    "bursts": np.sin(0.1 * N) * (N % 6000 < 300),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize(("level", "tp"), [(-24, -2), (-14, -2), (-14, -9), (0, 0)])
def test_the_ceiling_holds_for_what_is_hard_to_hold(kind, level, tp):
    done = leveled(HARD[kind], level=level, tp=tp)

    samples = done.waveform.samples
    assert true_peak_dbtp(samples) < tp + 0.1
    assert samples.dtype == np.float32
    assert len(samples) == len(HARD[kind])
    assert np.isfinite(samples).all()


def test_where_nothing_is_near_the_ceiling_it_is_one_gain_and_nothing_else():
    samples = speech(RATE, 4)

    done = leveled(samples, level=-24)

    assert not done.is_limited
    assert np.allclose(done.waveform.samples, samples * 10 ** (done.gain_db / 20), rtol=0, atol=1e-7)


def test_a_limited_voice_says_the_same_at_the_same_time():
    samples = speech(RATE, 2)

    limited = leveled(samples, level=-16).waveform.samples

    likeness = np.correlate(limited[20_000:100_000], samples[19_900:100_100], "valid")
    assert np.argmax(likeness) == 100
    assert np.corrcoef(limited, samples)[0, 1] > 0.9
    assert np.array_equal(np.sign(limited), np.sign(samples))


def test_what_is_out_of_reach_without_heavy_limiting_is_said():
    done = leveled(speech(RATE, 2), level=-8, tp=-3)

    assert "heavy limiting" in " ".join(done.notes)
    assert -16 < listen.loudness_lufs(done.waveform) < -8.5
    assert f"{done.loudness_lufs:.1f} LUFS" in " ".join(done.notes)


def test_limiting_within_reason_needs_no_note():
    assert leveled(speech(RATE, 2), level=-16).notes == []
    assert leveled(speech(RATE, 2, "female_voice"), level=-14).notes == []


@pytest.mark.parametrize("method", ["ebu", "peak"])
@pytest.mark.parametrize("count", [0, 1, 100, RATE * 5])
def test_silence_stays_silence_and_says_so(count, method):
    done = leveled(np.zeros(count), method=method)

    assert np.array_equal(done.waveform.samples, np.zeros(count))
    assert "silent" in " ".join(done.notes)
    assert done.loudness_lufs is None


def test_faint_noise_is_not_made_louder():
    faint = 1e-4 * np.random.default_rng(0).standard_normal(5 * RATE)

    done = leveled(faint, level=-14)

    assert np.allclose(done.waveform.samples, faint, rtol=0, atol=1e-9)
    assert "-70 LUFS" in " ".join(done.notes)


def test_a_room_without_a_voice_gets_a_bounded_gain():
    room = 1e-3 * np.random.default_rng(0).standard_normal(5 * RATE)

    done = leveled(room, level=-14)

    assert done.gain_db == MOST_GAIN_DB
    assert listen.loudness_lufs(done.waveform) < -25
    assert f"got {MOST_GAIN_DB:g}" in " ".join(done.notes)


@pytest.mark.parametrize("count", [240, 2400, 9000])
def test_a_clip_shorter_than_a_gating_block_is_as_loud_as_its_mean(count):
    clip = speech(RATE, 1)[6000 : 6000 + count]

    done = leveled(clip, level=-24)

    assert listen.loudness_lufs(done.waveform) == pytest.approx(-24, abs=0.6)


@pytest.mark.parametrize("count", [1, 2, 7, 100, 2400])
@pytest.mark.parametrize("method", ["ebu", "peak"])
def test_tiny_clips_survive(count, method):
    done = leveled(0.5 * np.ones(count), method=method, level=-20)

    assert len(done.waveform.samples) == count
    assert 0 < np.abs(done.waveform.samples).max() <= 1


@pytest.mark.parametrize("level", [-70.0, -24.0, -3.0, 0.0])
@pytest.mark.parametrize("samples", [speech(RATE, 1), 1e-3 * speech(RATE, 1), 3 * speech(RATE, 1)])
def test_peak_brings_the_largest_sample_to_the_level_and_nothing_else(samples, level):
    done = leveled(samples, method="peak", level=level, tp=-9, lra=1)

    assert listen.peak_dbfs(done.waveform) == pytest.approx(level, abs=1e-4)
    assert listen.peak_dbfs(done.waveform) <= level + 1e-5
    scale = np.abs(done.waveform.samples).max() / np.abs(samples).max()
    assert np.allclose(done.waveform.samples, samples * scale, rtol=0, atol=1e-7)
    assert done.notes == []


@pytest.mark.parametrize(("step_db", "every_s", "lra"), [(12, 5, 7), (12, 10, 7), (15, 6, 7), (12, 10, 4), (15, 9, 7)])
def test_loud_and_quiet_stretches_come_closer(step_db, every_s, lra):
    samples = alternating(step_db, every_s)

    done = leveled(samples, lra=lra)

    assert range_lu(samples) > lra + 3
    assert range_lu(done.waveform.samples) < lra + 0.5
    assert done.lra_before_lu == pytest.approx(range_lu(samples), abs=0.5)
    assert done.lra_after_lu == pytest.approx(range_lu(done.waveform.samples), abs=0.5)
    assert listen.loudness_lufs(done.waveform) == pytest.approx(-24, abs=0.1)


def test_the_range_is_narrowed_without_touching_syllables():
    samples = alternating(12, 10)

    done = leveled(samples, level=-30).waveform.samples

    at = np.flatnonzero(np.abs(samples) > 1e-3)
    gains_db = 20 * np.log10(done[at] / samples[at])
    beside = np.searchsorted(at, at + RATE // 10).clip(max=len(at) - 1)
    near = at[beside] - at < RATE // 8
    assert np.abs(gains_db[beside] - gains_db)[near].max() < 0.8  # in a tenth of a second
    assert np.ptp(gains_db) > 4


@pytest.mark.parametrize("lra", [5.0, 7.0, 20.0])
def test_a_range_that_is_narrow_enough_is_left(lra):
    samples = 0.3 * both_voices(30)

    done = leveled(samples, lra=lra)

    assert done.lra_before_lu == done.lra_after_lu
    assert np.allclose(done.waveform.samples, samples * 10 ** (done.gain_db / 20), rtol=0, atol=1e-7)


def test_pauses_are_no_reason_to_change_the_voice():
    with_pauses = np.tile(np.concatenate([speech(RATE, 1), np.zeros(4 * RATE)]), 8)

    done = leveled(with_pauses)

    assert done.lra_before_lu > 7.5
    assert np.allclose(done.waveform.samples, with_pauses * 10 ** (done.gain_db / 20), rtol=0, atol=1e-7)
    assert "loudness range" in " ".join(done.notes)


def test_under_ten_seconds_there_is_no_range_to_narrow():
    done = leveled(alternating(15, 4, 9.0))

    assert done.lra_before_lu is None
    assert done.lra_after_lu is None


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 30_000),
    rate=st.sampled_from([8000, 22_050, 24_000, 48_000]),
    loudness_db=st.floats(-100, 20),
    level=st.floats(-70, 0),
    tp=st.floats(-9, 0),
    kind=st.sampled_from(["voice", "sine", "steps"]),
    method=st.sampled_from(["ebu", "peak"]),
)
def test_whatever_comes_in_is_given_back_whole_and_finite(count, rate, loudness_db, level, tp, kind, method):
    shapes = {
        "voice": lambda n: np.resize(speech(RATE, 1), len(n)),
        "sine": lambda n: np.sin(0.3 * n),
        "steps": lambda n: np.sign(np.sin(0.01 * n)),
    }
    samples = (shapes[kind](np.arange(count)) * 10 ** (loudness_db / 20)).astype(np.float32)

    done = leveled(samples, rate, method=method, level=level, tp=tp)

    result = done.waveform.samples
    assert (len(result), done.waveform.sample_rate, result.dtype) == (count, rate, np.float32)
    assert np.isfinite(result).all()
    json.dumps(done.about(), allow_nan=False)
    if method == "ebu" and done.gain_db:
        assert done.gain_db <= MOST_GAIN_DB + 1e-6
        assert np.abs(result).max(initial=0) <= 10 ** ((tp + 0.1) / 20)


def test_the_same_sound_gives_the_same_samples_and_is_not_written_to():
    samples = speech(RATE, 2)
    samples.flags.writeable = False

    first, second = (leveled(samples, level=-15).waveform.samples for _ in range(2))

    assert np.array_equal(first, second)
    assert not np.shares_memory(first, samples)


def test_what_it_tells_of_itself_is_json():
    about = json.loads(json.dumps(leveled(alternating(12, 5, 20.0), level=-16).about(), allow_nan=False))

    assert about["loudness_lufs"] == pytest.approx(-16, abs=0.1)
    assert about["true_peak_dbtp"] <= -2
    assert about["is_limited"] is True
    assert about["lra_before_lu"] > about["lra_after_lu"]


def test_it_can_be_left_between_short_pieces_of_work():
    samples = alternating(12, 10, 120.0)
    gaps_s, last = [], time.thread_time()

    def check():
        nonlocal last
        now = time.thread_time()
        gaps_s.append(now - last)
        last = now

    leveled(samples, level=-16, check=check)

    assert max(gaps_s) < 0.2


def test_it_needs_little_more_memory_than_its_result():
    samples = alternating(12, 10, 300.0)

    tracemalloc.start()
    leveled(samples, level=-16)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 2 * samples.nbytes  # beside what came in


@pytest.mark.parametrize(("level", "most_s"), [(-24, 0.006), (-16, 0.01)])
def test_it_takes_less_than_a_hundredth_of_the_time_it_lasts(level, most_s):
    samples, costs_s = speech(RATE, 20), []

    for _ in range(3):
        began = time.thread_time()
        leveled(samples, level=level)
        costs_s.append(time.thread_time() - began)

    assert min(costs_s) / (len(samples) / RATE) < most_s
