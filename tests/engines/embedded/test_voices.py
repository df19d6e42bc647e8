from __future__ import annotations

import itertools

import pytest

from engines.base import Sampling
from engines.embedded.voices import FUNDAMENTALS_HZ, OWN_VOICES, nearest_voice, performance
from tests.engines.embedded.hearing import median_fundamental_hz

OPENAI_NAMES = set("alloy ash ballad coral echo fable marin nova onyx sage shimmer verse cedar".split())


def played(exaggeration=0.5, temperature=0.0, cfg_weight=0.5, seed=1):
    return performance(OWN_VOICES["edgar"], Sampling(exaggeration, temperature, cfg_weight), seed)


def test_the_own_voices_are_told_apart_by_their_pitch(speak):
    fundamentals_hz = sorted(median_fundamental_hz(speak(voice=name)) for name in OWN_VOICES)

    assert len(fundamentals_hz) == 3
    assert all(higher > 1.15 * lower for lower, higher in itertools.pairwise(fundamentals_hz))


def test_the_own_voices_have_plain_names_that_are_not_those_of_openai():
    for name in OWN_VOICES:
        assert name.isascii()
        assert name.isalpha()
        assert name.islower()
        assert name not in OPENAI_NAMES


def test_exaggeration_widens_the_pitch_range_step_by_step():
    ranges = [played(exaggeration=value).pitch_range for value in (0, 0.25, 0.5, 1, 1.5)]

    assert ranges == sorted(set(ranges))


def test_a_lower_cfg_weight_is_a_slower_pace():
    assert played(cfg_weight=0).words_per_minute < played(cfg_weight=0.5).words_per_minute
    assert played(cfg_weight=0.5).words_per_minute < played(cfg_weight=1).words_per_minute


def test_without_temperature_the_seed_moves_neither_pitch_nor_pace():
    def heard(seed):
        told = played(temperature=0, seed=seed)
        return told.pitch, told.pitch_range, told.words_per_minute

    assert len({heard(seed) for seed in range(20)}) == 1


def test_more_temperature_lets_seeds_move_the_pace_further_apart():
    def spread(temperature):
        paces = [played(temperature=temperature, seed=seed).words_per_minute for seed in range(30)]
        return max(paces) - min(paces)

    assert 0 < spread(0.4) < spread(0.8) < spread(1.6)


@pytest.mark.parametrize("sampling", [Sampling(-5, -5, -5), Sampling(100, 100, 100)])
@pytest.mark.parametrize("seed", [0, -1, 2**64])
def test_no_sampling_leaves_what_espeak_takes(sampling, seed):
    for voice in OWN_VOICES.values():
        told = performance(voice, sampling, seed)

        assert 0 <= told.pitch <= 99
        assert 0 <= told.pitch_range <= 99
        assert 80 <= told.words_per_minute <= 450
        assert 0 < told.seed < 2**31


@pytest.mark.parametrize("fundamental_hz", [90, 120, 145, 170, 210, 250])
def test_a_reference_is_spoken_by_a_voice_that_is_near_it(fundamental_hz):
    voice = nearest_voice(fundamental_hz)
    known_hz = FUNDAMENTALS_HZ[voice.variant]

    assert 20 <= voice.pitch <= 75
    assert known_hz[0] < fundamental_hz < known_hz[-1]


@pytest.mark.parametrize("fundamental_hz", [40, 75, 380, 600])
def test_a_reference_outside_every_voice_gets_one_that_is_still_understood(fundamental_hz):
    assert nearest_voice(fundamental_hz).pitch in (20, 75)
