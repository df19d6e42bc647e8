from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from resilience.errors import InvalidAudio, UnusableAudio
from tests.utils.audio.coded import coded, film, sound
from utils.audio.decode import is_cut_wav, read_recording
from utils.audio.resample import resample, stream_resampled
from utils.audio.waveform import Waveform


def tone(duration_s=1.0, sample_rate=24000, frequency_hz=440.0):
    times_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def loudest_hz(waveform):
    spectrum = np.abs(np.fft.rfft(waveform.samples * np.hanning(len(waveform.samples))))
    return np.argmax(spectrum) * waveform.sample_rate / len(waveform.samples)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("FLAC", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
    ],
)
@pytest.mark.parametrize("name", ["voice.wav", "voice.raw", "voice"])
def test_the_content_decides_the_format_and_not_the_name(tmp_path, container, subtype, name):
    soundfile.write(tmp_path / name, tone(), 24000, format=container, subtype=subtype)

    heard = read_recording(tmp_path / name, 10)

    assert heard.sample_rate == 24000
    assert heard.duration_s == pytest.approx(1.0, abs=0.06)
    assert loudest_hz(heard) == pytest.approx(440, abs=5)
    assert heard.samples.dtype == np.float32


@pytest.mark.parametrize("name", ["voice.wav", "voice.raw"])
def test_an_open_file_is_read_from_its_beginning_and_stays_open(tmp_path, name):
    soundfile.write(tmp_path / name, tone(), 24000, format="WAV")

    with (tmp_path / name).open("rb") as stream:
        stream.read(100)
        heard = read_recording(stream, 10)

        assert not stream.closed
    assert np.array_equal(heard.samples, read_recording(tmp_path / name, 10).samples)


def test_reading_can_be_left_between_blocks(tmp_path):
    soundfile.write(tmp_path / "long.flac", np.tile(tone(), 20), 24000)
    looks = []

    def leave_at_the_third():
        looks.append(1)
        if len(looks) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        read_recording(tmp_path / "long.flac", 20, leave_at_the_third)


