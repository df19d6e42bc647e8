from __future__ import annotations

import numpy as np
import pytest

from engines.embedded import vocoder
from engines.embedded.vocoder import SYNTHESIS_CONTEXT, in_step, lay, windows
from engines.embedded.world import never, profile, take_on
from tests.engines.embedded.conftest import harmonic_tone
from tests.listen.sound import clicks
from utils.audio.waveform import Waveform

STORY = "They went down to the harbour, and nobody said a word until the evening came. " * 5


def described(samples):
    parts = windows(samples)
    contour, times_s = vocoder.contour_of(samples, parts, never)
    envelopes = vocoder.envelopes_of(samples, contour, times_s, never)
    return parts, contour, envelopes, vocoder.aperiodicity_of(samples, contour, times_s, never)


def in_windows(samples, parts, contour, envelopes, aperiodicity):
    whole = np.zeros(len(samples))
    for part in parts:
        wide = part.with_context(SYNTHESIS_CONTEXT)
        lay(whole, part, in_step(part, contour), envelopes[wide].copy(), aperiodicity[wide].copy())
    return whole


@pytest.mark.parametrize("count", [0, 1, 119, 96_000, 96_001, 108_000, 1_000_003])
@pytest.mark.parametrize("size", [0.0, 0.1])
def test_windows_follow_each_other_and_none_is_long(count, size):
    parts = windows(np.random.default_rng(0).normal(0, size, count))

    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == count // 120 + 1
    assert all(part.stop - part.start <= 801 and part.start % 2 == 0 for part in parts)


def test_speech_is_cut_in_its_pauses(speak):
    speech = speak(STORY).samples.astype(np.float64)

    cuts = [part.stop * 120 for part in windows(speech)[:-1]]

    assert len(cuts) > 4
    assert max(np.max(np.abs(speech[cut - 120 : cut + 120])) for cut in cuts) < 0.01


def test_the_contour_in_windows_is_that_of_the_whole(speak):
    import pyworld

    speech = speak(STORY).samples.astype(np.float64)
    whole, times_s = pyworld.dio(speech, 24000, f0_floor=50.0, f0_ceil=600.0, frame_period=5.0, allowed_range=0.2)
    whole = pyworld.stonemask(speech, whole, times_s, 24000)

    contour, own_times_s = vocoder.contour_of(speech, windows(speech), never)

    assert np.allclose(times_s, own_times_s)
    assert np.mean(np.abs(contour - whole) > 1) < 0.005


def test_a_vowel_without_a_pause_sounds_in_windows_as_it_does_whole():
    import pyworld

    vowel = harmonic_tone(130, 14).samples.astype(np.float64)
    parts, contour, envelopes, aperiodicity = described(vowel)
    whole = pyworld.synthesize(contour, envelopes, aperiodicity, 24000, 5.0)[: len(vowel)]

    heard = in_windows(vowel, parts, contour, envelopes, aperiodicity)[: len(whole)]

    assert len(parts) > 3
    for part in parts[:-1]:
        cut = slice(part.stop * 120 - 1200, part.stop * 120 + 1200)
        assert np.sum((heard[cut] - whole[cut]) ** 2) < 0.02 * np.sum(whole[cut] ** 2)


@pytest.mark.parametrize("speech", ["story", "vowel"])
def test_long_speech_with_a_reference_has_no_clicks(speak, speech):
    spoken = speak(STORY) if speech == "story" else harmonic_tone(130, 20)

    heard = take_on(spoken, profile(spoken), profile(harmonic_tone(180)))

    assert heard.duration_s > 15
    inside = Waveform(heard.samples[2400:-2400], 24000)
    assert not [time_s for time_s in clicks(inside) if 0.01 < time_s < inside.duration_s - 0.01]


def test_long_speech_comes_out_the_same_each_time(speak):
    spoken = speak(STORY)
    own, other = profile(spoken), profile(harmonic_tone(180))

    first, second = (take_on(spoken, own, other).samples for _ in range(2))

    assert np.array_equal(first, second)
