from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.utils.audio.coded import speech
from utils.audio.limiter import HOPS_PER_S, Limiter, TruePeaks, gain_curve, hop_length, shape, true_peak, true_peaks

RATE = 24_000


def db(factor):
    return 20 * np.log10(factor)


def heard_peak(samples):
    """By another interpolator, at eight times the rate."""
    return float(np.abs(scipy.signal.resample_poly(np.pad(samples.astype(np.float64), 200), 8, 1)).max())


def limited(samples, ceiling, rate=RATE):
    hop = hop_length(rate)
    return shaped(samples, gain_curve(true_peaks(samples, hop), ceiling, rate / hop), hop)


def shaped(samples, curve, hop):
    made = np.empty_like(samples)
    shape(samples, curve, hop, 1.0, made)
    return made


def sine(hz, phase=0.0, duration_s=1.0, rate=RATE):
    return np.sin(2 * np.pi * hz * np.arange(round(duration_s * rate)) / rate + phase).astype(np.float32)


@pytest.mark.parametrize("hz", [997, 4321, 6000, 7919, 10_000])
@pytest.mark.parametrize("phase", [0.0, np.pi / 4, 1.0])
def test_the_true_peak_of_a_sine_is_its_amplitude(hz, phase):
    faded = sine(hz, phase) * np.hanning(RATE).astype(np.float32) ** 0.25

    assert db(true_peak(faded)) == pytest.approx(0, abs=0.05)


def test_a_peak_between_two_samples_is_seen():
    between = sine(RATE / 4, np.pi / 4)

    assert db(np.abs(between).max()) == pytest.approx(-3.01, abs=0.01)
    assert db(true_peak(between)) == pytest.approx(db(heard_peak(between)), abs=0.05)


def test_the_higher_of_two_crests_counts_even_where_the_lower_one_is_hit_more_squarely():
    at = np.arange(4000) / RATE
    centres = (1000 / RATE, 3000.125 / RATE)  # on a value at four times the rate, and half-way between two
    bursts = [np.exp(-(((at - centre) * 500) ** 2)) * np.cos(2 * np.pi * 8000 * (at - centre)) for centre in centres]
    wave = (0.9 * bursts[0] + 0.93 * bursts[1]).astype(np.float32)

    assert db(true_peak(wave)) == pytest.approx(db(0.93), abs=0.05)


@pytest.mark.parametrize("name", ["male_voice", "female_voice"])
@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_the_true_peak_of_a_voice_is_what_another_interpolator_finds(name, rate):
    samples = speech(rate, 1, name)

    assert db(true_peak(samples)) == pytest.approx(db(heard_peak(samples)), abs=0.05)


def test_the_wave_before_the_first_and_after_the_last_sample_counts():
    square = np.ones(100, np.float32)

    assert true_peaks(square, 12)[[0, -1]].min() > 1.05


def test_nothing_has_no_peak():
    assert true_peak(np.zeros(0, np.float32)) == 0
    assert true_peak(np.zeros(100, np.float32)) == 0