def test_channels_are_mixed(tmp_path):
    both = np.stack([tone(), np.zeros(24000, np.float32)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", both, 24000)

    heard = read_recording(tmp_path / "stereo.wav", 10)

    assert heard.samples.shape == (24000,)
    assert np.max(np.abs(heard.samples)) == pytest.approx(0.25, abs=0.01)


def test_no_more_than_asked_for_is_read_or_held(tmp_path):
    soundfile.write(tmp_path / "long.flac", np.tile(tone(), 120), 24000)
    tracemalloc.start()

    heard = read_recording(tmp_path / "long.flac", 5)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heard.duration_s == 5
    assert peak_bytes < 40 * 24000 * 4


def test_samples_beyond_full_scale_are_scaled_and_not_clipped(tmp_path):
    soundfile.write(tmp_path / "hot.wav", 8 * tone(), 24000, subtype="FLOAT")

    heard = read_recording(tmp_path / "hot.wav", 10)

    assert np.max(np.abs(heard.samples)) == pytest.approx(1.0)
    assert np.mean(np.abs(heard.samples) > 0.99) < 0.1


@pytest.mark.parametrize(
    ("samples", "sample_rate", "reason"),
    [
        (tone(sample_rate=4000), 4000, "4000 Hz"),
        (tone(sample_rate=400000), 400000, "400000 Hz"),
        (np.zeros((24000, 9), np.float32), 24000, "9 channels"),
        (np.where(np.arange(24000) == 9000, np.nan, tone()), 24000, "not numbers"),
        (np.where(np.arange(24000) == 9000, np.inf, tone()), 24000, "not numbers"),
        (tone(0.05), 24000, "shorter"),
        (np.zeros(0, np.float32), 24000, "shorter"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path, samples, sample_rate, reason):
    soundfile.write(tmp_path / "odd.wav", samples, sample_rate, subtype="FLOAT")

    with pytest.raises(InvalidAudio, match=reason):
        read_recording(tmp_path / "odd.wav", 10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: coded(tone(sample_rate=4000), 4000, "wav 16 bit"), "4000 Hz"),
        (lambda: coded(tone(sample_rate=384000), 384000, "wav 16 bit"), "384000 Hz"),
        (lambda: coded(np.zeros((24000, 16), np.float32), 24000, "wav 16 bit"), "16 channels"),
        (lambda: coded(tone(), 24000, "wav 16 bit").replace(b"\1\0\1\0", b"\1\0\1\4", 1), "too many channels"),
        (lambda: coded(np.full(24000, np.nan), 24000, "wav 64-bit float"), "not numbers"),
        (lambda: film("mp4"), "no audio"),
        (lambda: film("avi"), "mpeg4 in avi"),
        (lambda: sound("ac3", "mp4"), "ac3"),
        (lambda: sound("ac3", "wav"), "ac3 in wav"),
        (lambda: sound("flac", "ogg"), "flac in ogg"),
        (lambda: sound("alac", "caf"), "something unknown"),
    ],
)
def test_audio_outside_what_we_take_is_told_from_what_is_damaged(content, reason):
    with pytest.raises(UnusableAudio, match=reason):
        read_recording(io.BytesIO(content()), 10)


@pytest.mark.parametrize("kind", ["wav 16 bit", "flac", "ogg", "opus", "mp3", "m4a", "webm", "aac"])
def test_damage_is_not_called_unusual(kind):
    content = coded(tone(sample_rate=48000), 48000, kind)

    with pytest.raises(InvalidAudio) as refusal:
        read_recording(io.BytesIO(content[:12] + b"damaged " * 200), 10)

    assert not isinstance(refusal.value, UnusableAudio)


@pytest.mark.parametrize("kind", ["wav 16 bit", "flac", "ogg", "mp3", "m4a"])
def test_a_disk_that_fails_is_neither_damage_nor_the_end(kind):
    class OfAFailingDisk(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 4096:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output"):
        read_recording(OfAFailingDisk(coded(np.tile(tone(), 20), 24000, kind)), 20)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all" * 100, b"\0" * 5000, b"%PDF-1.7\n"])
@pytest.mark.parametrize("name", ["voice.wav", "voice.mp3", "voice.raw"])
def test_what_is_no_audio_is_refused_without_naming_the_path(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidAudio) as refusal:
        read_recording(tmp_path / name, 10)

    assert str(tmp_path) not in refusal.value.message


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_that_was_cut_is_read_as_far_as_it_goes_and_known(subtype):
    file = io.BytesIO()
    soundfile.write(file, tone(), 24000, format="WAV", subtype=subtype)
    whole = file.getvalue()
    begins = whole.index(b"data") + 8

    cut = io.BytesIO(whole[: len(whole) // 2])

    assert read_recording(cut, 10).duration_s == pytest.approx(0.5, abs=0.01)
    assert is_cut_wav(cut)
    assert not is_cut_wav(file)
    assert not is_cut_wav(io.BytesIO(whole + b"more"))
    for open_size in (bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f"):  # of streams, and of recorders that broke off
        assert not is_cut_wav(io.BytesIO(whole[: begins - 4] + open_size + whole[begins:]))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\1", b"fLaC" + bytes(60)])
def test_what_is_no_wav_is_no_cut_one(content):
    assert not is_cut_wav(io.BytesIO(content))


def test_resampling_keeps_pitch_and_duration():
    changed = resample(Waveform(tone(sample_rate=44100), 44100), 24000)

    assert (changed.sample_rate, len(changed.samples)) == (24000, 24000)
    assert loudest_hz(changed) == pytest.approx(440, abs=2)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    changed = resample(Waveform(tone(sample_rate=48000, frequency_hz=15000), 48000), 24000)

    assert np.max(np.abs(changed.samples[1000:-1000])) < 1e-4


def test_resampling_in_pieces_is_resampling_of_the_whole():
    samples = np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32)
    cuts = np.split(samples, [1, 7, 3000, 3000, 20_011])

    pieces = list(stream_resampled(cuts, 22050, 24000))

    assert np.array_equal(np.concatenate(pieces), resample(Waveform(samples, 22050), 24000).samples)
