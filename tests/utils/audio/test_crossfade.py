from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from tests.listen import clicks
from tests.utils.audio.test_join import RATE, tone
from utils.audio.crossfade import CrossfadeJoin, crossfade
from utils.audio.waveform import Waveform


def noise(duration_s, seed):
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * RATE))
    return Waveform(samples.astype(np.float32), RATE)


def cut(waveform, bounds):
    return [Waveform(waveform.samples[start:end], RATE) for start, end in bounds]


def joined(windows, count, overlap):
    """What comes out window by window, once it has been held against the whole."""
    join = CrossfadeJoin(count, overlap, RATE)
    pieces = [join.add(window).samples.copy() for window in windows]
    assert join.is_whole
    np.testing.assert_array_equal(np.concatenate(pieces), join.joined.samples)
    return join.joined


def test_different_sounds_keep_their_power_where_they_meet():
    overlap = RATE // 2

    both = crossfade(noise(1, seed=1), noise(1, seed=2), overlap)

    power = np.mean(both.samples[overlap:-overlap] ** 2)
    assert len(both.samples) == 2 * RATE - overlap
    assert power == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("overlap_s", [0.0, 0.01, 0.1])
def test_windows_of_one_sound_meet_without_a_click_and_lose_nothing(overlap_s):
    overlap = round(overlap_s * RATE)
    whole = tone(2.0)
    starts = [0, 11_000, 25_000, len(whole.samples) - overlap]
    windows = cut(whole, [(start, end + overlap) for start, end in pairwise(starts)])

    again = joined(windows, len(whole.samples), overlap)

    assert [time for time in clicks(again) if 0.01 < time < 1.99] == []
    np.testing.assert_array_equal(again.samples[:11_000], whole.samples[:11_000])


def test_windows_that_overlap_more_than_once_are_joined_as_well():
    whole = tone(1.0)
    bounds = [(start, start + 6000) for start in range(0, len(whole.samples) - 6000 + 1, 2000)]

    again = joined(cut(whole, bounds), len(whole.samples), overlap=4000)

    assert np.abs(again.samples).min(where=np.abs(whole.samples) > 0.3, initial=1) > 0.25


def test_what_is_loud_in_both_is_held_at_full_scale():
    loud = Waveform(np.full(1000, 0.9, np.float32), RATE)

    assert np.abs(crossfade(loud, loud, 500).samples).max() == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="overlap of 30"):
        crossfade(tone(0.001), tone(0.1), 30)
    with pytest.raises(ValueError, match="8000 Hz"):
        crossfade(tone(0.1), Waveform(tone(0.1).samples, 8000), 30)


def test_a_window_is_joined_without_a_copy_of_it():
    window = noise(60, 1)
    join = CrossfadeJoin(2 * len(window.samples) - 2400, 2400, RATE)
    join.add(window)
    tracemalloc.start()

    join.add(window)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert join.is_whole
    assert peak_bytes < window.samples.nbytes / 4
