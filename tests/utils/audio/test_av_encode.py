"""Opus and AAC: whole files and streams that are played while they are made."""

from __future__ import annotations

import io
from itertools import accumulate

import numpy as np
import pytest
import soxr

from tests.listen import fundamental_hz, loudness_lufs
from tests.recordings import vowels
from tests.utils.audio.played import played, told_duration_s
from utils.audio.encode import write_audio
from utils.audio.formats import Bitrates
from utils.audio.live_encode import live_encoder
from utils.audio.waveform import Waveform

FRAME_S = {"opus": 0.02, "aac": 1024 / 24_000}
DELAY_S = {"opus": 0.0, "aac": 1024 / 24_000}  # which an Opus file says, and bare AAC has nowhere to say
each_format = pytest.mark.parametrize("format_name", ["opus", "aac"])


def encoded(waveform: Waveform, format_name: str, **bitrates: int) -> bytes:
    file = io.BytesIO()
    write_audio(waveform, file, format_name, Bitrates(**bitrates))
    return file.getvalue()


def streamed(waveform: Waveform, format_name: str, size: int = 4800, **bitrates: int) -> list[bytes]:
    """What leaves with each piece, and with the end."""
    encoder = live_encoder(format_name, waveform.sample_rate, Bitrates(**bitrates))
    pieces = [waveform.samples[start : start + size] for start in range(0, len(waveform.samples), size)]
    return [*(encoder.encode(piece) for piece in pieces), encoder.finish()]


def spoken(sample_rate: int = 24_000, duration_s: float = 2.0) -> Waveform:
    return Waveform(soxr.resample(vowels(180, duration_s).samples, 24_000, sample_rate), sample_rate)


@each_format
def test_equal_samples_give_equal_bytes(format_name: str) -> None:
    assert encoded(spoken(), format_name) == encoded(spoken(), format_name)
    assert streamed(spoken(), format_name) == streamed(spoken(), format_name)


@each_format
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_every_rate_is_played_at_its_pitch_for_as_long_as_it_is(format_name: str, sample_rate: int) -> None:
    sound = spoken(sample_rate)

    for content in (encoded(sound, format_name), b"".join(streamed(sound, format_name))):
        heard = played(content, format_name)
        assert heard.duration_s == pytest.approx(2.0, abs=2 * FRAME_S[format_name] * max(1, 24_000 / sample_rate))
        assert fundamental_hz(heard) == pytest.approx(fundamental_hz(sound), rel=0.01)
        assert loudness_lufs(heard) == pytest.approx(loudness_lufs(sound), abs=0.7)


@each_format
@pytest.mark.parametrize("duration_s", [0.5, 1.234, 3.337])
def test_a_file_is_as_long_as_its_sound_within_a_frame_of_the_codec(format_name: str, duration_s: float) -> None:
    sound = Waveform(np.resize(spoken().samples, round(duration_s * 24_000)), 24_000)

    heard = played(encoded(sound, format_name), format_name)

    assert 0 <= heard.duration_s - duration_s - DELAY_S[format_name] <= FRAME_S[format_name]


def test_an_opus_file_is_exactly_as_long_as_its_sound() -> None:
    sound = spoken(duration_s=1.0)

    assert len(played(encoded(sound, "opus"), "opus").samples) == 48_000


@each_format
def test_a_player_that_seeks_is_told_how_long_a_file_is(format_name: str) -> None:
    content = encoded(spoken(duration_s=8.0), format_name)

    assert told_duration_s(content, format_name) == pytest.approx(8.0, rel=0.02)


@each_format
def test_a_moment_of_the_sound_is_where_it_was(format_name: str) -> None:
    samples = np.zeros(48_000, np.float32)
    samples[24_000:24_480] = spoken().samples[3000:3480]

    heard = played(encoded(Waveform(samples, 24_000), format_name), format_name)

    loud = np.flatnonzero(np.abs(heard.samples) > 0.3 * np.abs(heard.samples).max())
    assert loud[0] / heard.sample_rate - DELAY_S[format_name] == pytest.approx(1.0, abs=0.008)


@each_format
@pytest.mark.parametrize("count", [0, 1, 240, 2400])
def test_next_to_nothing_can_be_encoded(format_name: str, count: int) -> None:
    sound = Waveform(np.full(count, 0.1, np.float32), 24_000)

    for content in (encoded(sound, format_name), b"".join(streamed(sound, format_name))):
        assert count == 0 or played(content, format_name).duration_s >= count / 24_000


@pytest.mark.parametrize(("format_name", "kbps"), [("opus", 48), ("opus", 96), ("aac", 48), ("aac", 128)])
def test_a_file_has_about_the_bit_rate_that_was_asked_for(format_name: str, kbps: int) -> None:
    content = encoded(spoken(duration_s=8.0), format_name, **{format_name: kbps})

    assert len(content) * 8 / 8.0 / 1000 == pytest.approx(kbps, rel=0.4)


@pytest.mark.parametrize("kbps", [32, 64, 128])
def test_opus_takes_for_a_voice_what_it_was_told_and_its_pages_beside_it(kbps: int) -> None:
    sound = vowels(200, 8.0)
    file, live = encoded(sound, "opus", opus=kbps), b"".join(streamed(sound, "opus", opus=kbps))

    assert len(file) / 1000 == pytest.approx(kbps, rel=0.05)
    assert len(live) / 1000 == pytest.approx(kbps + 6, rel=0.05)


@each_format
def test_a_stream_can_be_played_before_it_has_ended(format_name: str) -> None:
    parts = streamed(spoken(duration_s=3.0), format_name)

    for number, so_far in list(enumerate(accumulate(parts[:-1]), start=1))[1:]:
        behind_s = 0.2 * number - played(so_far, format_name).duration_s
        assert behind_s < 0.2


@each_format
def test_a_stream_has_the_sound_of_the_file(format_name: str) -> None:
    sound = spoken()

    live, file = (
        played(one, format_name) for one in (b"".join(streamed(sound, format_name)), encoded(sound, format_name))
    )

    count = min(len(live.samples), len(file.samples))
    assert abs(len(live.samples) - len(file.samples)) <= FRAME_S[format_name] * live.sample_rate
    np.testing.assert_allclose(live.samples[:count], file.samples[:count], atol=1e-3)
