from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.speech import say
from tests.listen import clicks, silences
from tests.utils.audio.test_join import tone
from utils.audio.silence import FRAME_S, shortened
from utils.audio.waveform import Waveform

RATE = 24_000


def recording(*parts: float) -> Waveform:
    """Seconds of tone (positive) and of silence (negative) after each other."""
    return Waveform(
        np.concatenate([tone(part).samples if part > 0 else np.zeros(round(-part * RATE)) for part in parts]).astype(
            np.float32
        ),
        RATE,
    )


def test_a_long_pause_becomes_two_margins_and_long_edges_one():
    result = shortened(recording(-1, 0.5, -2, 0.5, -1), threshold=0.06, margin_s=0.2)

    assert result.cuts == 3
    assert result.removed_s == pytest.approx(0.8 + 1.6 + 0.8, abs=4 * FRAME_S)
    assert result.waveform.duration_s == pytest.approx(5 - result.removed_s, abs=1e-9)
    (_, first), pause, (last, _) = silences(result.waveform, at_least_s=0.1)
    assert first == pytest.approx(0.2, abs=FRAME_S)
    assert pause[1] - pause[0] == pytest.approx(0.4, abs=2 * FRAME_S)
    assert result.waveform.duration_s - last == pytest.approx(0.2, abs=FRAME_S)


@pytest.mark.parametrize("pause_s", [0.05, 0.15, 0.3, 0.39])
def test_a_pause_that_the_margins_fill_stays(pause_s):
    whole = recording(0.5, -pause_s, 0.5)

    assert shortened(whole, threshold=0.06, margin_s=0.2).waveform is whole


def test_without_a_margin_the_closure_of_a_consonant_stays():
    whole = recording(0.5, -0.15, 0.5, -1, 0.5)

    result = shortened(whole, threshold=0.06, margin_s=0.0)

    assert result.cuts == 1
    assert result.removed_s == pytest.approx(1.0, abs=2 * FRAME_S)


def test_what_is_loud_is_never_cut():
    whole = recording(-0.7, 0.31, -0.9, 0.123, -1.1, 0.04, -0.6)

    result = shortened(whole, threshold=0.06, margin_s=0.1)

    assert np.square(result.waveform.samples).sum() == pytest.approx(np.square(whole.samples).sum(), rel=1e-3)


def test_the_threshold_is_a_share_of_the_loudest_sample():
    soft = np.concatenate([tone(0.5).samples, 0.1 * tone(1.0).samples, tone(0.5).samples]).astype(np.float32)

    for gain in (1.0, 0.01):
        kept, cut = (shortened(Waveform(soft * np.float32(gain), RATE), share, 0.1) for share in (0.08, 0.12))
        assert (kept.cuts, cut.cuts) == (0, 1)
        assert cut.removed_s == pytest.approx(0.8, abs=2 * FRAME_S)


def test_a_threshold_of_nothing_removes_nothing():
    whole = recording(-1, 0.5, -2)

    result = shortened(whole, threshold=0.0, margin_s=0.0)

    assert result.waveform is whole
    assert (result.removed_s, result.cuts) == (0.0, 0)


@pytest.mark.parametrize("margin_s", [0.0, 0.2])
def test_a_threshold_of_one_keeps_what_is_loudest(margin_s):
    whole = say("Please close the window before you turn off all the lights.")

    result = shortened(whole, threshold=1.0, margin_s=margin_s)

    assert np.abs(result.waveform.samples).max() == np.abs(whole.samples).max()
    assert result.waveform.duration_s >= 2 * margin_s + FRAME_S * 0.99


@pytest.mark.parametrize("count", [0, 1, 10, RATE // 10, 3 * RATE])
def test_silence_stays_as_it_is(count):
    silence = Waveform(np.zeros(count, np.float32), RATE)

    assert shortened(silence, threshold=0.06, margin_s=0.2).waveform is silence


@pytest.mark.parametrize("margin_s", [0.0, 0.05])
def test_no_cut_clicks_even_where_the_room_hums(margin_s):
    speech = [say(text).samples for text in ("Three yellow boats.", "Please close the window.")]
    gap = np.zeros(RATE)
    samples = np.concatenate([gap, speech[0], gap, speech[1], gap])
    samples += 0.02 * np.sin(2 * np.pi * 50 * np.arange(len(samples)) / RATE)

    result = shortened(Waveform(samples.astype(np.float32), RATE), threshold=0.15, margin_s=margin_s)

    assert result.cuts >= 3
    assert clicks(result.waveform) == []


def test_the_same_recording_is_cut_the_same_way():
    whole = recording(-1, 0.5, -2, 0.5, -1)

    once, again = (shortened(whole, threshold=0.06, margin_s=0.2) for _ in range(2))

    np.testing.assert_array_equal(once.waveform.samples, again.waveform.samples)


@given(
    parts=st.lists(st.floats(-0.8, 0.8).filter(lambda part: abs(part) > 1e-4), max_size=6),
    threshold=st.floats(0, 1),
    margin_s=st.floats(0, 1),
)
def test_lengths_always_add_up(parts, threshold, margin_s):
    whole = recording(*parts, 0.01)

    result = shortened(whole, threshold, margin_s)

    assert len(result.waveform.samples) == round(len(whole.samples) - result.removed_s * RATE) > 0
    assert np.isfinite(result.waveform.samples).all()
    assert np.abs(result.waveform.samples).max() <= np.abs(whole.samples).max() * 1.001
    assert (result.cuts == 0) == (result.removed_s == 0)
