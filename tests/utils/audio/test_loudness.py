from __future__ import annotations

import time

import numpy as np
import pyloudnorm
import pytest

from tests.utils.audio.coded import speech
from utils.audio.loudness import LoudnessMeter


def measured(samples, rate, block=65_536):
    meter = LoudnessMeter(rate, 1 if samples.ndim == 1 else samples.shape[1])
    for start in range(0, len(samples), block):
        meter.add(samples[start : start + block])
    return meter.integrated_lufs


def noise(rate, duration_s=4.0):
    return (0.1 * np.random.default_rng(0).standard_normal(round(duration_s * rate))).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("make", [speech, noise])
def test_it_agrees_with_an_independent_meter_at_every_rate(rate, make):
    samples = make(rate)

    assert measured(samples, rate) == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(samples), abs=0.05)


def test_at_48_khz_it_is_the_standard_to_its_last_digit():
    samples = speech(48_000)

    standard = pyloudnorm.Meter(48_000, filter_class="DeMan").integrated_loudness(samples)

    assert measured(samples, 48_000) == pytest.approx(standard, abs=1e-3)


def test_silent_channels_and_stretches_of_digital_silence_count_as_what_they_are():
    voice = np.concatenate([np.zeros(500_000, np.float32), speech(48_000), np.zeros(400_000, np.float32)])
    among_silent_ones = np.zeros((len(voice), 8), np.float32)
    among_silent_ones[:, 5] = voice

    assert measured(among_silent_ones, 48_000) == pytest.approx(measured(voice, 48_000), abs=1e-6)
    assert measured(voice, 48_000) == pytest.approx(pyloudnorm.Meter(48_000).integrated_loudness(voice), abs=0.05)


def test_a_full_scale_sine_of_997_hz_is_at_minus_3_01():
    sine = np.sin(2 * np.pi * 997 * np.arange(96_000) / 48_000).astype(np.float32)

    assert measured(sine, 48_000) == pytest.approx(-3.01, abs=0.005)


def test_two_channels_are_summed():
    left, right = noise(24_000), 0.3 * np.roll(noise(24_000), 7)
    both = np.stack([left, right], axis=1)

    assert measured(both, 24_000) == pytest.approx(pyloudnorm.Meter(24_000).integrated_loudness(both), abs=0.05)
    assert measured(np.stack([left, left], axis=1), 24_000) == pytest.approx(measured(left, 24_000) + 3.01, abs=0.01)


def test_pauses_are_gated_out():
    spoken = speech()
    with_pauses = np.concatenate([np.zeros(240_000, np.float32), spoken, 1e-3 * noise(24_000, 10.0)])

    assert measured(with_pauses, 24_000) == pytest.approx(measured(spoken, 24_000), abs=0.2)


@pytest.mark.parametrize("rate", [11_025, 24_000])
def test_the_length_of_the_blocks_changes_nothing(rate):
    samples = speech(rate)

    results = [measured(samples, rate, block) for block in (700, 4999, rate // 10, len(samples))]

    assert results == pytest.approx([results[0]] * 4, abs=1e-4)


def test_reading_the_meter_does_not_disturb_it():
    samples, meter = speech(), LoudnessMeter(24_000)

    meter.add(samples[:30_001])
    early = meter.integrated_lufs
    meter.add(samples[30_001:])

    assert early == pytest.approx(measured(samples[:30_001], 24_000))
    assert meter.integrated_lufs == pytest.approx(measured(samples, 24_000))


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.zeros(48_000, np.float32), noise(24_000, 0.39), 1e-4 * noise(24_000)]
)
def test_what_is_silent_or_shorter_than_a_gating_block_has_no_loudness(samples):
    assert measured(samples, 24_000) is None


def test_it_costs_less_than_two_milliseconds_a_second():
    samples = np.tile(noise(48_000), 5)
    costs_s = []

    for _ in range(3):
        began = time.thread_time()
        measured(samples, 48_000)
        costs_s.append(time.thread_time() - began)

    assert min(costs_s) / 20 < 0.002
