from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.engines.speech import say
from tests.utils.audio.test_join import tone
from utils.audio.trim import Trim, edges, trimmed
from utils.audio.waveform import Waveform

RATE = 24_000
STEP = RATE // 200
SENTENCES = (Path(__file__).parents[2] / "data" / "readme_sentences.txt").read_text(encoding="utf-8").split("\n")[:10]
THRESHOLD_MS, KEPT_MS = 200.0, 50.0


@dataclass(frozen=True)
class Clip:
    """Sound put into silence or noise: where it was put, and within that what stands clear of the noise.

    Speech begins and ends softly. Whether the part between the two marks is heard is anyone's opinion; that nothing
    clear is cut and nothing before what was put in is kept is not.
    """

    waveform: Waveform
    put_at: tuple[int, int]
    clear: tuple[int, int]

    def silences(self) -> tuple[int, int]:
        return self.put_at[0], len(self.waveform.samples) - self.put_at[1]


def levels_db(samples):
    return 10 * np.log10(np.square(samples[: len(samples) // STEP * STEP].reshape(-1, STEP)).mean(axis=1) + 1e-12)


def vowel(rng):
    times_s = np.arange(round(rng.uniform(0.3, 2) * RATE)) / RATE
    phase = 2 * np.pi * rng.uniform(90, 300) * times_s
    sound = sum(np.sin(k * phase + k) / k for k in range(1, 12))
    sound[:STEP] *= np.linspace(0, 1, STEP)
    sound[-STEP:] *= np.linspace(1, 0, STEP)
    return sound


def speech(rng):
    """A sentence from where it comes within 45 dB of its loud parts to where it leaves that."""
    samples = say(SENTENCES[rng.integers(10)], str(rng.choice(["clara", "edgar"]))).samples.astype(np.float64)
    levels = levels_db(samples)
    audible = np.flatnonzero(levels > np.percentile(levels, 95) - 45)
    return samples[audible[0] * STEP : (audible[-1] + 1) * STEP]


def noise(rng, count, floor_db):
    """White, or sloping down by 3 dB an octave above 10 Hz or so, as rooms do."""
    samples = rng.standard_normal(count)
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(samples)
        samples = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), count)
    return samples / samples.std() * 10 ** (floor_db / 20)


def hum(count):
    times_s = np.arange(count) / RATE
    mains = sum(share * np.sin(2 * np.pi * hz * times_s) for hz, share in ((50, 1.0), (100, 0.4), (150, 0.2)))
    return 10 ** (-35 / 20) * mains


@cache
def clip(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    sound = vowel(rng) if seed % 4 == 0 else speech(rng)
    sound *= rng.uniform(0.3, 0.9) / np.abs(sound).max()
    start, after = (round(silence_s * RATE) for silence_s in rng.uniform(0, 2, 2))
    samples = np.concatenate([np.zeros(start), sound, np.zeros(after)])
    floor_db = rng.choice([-np.inf, -70, -60, -50, -45, -40, -35])
    heard_db = floor_db
    samples += noise(rng, len(samples), floor_db)
    kind = rng.integers(4)
    if kind == 1:
        samples += hum(len(samples))
        heard_db = max(floor_db, -47)  # what is left of it above 100 Hz
    end = start + len(sound)
    if kind == 2:
        for first, last in ((0, start - RATE // 5), (end + RATE // 5, len(samples) - 200)):
            if last > first:
                samples[rng.integers(first, last) :][:96] += 0.4 * np.exp(-np.arange(96) / 24)
    levels = levels_db(sound)
    is_clear = np.flatnonzero(levels > max(np.percentile(levels, 95) - 40, heard_db + 3))
    clear = start + is_clear[0] * STEP, start + (is_clear[-1] + 1) * STEP
    return Clip(Waveform(samples.astype(np.float32), RATE), (start, end), clear)


def distance_ms(value, low, high):
    return (min(0, value - low) + max(0, value - high)) * 1000 / RATE


@pytest.mark.parametrize("seed", range(200))
def test_fifty_milliseconds_are_kept_of_an_edge_that_is_longer(seed):
    made = clip(seed)

    result = trimmed(made.waveform, THRESHOLD_MS, KEPT_MS)

    kept = round(KEPT_MS * RATE / 1000)
    first, last = round(result.start_s * RATE), len(made.waveform.samples) - round(result.end_s * RATE)
    np.testing.assert_array_equal(result.waveform.samples, made.waveform.samples[first:last])
    before, after = made.silences()
    if before > 0.25 * RATE:
        assert abs(distance_ms(first + kept, made.put_at[0], made.clear[0])) <= 20
    if after > 0.25 * RATE:
        assert abs(distance_ms(last - kept, made.clear[1], made.put_at[1])) <= 20
    assert first <= made.clear[0]
    assert last >= made.clear[1]


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_an_edge_that_is_not_longer_is_untouched(seed):
    made = clip(seed)

    result = trimmed(made.waveform, threshold_ms=2100)

    assert result.waveform is made.waveform
    assert (result.start_s, result.end_s) == (0.0, 0.0)


def test_what_must_be_kept_can_be_more_than_the_threshold():
    made = clip(1)

    result = trimmed(made.waveform, threshold_ms=50, kept_ms=300)

    assert made.put_at[0] / RATE - result.start_s == pytest.approx(min(0.3, made.put_at[0] / RATE), abs=0.02)


@pytest.mark.parametrize("floor_db", [-90, -60, -35, -20])
def test_a_recording_of_nothing_but_a_room_comes_back_whole(floor_db):
    room = Waveform(noise(np.random.default_rng(1), 2 * RATE, floor_db).astype(np.float32), RATE)

    assert trimmed(room, THRESHOLD_MS).waveform is room


@pytest.mark.parametrize("count", [0, 1, 100, 479, 480, RATE // 10, 3 * RATE])
def test_silence_of_any_length_comes_back_whole(count):
    silence = Waveform(np.zeros(count, np.float32), RATE)

    assert trimmed(silence, THRESHOLD_MS).waveform is silence


def test_a_tenth_of_a_second_survives():
    short = tone(0.1)

    assert trimmed(short, THRESHOLD_MS).waveform is short


def test_sound_without_a_pause_is_not_taken_for_noise():
    steady = tone(3.0)
    hiss = Waveform(0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32), RATE)

    assert edges(steady) == (0, len(steady.samples))
    assert edges(hiss) == (0, len(hiss.samples))


@pytest.mark.parametrize("softer_db", [25, 35, 45])
def test_a_soft_fricative_before_the_first_vowel_is_speech(softer_db):
    rng = np.random.default_rng(3)
    sound = vowel(rng) * 0.1
    hiss = np.diff(rng.standard_normal(RATE // 5 + 1))
    hiss *= np.sqrt(np.mean(sound**2)) * 10 ** (-softer_db / 20) / hiss.std()
    samples = np.concatenate([np.zeros(RATE), hiss, sound, np.zeros(RATE)]).astype(np.float32)

    start, end = edges(Waveform(samples, RATE))

    assert start == pytest.approx(RATE, abs=0.02 * RATE)
    assert end == pytest.approx(len(samples) - RATE, abs=0.02 * RATE)


def test_the_burst_that_ends_a_word_is_kept_and_a_click_far_away_is_not():
    rng = np.random.default_rng(4)
    burst = 0.02 * rng.standard_normal(round(0.03 * RATE))
    closure = np.zeros(round(0.1 * RATE))
    samples = np.concatenate([np.zeros(RATE), 0.1 * vowel(rng), closure, burst, np.zeros(RATE)])
    ends_at = len(samples) - RATE
    samples[-RATE // 2 :][:50] = 0.5

    _, end = edges(Waveform(samples.astype(np.float32), RATE))

    assert end == pytest.approx(ends_at, abs=0.02 * RATE)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_other_sample_rates_are_trimmed_alike(rate):
    sound = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 2) / rate)

    result = trimmed(Waveform(np.pad(sound, rate).astype(np.float32), rate), THRESHOLD_MS)

    assert result.waveform.duration_s == pytest.approx(0.6, abs=0.03)
    assert result.start_s == pytest.approx(0.95, abs=0.02)


def test_a_short_word_in_much_silence_is_found():
    samples = np.zeros(8 * RATE, np.float32)
    samples[4 * RATE :][: round(0.15 * RATE)] = tone(0.15).samples
    noisy = samples + noise(np.random.default_rng(5), len(samples), -50).astype(np.float32)

    for recording in (samples, noisy):
        start, end = edges(Waveform(recording, RATE))
        assert start == pytest.approx(4 * RATE, abs=0.02 * RATE)
        assert end == pytest.approx(4.15 * RATE, abs=0.02 * RATE)


def test_it_takes_next_to_no_time():
    minute = Waveform(np.concatenate([clip(seed).waveform.samples for seed in range(15)])[: 60 * RATE], RATE)
    edges(minute)

    started_s = time.thread_time()
    edges(minute)

    assert time.thread_time() - started_s < 0.005 * minute.duration_s  # measured 0.0005 to 0.001, on a busy machine


# While it comes


def spoken(before_s: float, after_s: float, gain: float = 1.0) -> Waveform:
    """Two sentences with a second between them, and digital silence around them."""
    silences = [np.zeros(round(silence_s * RATE), np.float32) for silence_s in (before_s, 1.0, after_s)]
    first, second = (np.trim_zeros(say(sentence, "edgar").samples) * np.float32(gain) for sentence in SENTENCES[:2])
    return Waveform(np.concatenate([silences[0], first, silences[1], second, silences[2]]), RATE)


def while_it_comes(whole: Waveform, size: int) -> tuple[list[np.ndarray], Trim]:
    trim = Trim(RATE, THRESHOLD_MS)
    pieces = [whole.samples[start : start + size] for start in range(0, len(whole.samples), size)]
    return [*map(trim.add, pieces), trim.finish()], trim


@pytest.mark.parametrize("gain", [1.0, 0.005])
@pytest.mark.parametrize(("before_s", "after_s"), [(0.0, 0.0), (0.1, 0.1), (1.5, 0.7), (0.7, 14.0)])
def test_while_it_comes_the_same_is_cut_as_when_it_is_whole(before_s: float, after_s: float, gain: float) -> None:
    whole = spoken(before_s, after_s, gain)

    for size in (240, 4799, len(whole.samples)):
        parts, trim = while_it_comes(whole, size)
        cut = trimmed(whole, THRESHOLD_MS)
        np.testing.assert_array_equal(np.concatenate(parts), cut.waveform.samples)
        assert (trim.start_s, trim.end_s) == pytest.approx((cut.start_s, cut.end_s))


@pytest.mark.parametrize("seed", range(60))
def test_the_sizes_of_the_pieces_change_nothing(seed: int) -> None:
    whole = clip(seed).waveform

    joined = [np.concatenate(while_it_comes(whole, size)[0]) for size in (331, 4800, len(whole.samples))]

    np.testing.assert_array_equal(joined[0], joined[2])
    np.testing.assert_array_equal(joined[1], joined[2])


def test_speech_leaves_soon_after_it_came_and_a_pause_when_it_is_over() -> None:
    parts, _ = while_it_comes(spoken(1.0, 0.0), 240)

    gone = np.cumsum([len(part) for part in parts]) / RATE
    came = np.minimum(np.arange(1, len(parts) + 1) * 240, len(spoken(1.0, 0.0).samples)) / RATE - 0.95
    assert gone[147] == 0
    assert gone[152] > 0.4
    assert (came - gone).max() < 1.6


def test_a_long_stream_is_not_kept() -> None:
    trim = Trim(RATE, THRESHOLD_MS)
    sound = say(SENTENCES[0], "edgar").samples

    for _ in range(30):
        trim.add(sound)

    assert len(trim._held) < 15 * RATE


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(1), np.zeros(3 * RATE), np.full(2400, 0.1)])
def test_where_nothing_is_to_be_told_all_stays(samples: np.ndarray) -> None:
    parts, _ = while_it_comes(Waveform(samples.astype(np.float32), RATE), 480)

    assert len(np.concatenate(parts)) == len(samples)
