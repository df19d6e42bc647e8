from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.utils.audio.test_join import RATE, tone
from utils.audio.join import with_pauses
from utils.audio.live_join import LiveJoin
from utils.audio.waveform import Waveform

silence_s = st.sampled_from([0.0, 0.03, 0.2, 0.7])
chunks = st.lists(
    st.builds(tone, st.sampled_from([0.0, 0.003, 0.02, 0.3]), silence_s, silence_s), min_size=1, max_size=4
)
piece_sizes = st.lists(st.integers(40, 5000), min_size=1, max_size=6)


def heard_live(waveforms, pauses_ms, sizes=(480,)):
    """What has come out after each piece that went in, and after each end of a chunk."""
    live = LiveJoin(pauses_ms, RATE)
    out = []
    for waveform in waveforms:
        position, turn = 0, 0
        while position < len(waveform.samples):
            size = sizes[turn % len(sizes)]
            out.append(live.add(waveform.samples[position : position + size]))
            position, turn = position + size, turn + 1
        out.append(live.end_chunk())
    return out


@settings(deadline=None, max_examples=50)
@given(chunks, piece_sizes, st.sampled_from([0, 60, 280]))
def test_live_it_sounds_as_it_does_when_all_is_there(waveforms, sizes, pause_ms):
    pauses_ms = [pause_ms] * (len(waveforms) - 1)

    live = np.concatenate(heard_live(waveforms, pauses_ms, sizes))

    np.testing.assert_array_equal(live, with_pauses(waveforms, pauses_ms).samples)


def test_all_but_the_fade_leaves_at_once():
    out = heard_live([tone(0.5), tone(0.5)], [300])

    fade = round(0.004 * RATE)
    assert len(out[0]) == 480 - fade
    assert all(len(piece) == 480 for piece in out[1:25])


def test_the_last_chunk_holds_nothing_back():
    out = heard_live([tone(0.1)], [])

    assert [len(piece) for piece in out] == [480] * 5 + [0]


@pytest.mark.parametrize("gain", [0.05, 0.3, 3.0])
def test_a_louder_or_quieter_chunk_shifts_the_pause_by_milliseconds(gain):
    rise = np.linspace(0, 1, RATE // 20, dtype=np.float32)
    second = tone(0.5, silence_before_s=0.1).samples * np.float32(gain) * 0.5
    second[RATE // 10 : RATE // 10 + len(rise)] *= rise
    waveforms = [Waveform(tone(0.5).samples * np.float32(0.5), RATE), Waveform(second, RATE)]

    live = np.concatenate(heard_live(waveforms, [300]))

    assert len(live) == pytest.approx(len(with_pauses(waveforms, [300]).samples), abs=0.006 * RATE)


def test_what_was_given_is_not_changed():
    waveforms = [tone(0.1), tone(0.1)]

    heard_live(waveforms, [100], sizes=(100_000,))

    np.testing.assert_array_equal(waveforms[0].samples, tone(0.1).samples)
