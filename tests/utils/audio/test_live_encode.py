from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from tests.listen import fundamental_hz
from tests.recordings import vowels
from tests.utils.audio.played import played
from utils.audio.formats import Bitrates
from utils.audio.live_encode import LIVE_FORMATS, live_encoder
from utils.audio.waveform import Waveform


def stream(format_name, waveform, sample_rate=24_000, size=4800):
    """The bytes as they come, and those that the end brings."""
    encoder = live_encoder(format_name, sample_rate, Bitrates())
    pieces = [waveform.samples[start : start + size] for start in range(0, len(waveform.samples), size)]
    return [encoder.encode(piece) for piece in pieces], encoder.finish()


@pytest.mark.parametrize("format_name", LIVE_FORMATS)
def test_bytes_leave_with_every_piece_and_can_be_played(format_name):
    spoken = vowels(180, 2.0)

    parts, end = stream(format_name, spoken)

    heard = played(b"".join(parts) + end, format_name)
    assert all(parts)
    assert heard.duration_s == pytest.approx(2.0, abs=0.1)
    assert fundamental_hz(heard) == pytest.approx(fundamental_hz(spoken), rel=0.02)


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("format_name", LIVE_FORMATS)
def test_every_rate_of_a_model_can_be_sent(format_name, sample_rate):
    spoken = Waveform(vowels(180, 1.0).samples, sample_rate)

    parts, end = stream(format_name, spoken, sample_rate)

    heard = played(b"".join(parts) + end, format_name, sample_rate)
    assert heard.duration_s == pytest.approx(spoken.duration_s, abs=0.2)
    assert fundamental_hz(heard) == pytest.approx(fundamental_hz(spoken), rel=0.02)


def test_wav_is_32_bit_float_of_unknown_length():
    spoken = vowels(180, 1.0)

    parts, end = stream("wav", spoken)

    content = b"".join(parts) + end
    assert content[:4] == b"RIFF"
    assert struct.unpack("<I", content[4:8]) == (0xFFFFFFFF,)
    assert content[50:58] == b"data" + struct.pack("<I", 0xFFFFFFFF)
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.subtype, file.channels) == ("FLOAT", 1)
        np.testing.assert_array_equal(file.read(dtype="float32"), spoken.samples)


def test_a_format_that_cannot_be_streamed_is_refused():
    with pytest.raises(ValueError, match="flac"):
        live_encoder("flac", 24_000, Bitrates())
