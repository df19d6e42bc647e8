from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.audio.join import Brake, PauseJoin, in_a_row
from utils.audio.waveform import Waveform

RATE = 24_000
FADE = round(0.004 * RATE)


def tone(duration_s: float, silence_before_s: float = 0.0, silence_after_s: float = 0.0) -> Waveform:
    time_s = np.arange(round(duration_s * RATE)) / RATE
    sound = (0.5 * np.sin(2 * np.pi * 440 * time_s + 1)).astype(np.float32)
    before, after = (np.zeros(round(s * RATE), np.float32) for s in (silence_before_s, silence_after_s))
    return Waveform(np.concatenate([before, sound, after]), RATE)


def come_out(waveforms: list[Waveform], pauses_ms: list[float], sizes: tuple[int, ...] = (480,)) -> list[np.ndarray]:
    """What has come out after each piece that went in, and after each end of a chunk."""
    join = PauseJoin(pauses_ms, RATE)
    out = []
    for waveform in waveforms:
        position, turn = 0, 0
        while position < len(waveform.samples):
            size = sizes[turn % len(sizes)]
            out.append(join.add(waveform.samples[position : position + size]))
            position, turn = position + size, turn + 1
        out.append(join.end_chunk())
    return out


def joined(waveforms: list[Waveform], pauses_ms: list[float], sizes: tuple[int, ...] = (1 << 20,)) -> Waveform:
    return in_a_row(come_out(waveforms, pauses_ms, sizes), RATE)


def gap_s(waveform: Waveform) -> float:
    """The longest stretch without sound."""
    loud = np.flatnonzero(np.abs(waveform.samples) > 0.002)
    return float(np.diff(loud).max() / RATE)


def test_a_pause_is_put_between_chunks_that_end_at_once() -> None:
    whole = joined([tone(0.5), tone(0.5)], [300])

    assert whole.duration_s == pytest.approx(1.3, abs=0.002)
    assert gap_s(whole) == pytest.approx(0.3, abs=0.01)


def test_silence_that_an_engine_left_counts_as_part_of_the_pause() -> None:
    whole = joined([tone(0.5, silence_after_s=0.2), tone(0.5, silence_before_s=0.05)], [300])

    assert gap_s(whole) == pytest.approx(0.3, abs=0.01)


def test_a_longer_silence_of_the_engine_is_kept_whole() -> None:
    whole = joined([tone(0.5, silence_after_s=0.8), tone(0.5)], [300])

    assert gap_s(whole) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("gain", [0.05, 0.3, 3.0])
def test_a_louder_or_quieter_chunk_has_the_same_pause(gain: float) -> None:
    first, second = tone(0.5), tone(0.5, silence_before_s=0.1)
    waveforms = [Waveform(first.samples * np.float32(0.3), RATE), Waveform(second.samples * np.float32(gain), RATE)]

    assert gap_s(joined(waveforms, [300])) == pytest.approx(0.3, abs=0.01)


def test_a_chunk_that_breaks_off_loudly_makes_no_click() -> None:
    whole = joined([tone(0.5), tone(0.5)], [300])

    steepest_of_the_tone = 0.5 * 2 * np.pi * 440 / RATE
    assert float(np.abs(np.diff(whole.samples)).max()) < 1.2 * steepest_of_the_tone


def test_nothing_is_cut_away_or_said_twice() -> None:
    chunks = [tone(0.5), tone(0.3), tone(0.4)]

    whole = joined(chunks, [0, 0])

    inner = np.concatenate([chunk.samples[FADE:-FADE] for chunk in chunks])
    edges = FADE * np.array([1, 2, 2, 1])
    kept = np.delete(whole.samples, [*_edges(chunks, FADE)])
    np.testing.assert_array_equal(kept, inner)
    assert len(whole.samples) == len(inner) + edges.sum()


def _edges(chunks: list[Waveform], fade: int) -> list[int]:
    """The samples that a fade may change, or may have changed."""
    places, start = [], 0
    for chunk in chunks:
        end = start + len(chunk.samples)
        places += [*range(start, start + fade), *range(end - fade, end)]
        start = end
    return places


def test_one_chunk_comes_back_as_it_was() -> None:
    only = tone(0.3)

    np.testing.assert_array_equal(joined([only], []).samples, only.samples)


silence_s = st.sampled_from([0.0, 0.03, 0.2, 0.7])
chunks = st.lists(
    st.builds(tone, st.sampled_from([0.0, 0.003, 0.02, 0.3]), silence_s, silence_s), min_size=1, max_size=4
)
piece_sizes = st.lists(st.integers(40, 5000), min_size=1, max_size=6)
gains = st.lists(st.sampled_from([1.0, 0.1, 0.001]), min_size=4, max_size=4)


@settings(deadline=None, max_examples=100)
@given(chunks, gains, piece_sizes, st.sampled_from([0, 60, 280]))
def test_the_sizes_of_the_pieces_change_nothing(waveforms, factors, sizes, pause_ms) -> None:
    waveforms = [
        Waveform(each.samples * np.float32(gain), RATE) for each, gain in zip(waveforms, factors, strict=False)
    ]
    pauses_ms = [pause_ms] * (len(waveforms) - 1)

    in_pieces = joined(waveforms, pauses_ms, tuple(sizes))

    np.testing.assert_array_equal(in_pieces.samples, joined(waveforms, pauses_ms).samples)


def test_all_but_the_fade_leaves_at_once() -> None:
    out = come_out([tone(0.5), tone(0.5)], [300])

    assert len(out[0]) == 480 - FADE
    assert all(len(piece) == 480 for piece in out[1:25])


def test_the_last_chunk_holds_nothing_back() -> None:
    out = come_out([tone(0.1)], [])

    assert [len(piece) for piece in out] == [480] * 5 + [0]


def test_what_was_given_is_not_changed() -> None:
    waveforms = [tone(0.1), tone(0.1)]

    joined(waveforms, [100])

    np.testing.assert_array_equal(waveforms[0].samples, tone(0.1).samples)


def test_nothing_in_a_row_is_no_samples() -> None:
    assert len(in_a_row([], RATE).samples) == 0


def test_a_text_that_goes_on_sounds_as_if_it_had_been_known() -> None:
    chunks = [tone(0.5), tone(0.3, silence_before_s=0.05), tone(0.4)]
    join = PauseJoin([], RATE)
    parts = []
    for chunk in chunks:
        join.expect([280])
        parts += [join.add(chunk.samples), join.end_chunk()]

    heard, known = in_a_row(parts, RATE), joined(chunks, [280, 280])
    np.testing.assert_array_equal(heard.samples[:-FADE], known.samples[:-FADE])
    assert len(heard.samples) == len(known.samples)
    assert abs(heard.samples[-1]) < 0.01


def test_a_sound_that_goes_through_a_brake_is_the_same_unless_it_is_stopped() -> None:
    sound = tone(0.5).samples
    parts = np.array_split(sound, 7)
    on, stopped = Brake(RATE), Brake(RATE)

    whole = np.concatenate([*map(on.add, parts), on.rest()])
    cut = np.concatenate([*map(stopped.add, parts), stopped.stop()])

    np.testing.assert_array_equal(whole, sound)
    np.testing.assert_array_equal(cut[:-FADE], sound[:-FADE])
    assert abs(cut[-1]) < 0.01
    assert not len(stopped.rest())
