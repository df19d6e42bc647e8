from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.listen import fundamental_hz, loudness_lufs
from tests.utils.audio.played import played
from utils.audio.decode import open_recording
from utils.audio.encode import PART, encoding, pcm, wav_head, write_audio
from utils.audio.formats import FORMATS, Bitrates
from utils.audio.waveform import Extent, Waveform


def encode(waveform: Waveform, format_name: str, mp3_bitrate_kbps: int) -> bytes:
    file = io.BytesIO()
    write_audio(waveform, file, format_name, Bitrates(mp3=mp3_bitrate_kbps))
    return file.getvalue()


@pytest.fixture(scope="module")
def speech_like() -> Waveform:
    time_s = np.arange(48_000) / 24_000
    return Waveform((0.4 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32), 24_000)


def test_wav_is_32_bit_float_and_holds_the_samples_as_they_are(speech_like: Waveform) -> None:
    content = encode(speech_like, "wav", 128)

    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.format, file.subtype, file.samplerate, file.channels) == ("WAV", "FLOAT", 24_000, 1)
        np.testing.assert_array_equal(file.read(dtype="float32"), speech_like.samples)


def test_flac_has_24_bits_and_differs_by_less_than_one_step(speech_like: Waveform) -> None:
    content = encode(speech_like, "flac", 128)

    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert (file.format, file.subtype) == ("FLAC", "PCM_24")
        np.testing.assert_allclose(file.read(dtype="float32"), speech_like.samples, atol=2**-22)


@pytest.mark.parametrize("bitrate_kbps", [64, 128, 160])
def test_mp3_has_the_bit_rate_that_was_asked_for(speech_like: Waveform, bitrate_kbps: int) -> None:
    content = encode(speech_like, "mp3", bitrate_kbps)

    assert len(content) * 8 / speech_like.duration_s / 1000 == pytest.approx(bitrate_kbps, rel=0.08)
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert len(samples) / rate == pytest.approx(speech_like.duration_s, abs=0.001)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_samples_give_the_same_bytes(speech_like: Waveform, format_name: str) -> None:
    assert encode(speech_like, format_name, 128) == encode(speech_like, format_name, 128)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_single_sample_can_be_encoded(format_name: str) -> None:
    assert encode(Waveform(np.zeros(1, np.float32), 24_000), format_name, 128)


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_is_the_same_rendering(speech_like: Waveform, format_name: str) -> None:
    heard = played(encode(speech_like, format_name, 128), format_name)

    assert heard.duration_s == pytest.approx(speech_like.duration_s, abs=0.09)
    assert fundamental_hz(heard) == pytest.approx(220, rel=0.005)
    assert loudness_lufs(heard) == pytest.approx(loudness_lufs(speech_like), abs=0.1)


def test_pcm_is_16_bit_little_endian_and_differs_by_half_a_step(speech_like: Waveform) -> None:
    content = encode(speech_like, "pcm", 128)

    assert len(content) == 2 * len(speech_like.samples)
    np.testing.assert_allclose(np.frombuffer(content, "<i2") / 32767, speech_like.samples, atol=0.5001 / 32767)


def test_pcm_holds_what_is_too_loud_at_full_scale() -> None:
    loud = np.array([0.0, 1.0, -1.0, 1.5, -3.0], np.float32)

    assert np.frombuffer(pcm(loud), "<i2").tolist() == [0, 32767, -32767, 32767, -32767]


@pytest.mark.parametrize("format_name", FORMATS)
def test_encoding_makes_no_other_copy_of_the_whole(tmp_path: Path, format_name: str) -> None:
    long = Waveform(np.random.default_rng(0).uniform(-0.5, 0.5, 3_000_000).astype(np.float32), 24_000)
    tracemalloc.start()

    with (tmp_path / "a").open("w+b") as file:
        write_audio(long, file, format_name, Bitrates())

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < long.samples.nbytes / 2


def test_writing_pcm_can_be_left_between_parts() -> None:
    file, looks = io.BytesIO(), []

    def leave_at_the_third() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_audio(Waveform(np.zeros(3_000_000, np.float32), 24_000), file, "pcm", Bitrates(), leave_at_the_third)

    assert len(file.getvalue()) == 2 * 2 * PART


@pytest.mark.parametrize("format_name", list(FORMATS))
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_is_the_same_however_its_samples_come(format_name: str, channels: int) -> None:
    samples = (0.1 * np.random.default_rng(3).standard_normal((70_001, channels))).astype(np.float32)

    def written(parts: int) -> bytes:
        file = io.BytesIO()
        with encoding(file, format_name, Extent(len(samples), 24_000, channels), Bitrates()) as add:
            for part in np.array_split(samples, parts):
                add(part)
        return file.getvalue()

    if format_name in ("opus", "aac", "mp3"):  # their encoders are given the parts as they are
        assert len(written(1)) == pytest.approx(len(written(9)), rel=0.02)
    else:
        assert written(1) == written(9)


@pytest.mark.parametrize("format_name", ["wav", "flac", "mp3", "opus"])
@pytest.mark.parametrize("rate", [22_050, 44_100, 96_000])
def test_stereo_comes_back_as_stereo(format_name: str, rate: int) -> None:
    seconds = np.arange(rate) / rate
    samples = 0.3 * np.sin(2 * np.pi * np.outer(seconds, [440, 880])).astype(np.float32)
    file = io.BytesIO()

    with encoding(file, format_name, Extent(rate, rate, 2), Bitrates()) as add:
        add(samples)

    heard, heard_rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    assert heard.shape == (heard_rate, 2)
    for side, hz in enumerate((440, 880)):
        spectrum = np.abs(np.fft.rfft(heard[:, side]))
        assert spectrum.argmax() == hz


def test_a_wav_of_more_than_4_gib_is_read_to_its_end(tmp_path: Path) -> None:
    count, end = (1 << 30) + 1000, np.linspace(-1, 1, 500, dtype=np.float32)
    path = tmp_path / "large.wav"
    with path.open("wb") as file:
        file.write(wav_head(24_000, count))
        file.seek(4 * (count - len(end)), io.SEEK_CUR)  # what is passed over takes no room on the disk
        file.write(end.tobytes())

    with soundfile.SoundFile(path) as opened:
        assert (opened.format, opened.frames, opened.samplerate) == ("RF64", count, 24_000)
        opened.seek(-len(end), io.SEEK_END)
        assert np.array_equal(opened.read(dtype="float32"), end)
    with open_recording(path) as recording:
        assert recording.format == "wav"