def test_peaks_are_found_in_their_own_hop_across_the_borders_of_transforms():
    samples = np.zeros(60_000, np.float32)
    at = [0, 11, 15_350, 15_360, 15_371, 30_719, 59_999]
    samples[at] = 0.5

    peaks = true_peaks(samples, 12)

    assert len(peaks) == 5000
    assert set(np.flatnonzero(peaks >= 0.499)) == {position // 12 for position in at}


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_the_ceiling_holds_between_the_samples_too(rate):
    loud = 4 * speech(rate, 1)

    held = limited(loud, 0.5, rate)

    assert db(heard_peak(held)) == pytest.approx(db(0.5), abs=0.1)


@pytest.mark.parametrize(
    "samples",
    [
        np.clip(20 * speech(RATE, 1), -1, 1),
        sine(RATE / 4, np.pi / 4),
        np.where(np.arange(RATE) % 2400 == 0, 1, 0).astype(np.float32),
        np.sign(sine(147)),
        (np.arange(RATE) % 6000 < 300) * sine(997),
        np.full(RATE, 0.9, np.float32),
    ],
    ids=["clipped", "between samples", "impulses", "square", "bursts", "direct current"],
)
def test_the_ceiling_holds_for_what_is_hard_to_hold(samples):
    assert db(heard_peak(limited(samples.astype(np.float32), 0.25))) < db(0.25) + 0.1


def test_what_is_below_the_ceiling_is_not_touched():
    samples = speech(RATE, 1)

    curve = gain_curve(true_peaks(samples, 12), 1.5, HOPS_PER_S)

    assert np.array_equal(curve, np.ones(len(curve)))
    assert np.array_equal(shaped(samples, curve, 12), samples)


def test_the_gain_goes_down_before_a_peak_and_comes_back_slowly():
    peaks = np.full(4000, 0.1, np.float32)
    peaks[2000] = 1.0

    taken = 1 - gain_curve(peaks, 0.5, HOPS_PER_S)

    assert taken[2000:2002] == pytest.approx([0.5, 0.5], abs=1e-6)
    assert taken[:1990].max() == 0  # 5 ms before
    assert 0.05 < taken[2100] < 0.25  # 50 ms after
    assert taken[2800:].max() < 1e-3
    assert np.abs(np.diff(taken)).max() < 0.5 * 0.25  # no jump: half a millisecond takes a quarter of it at most


def test_a_limited_tone_gets_no_overtones():
    tone = sine(200) * np.where(np.arange(RATE) < RATE // 2, 0.5, 1.0).astype(np.float32)

    held = limited(tone, 0.5)

    steady = held[RATE * 3 // 4 :] * np.blackman(RATE // 4)
    spectrum = np.abs(np.fft.rfft(steady))
    assert db(spectrum[300:].max() / spectrum.max()) < -60  # above 1200 Hz


def test_the_length_and_the_time_of_the_sound_stay():
    loud = 3 * speech(RATE, 1)[:50_001]

    held = limited(loud, 0.5)

    assert len(held) == len(loud)
    assert held.dtype == np.float32
    shifts = np.correlate(held[10_000:40_000], loud[9_990:40_010], "valid")
    assert np.argmax(shifts) == 10


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 3000),
    hop=st.sampled_from([1, 8, 11, 12, 24]),
    ceiling=st.floats(0.05, 1.0),
    seed=st.integers(0, 1000),
)
def test_no_hop_is_given_more_than_it_may_have(count, hop, ceiling, seed):
    peaks = np.random.default_rng(seed).exponential(0.5, -(-count // hop)).astype(np.float32)

    curve = gain_curve(peaks, ceiling, HOPS_PER_S)

    assert curve.min() > 0
    assert curve.max() <= 1
    assert (peaks * np.maximum(curve[1:], curve[:-1])).max() <= ceiling * (1 + 1e-5)


def test_a_curve_is_the_same_however_long_the_sound_goes_on():
    peaks = np.random.default_rng(1).exponential(0.3, 50_000).astype(np.float32)

    whole, start = gain_curve(peaks, 0.5, HOPS_PER_S), gain_curve(peaks[:20_000], 0.5, HOPS_PER_S)

    assert whole[:19_900] == pytest.approx(start[:19_900], abs=1e-4)


def test_it_can_be_left_at_any_time():
    class Left(Exception):
        pass

    def leave():
        raise Left

    samples = speech(RATE, 1)
    curve = np.ones(len(samples) // 12 + 1, np.float32)
    for work in (
        lambda: true_peaks(samples, 12, leave),
        lambda: gain_curve(samples, 0.1, HOPS_PER_S, leave),
        lambda: shape(samples, curve, 12, 1.0, np.empty_like(samples), leave),
    ):
        with pytest.raises(Left):
            work()


def cut(samples, lengths):
    """The samples in blocks of these lengths, over and over."""
    start, turn = 0, 0
    while start < len(samples):
        yield samples[start : start + lengths[turn % len(lengths)]]
        start += lengths[turn % len(lengths)]
        turn += 1


@pytest.mark.parametrize("count", [1, 11, 12, 13, 500, 15_360, 16_000, 100_003])
@pytest.mark.parametrize("lengths", [[1000], [7, 40_000], [1 << 20]])
@pytest.mark.parametrize("hop", [12, 15_360])
def test_peaks_of_blocks_are_those_of_the_whole(count, lengths, hop):
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    meter = TruePeaks(hop)

    peaks = [*(meter.add(block) for block in cut(samples, lengths)), meter.rest()]

    assert np.array_equal(np.concatenate(peaks), true_peaks(samples, hop))


@pytest.mark.parametrize("count", [1, 13, 5000, 100_003])
@pytest.mark.parametrize("lengths", [[1000], [1, 40_000], [1 << 20]])
@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
def test_blocks_are_limited_as_the_whole_is(count, lengths, rate):
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    samples[count // 3 : count // 2] *= 0.1
    limiter = Limiter(rate, 1, ceiling=0.5, gain=2.0)

    blocks = [*(limiter.add(block) for block in cut(samples[:, np.newaxis], lengths)), limiter.rest()]

    whole = np.concatenate(blocks)[:, 0]
    assert len(whole) == count
    assert np.allclose(whole, limited(2 * samples, 0.5, rate), atol=2e-6)


def test_both_channels_are_limited_by_one_gain():
    left = speech(3)[: 2 * RATE]
    both = np.stack([left / np.abs(left).max(), 0.1 * left / np.abs(left).max()], axis=1).astype(np.float32)
    limiter = Limiter(RATE, 2, ceiling=0.25)

    whole = np.concatenate([limiter.add(both), limiter.rest()])

    assert true_peak(whole[:, 0].copy()) == pytest.approx(0.25, rel=0.01)
    sounding = np.abs(whole[:, 0]) > 1e-3
    assert np.allclose(whole[sounding, 1] / whole[sounding, 0], 0.1, rtol=1e-3)
