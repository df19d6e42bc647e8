from __future__ import annotations

import numpy as np
import pytest

from utils.audio.join import edge_silence, with_pauses
from utils.audio.waveform import Waveform

RATE = 24_000


def tone(duration_s: float, silence_before_s: float = 0.0, silence_after_s: float = 0.0) -> Waveform:
    time_s = np.arange(round(duration_s * RATE)) / RATE
    sound = (0.5 * np.sin(2 * np.pi * 440 * time_s + 1)).astype(np.float32)
    before, after = (np.zeros(round(s * RATE), np.float32) for s in (silence_before_s, silence_after_s))
    return Waveform(np.concatenate([before, sound, after]), RATE)


def gap_s(joined: Waveform) -> float:
    """The longest stretch without sound."""
    loud = np.flatnonzero(np.abs(joined.samples) > 0.002)
    return float(np.diff(loud).max() / RATE)


def test_a_pause_is_put_between_chunks_that_end_at_once() -> None:
    joined = with_pauses([tone(0.5), tone(0.5)], [300])

    assert joined.duration_s == pytest.approx(1.3, abs=0.002)
    assert gap_s(joined) == pytest.approx(0.3, abs=0.01)


def test_silence_that_an_engine_left_counts_as_part_of_the_pause() -> None:
    joined = with_pauses([tone(0.5, silence_after_s=0.2), tone(0.5, silence_before_s=0.05)], [300])

    assert gap_s(joined) == pytest.approx(0.3, abs=0.01)


def test_a_longer_silence_of_the_engine_is_kept_whole() -> None:
    joined = with_pauses([tone(0.5, silence_after_s=0.8), tone(0.5)], [300])

    assert gap_s(joined) == pytest.approx(0.8, abs=0.01)


def test_a_chunk_that_breaks_off_loudly_makes_no_click() -> None:
    joined = with_pauses([tone(0.5), tone(0.5)], [300])

    steepest_of_the_tone = 0.5 * 2 * np.pi * 440 / RATE
    assert float(np.abs(np.diff(joined.samples)).max()) < 1.2 * steepest_of_the_tone


def test_one_chunk_comes_back_as_it_was() -> None:
    only = tone(0.3)

    np.testing.assert_array_equal(with_pauses([only], []).samples, only.samples)


def test_different_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="rates"):
        with_pauses([tone(0.1), Waveform(np.zeros(10, np.float32), 8000)], [0])


def test_the_silence_at_the_edge_of_a_sound_is_measured() -> None:
    assert edge_silence(np.zeros(10, np.float32)) == 10
    assert edge_silence(tone(0.1, silence_before_s=0.1).samples) == pytest.approx(0.1 * RATE, abs=2)
