from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from tests.listen import fundamental_hz, read
from tests.recordings import vowels
from tests.utils.audio.played import played
from utils.audio.encode import write_audio
from utils.audio.formats import FORMATS, Bitrates
from utils.audio.live_encode import Resampled, live_encoder
from utils.audio.resample import resample
from utils.audio.waveform import Waveform

MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # layer III
MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def stream(format_name, waveform, sample_rate=24_000, size=4800, *, integer16=False):
    """The bytes as they come, and those that the end brings."""
    encoder = live_encoder(format_name, sample_rate, Bitrates(), integer16=integer16)
    pieces = [waveform.samples[start : start + size] for start in range(0, len(waveform.samples), size)]
    return [encoder.encode(piece) for piece in pieces], encoder.finish()


@pytest.mark.parametrize("format_name", FORMATS)
def test_bytes_leave_with_every_piece_and_can_be_played(format_name):
    spoken = vowels(180, 2.0)

    parts, end = stream(format_name, spoken)

    heard = played(b"".join(parts) + end, format_name)
    assert all(parts)
    assert heard.duration_s == pytest.approx(2.0, abs=0.1)
    assert fundamental_hz(heard) == pytest.approx(fundamental_hz(spoken), rel=0.02)


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("format_name", FORMATS)
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


def test_with_whole_numbers_wav_has_the_classic_head_and_the_samples_of_pcm():
    spoken = vowels(180, 1.0)

    wav, pcm = (b"".join(stream(name, spoken, integer16=True)[0]) for name in ("wav", "pcm"))

    unknown = b"\xff\xff\xff\xff"
    form = struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16)
    assert wav[:44] == b"RIFF" + unknown + b"WAVEfmt " + form + b"data" + unknown
    assert wav[44:] == pcm


@pytest.mark.parametrize(("integer16", "bits"), [(False, 24), (True, 16)])
def test_flac_leaves_its_length_and_its_checksum_open(integer16, bits):
    parts, end = stream("flac", vowels(180, 1.0), integer16=integer16)

    content = b"".join(parts) + end
    rate_channels_bits_count = int.from_bytes(content[18:26])
    assert content[:8] == b"fLaC\x00\x00\x00\x22"
    assert rate_channels_bits_count == 24_000 << 44 | 0 << 41 | (bits - 1) << 36
    assert content[26:42] == bytes(16)


def test_flac_has_the_samples_of_the_finished_file():
    spoken = vowels(180, 1.0)
    file = io.BytesIO()
    write_audio(spoken, file, "flac", Bitrates())

    parts, end = stream("flac", spoken)

    streamed = played(b"".join(parts) + end, "flac")
    np.testing.assert_array_equal(streamed.samples, played(file.getvalue(), "flac").samples)


def test_flac_of_whole_numbers_has_those_of_pcm():
    spoken = vowels(180, 1.0)

    flac, pcm = (b"".join([*parts, end]) for parts, end in (stream(n, spoken, integer16=True) for n in ("flac", "pcm")))

    whole = np.round(played(flac, "flac").samples * 32768).astype("<i2")
    np.testing.assert_array_equal(whole, np.frombuffer(pcm, "<i2"))


@pytest.mark.parametrize("sample_rate", [24_000, 44_100])
def test_mp3_is_frames_of_one_bit_rate_and_nothing_else(sample_rate):
    spoken = Waveform(vowels(180, 2.0).samples, sample_rate)

    parts, end = stream("mp3", spoken, sample_rate)

    frames = list(mp3_frames(b"".join(parts) + end))
    assert {(rate, kbps) for rate, kbps, _ in frames} == {(sample_rate, 128)}
    assert not any(b"Xing" in frame or b"Info" in frame for _, _, frame in frames)


def test_mp3_begins_with_sound_after_the_delay_of_its_codec():
    spoken = vowels(180, 1.0)
    parts, end = stream("mp3", spoken)

    heard = played(b"".join(parts) + end, "mp3").samples

    delay = 1105  # LAME's 576 and a decoder's 529
    assert heard[delay : delay + 24_000] @ spoken.samples > 0.98 * (spoken.samples @ spoken.samples)


@pytest.mark.parametrize(
    ("format_name", "most_s"), [("wav", 0), ("pcm", 0), ("flac", 0.02), ("opus", 0.05), ("aac", 0.09), ("mp3", 0.09)]
)
def test_the_first_bytes_leave_with_the_first_tenth_of_a_second(format_name, most_s):
    parts, _ = stream(format_name, vowels(180, 1.0), size=240)

    first = next(index for index, part in enumerate(parts) if part)
    assert first * 0.01 <= most_s


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_stream_of_nothing_is_at_most_a_head(format_name):
    parts, end = stream(format_name, Waveform(np.zeros(0, np.float32), 24_000))

    assert parts == []
    assert end or format_name not in ("wav", "flac")


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="m4a"):
        live_encoder("m4a", 24_000, Bitrates())


def mp3_frames(content):
    """Rate in Hz, kilobits per second and bytes of each frame; a byte between two frames fails."""
    position = 0
    while position < len(content):
        head = int.from_bytes(content[position : position + 4])
        assert head >> 21 == 0x7FF
        is_mpeg1 = head >> 19 & 3 == 3
        rate = (44_100, 48_000, 32_000)[head >> 10 & 3] // (1 if is_mpeg1 else 2)
        kbps = (MPEG1_KBPS if is_mpeg1 else MPEG2_KBPS)[head >> 12 & 15]
        size = (144 if is_mpeg1 else 72) * kbps * 1000 // rate + (head >> 9 & 1)
        yield rate, kbps, content[position : position + size]
        position += size


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 48_000])
def test_an_encoder_can_be_given_another_rate_than_its_own(sample_rate):
    spoken = vowels(180, 1.0)
    given = resample(spoken, sample_rate).samples
    encoder = Resampled(live_encoder("wav", 24_000, Bitrates()), sample_rate, 24_000)

    parts = [encoder.encode(given[start : start + 4800]) for start in range(0, len(given), 4800)]

    heard = read(b"".join(parts) + encoder.finish())
    assert heard.sample_rate == 24_000
    assert heard.duration_s == pytest.approx(1.0, abs=0.001)
    assert fundamental_hz(heard) == pytest.approx(fundamental_hz(spoken), rel=0.02)
