from __future__ import annotations

import io
import json
import tracemalloc

import numpy as np
import pyloudnorm
import pytest
import soundfile

from resilience.errors import InvalidAudio, UnusableAudio
from tests.utils.audio.coded import AV_KINDS, SOUNDFILE_KINDS, coded, speech
from utils.audio.analysis import facts_of, listen
from utils.audio.decode import BLOCK_FRAMES
from utils.audio.encode import wav_head, write_wav
from utils.audio.waveform import Waveform

FORMATS = {
    "wav 8 bit": "wav",
    "wav 16 bit": "wav",
    "wav 24 bit": "wav",
    "wav 64-bit float": "wav",
    "wavex": "wav",
    "rf64": "wav",
    "mp4": "m4a",
    "alac": "m4a",
    "mov": "m4a",
    "mka": "webm",
}
LONGEST_S = 600.0


def heard(content):
    return listen(io.BytesIO(content), LONGEST_S).facts


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [*SOUNDFILE_KINDS, *AV_KINDS])
def test_the_facts_are_those_of_the_sound_in_every_format(kind, channels):
    voice = speech(48_000)
    samples = voice if channels == 1 else np.stack([voice, 0.5 * voice], axis=1)

    facts = heard(coded(samples, 48_000, kind))

    assert facts.format == FORMATS.get(kind, kind)
    assert (facts.sample_rate, facts.channels) == (48_000, channels)
    assert facts.duration_s == pytest.approx(len(voice) / 48_000, abs=0.1)
    expected_lufs = pyloudnorm.Meter(48_000).integrated_loudness(samples)
    assert facts.loudness_lufs == pytest.approx(expected_lufs, abs=0.3)
    assert facts.peak_dbfs == pytest.approx(20 * np.log10(np.abs(samples).max()), abs=1.0)


def test_what_was_made_here_is_measured_without_decoding_it():
    waveform, file = Waveform(speech(), 24_000), io.BytesIO()
    write_wav(waveform, file)

    assert facts_of(waveform, "wav") == heard(file.getvalue())


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.raw", "a"])
def test_a_path_is_listened_to_like_an_open_file_whatever_its_name(tmp_path, name):
    content = coded(speech(), 24_000, "flac")
    (tmp_path / name).write_bytes(content)

    with (tmp_path / name).open("rb") as stream:
        stream.read(50)
        assert listen(stream, LONGEST_S) == listen(tmp_path / name, LONGEST_S)
        assert not stream.closed
    assert heard(content).format == "flac"


@pytest.mark.parametrize("kind", ["wav 16 bit", "wav 24 bit", "wav 64-bit float", "wavex"])
@pytest.mark.parametrize("whole", [None, 0, 36, 0x7FFFFFFF])
@pytest.mark.parametrize("samples", [0, 10**9, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_header_that_lies_about_sizes_is_judged_by_what_is_there(kind, whole, samples):
    content = bytearray(coded(speech(), 24_000, kind))
    data = content.index(b"data")
    content[data + 4 : data + 8] = samples.to_bytes(4, "little")
    if whole is not None:
        content[4:8] = whole.to_bytes(4, "little")

    facts = heard(bytes(content))

    assert facts.duration_s == pytest.approx(len(speech()) / 24_000, abs=0.001)
    assert facts.loudness_lufs == pytest.approx(facts_of(Waveform(speech(), 24_000), "wav").loudness_lufs, abs=0.05)


def test_a_wav_without_samples_is_too_short():
    with pytest.raises(InvalidAudio, match="shorter"):
        heard(coded(np.zeros(0, np.float32), 24_000, "wav 16 bit"))


def test_a_wav_that_was_streamed_is_as_long_as_what_came():
    content = wav_head(24_000, None) + speech().astype("<f4").tobytes()

    assert heard(content).duration_s == len(speech()) / 24_000


@pytest.mark.parametrize("kind", ["wav 16 bit", "mp3", "ogg", "aac", "webm"])
def test_a_file_that_was_cut_off_is_as_long_as_what_can_be_decoded(kind):
    content = coded(speech(48_000), 48_000, kind)

    facts = heard(content[: len(content) // 2])

    assert 0.3 < facts.duration_s / (len(speech(48_000)) / 48_000) < 0.7


@pytest.mark.parametrize("kind", ["alac", "flac", "wav 24 bit", "mp3"])
def test_what_lasts_too_long_is_refused_without_decoding_on(kind):
    stream = io.BytesIO(coded(np.tile(speech(), 20), 24_000, kind))
    looks = []

    with pytest.raises(UnusableAudio, match="longer than 5 seconds"):
        listen(stream, 5, lambda: looks.append(1))

    assert len(looks) <= 3


def test_the_bound_is_on_the_samples_and_not_on_the_seconds_alone():
    stream = io.BytesIO(coded(np.zeros((192_000 * 6, 8), np.float32), 192_000, "flac"))
    looks = []

    with pytest.raises(UnusableAudio, match="longer than 5 seconds, the most for 8 channels at 192000 Hz"):
        listen(stream, 80, lambda: looks.append(1))

    assert len(looks) <= 5 * 192_000 / BLOCK_FRAMES + 1
    assert listen(stream, 96, lambda: None).facts.duration_s == 6


def test_what_was_made_here_is_measured_without_another_copy_of_it():
    waveform = Waveform(np.tile(speech(), 50), 24_000)
    tracemalloc.start()

    facts_of(waveform, "wav")

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < waveform.samples.nbytes / 4


def test_listening_can_be_left_between_blocks():
    looks = []

    def leave_at_the_third():
        looks.append(1)
        if len(looks) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        listen(io.BytesIO(coded(np.tile(speech(), 5), 24_000, "alac")), LONGEST_S, leave_at_the_third)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"To whom it may concern. " * 200, b"\0" * 5000, b"%PDF-1.7\n"])
@pytest.mark.parametrize("name", ["letter.wav", "letter.mp3", "letter.m4a"])
def test_what_is_no_audio_is_refused_without_naming_the_path(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidAudio) as refusal:
        listen(tmp_path / name, LONGEST_S)

    assert str(tmp_path) not in refusal.value.message


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (speech()[:2000], 24_000, "shorter"),
        (np.zeros(0, np.float32), 24_000, "shorter"),
        (np.where(np.arange(72_000) == 70_000, np.nan, 0.1), 24_000, "not numbers"),
        (np.where(np.arange(72_000) == 70_000, np.inf, 0.1), 24_000, "not numbers"),
        (speech(), 4000, "4000 Hz"),
        (speech(), 400_000, "400000 Hz"),
        (np.zeros((24_000, 9), np.float32), 24_000, "9 channels"),
    ],
)
@pytest.mark.parametrize("judge", [False, True])
def test_what_cannot_be_used_is_refused_with_the_reason(samples, rate, reason, judge):
    with pytest.raises(InvalidAudio, match=reason):
        listen(io.BytesIO(coded(samples, rate, "wav 64-bit float")), LONGEST_S, judge=judge)


def test_silence_has_neither_loudness_nor_peak():
    facts = heard(coded(np.zeros(48_000, np.float32), 24_000, "flac"))

    assert (facts.loudness_lufs, facts.peak_dbfs) == (None, None)
    assert facts.duration_s == 2


def test_the_peak_is_that_of_the_loudest_channel_and_may_exceed_full_scale():
    samples = np.stack([0.1 * speech(), 4 * speech() / np.abs(speech()).max()], axis=1)

    facts = heard(coded(samples, 24_000, "wav 64-bit float"))

    assert facts.peak_dbfs == pytest.approx(20 * np.log10(4), abs=0.01)


@pytest.mark.parametrize("kind", ["flac", "alac"])
def test_a_long_recording_is_never_held_whole(kind):
    stream = io.BytesIO(coded(np.tile(speech(), 50), 24_000, kind))
    listen(io.BytesIO(coded(speech(), 24_000, kind)), LONGEST_S, judge=True)
    tracemalloc.start()

    facts = listen(stream, LONGEST_S, judge=True).facts

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.duration_s > 300
    assert peak_bytes < 8e6


def test_the_quality_is_judged_when_asked_for():
    stream = io.BytesIO(coded(np.tile(speech(), 2), 24_000, "m4a"))

    with_quality, without = listen(stream, LONGEST_S, judge=True), listen(stream, LONGEST_S)

    assert with_quality.facts == without.facts
    assert without.quality is None
    assert with_quality.quality is not None
    assert with_quality.quality["rating"] == "good"
    assert json.loads(json.dumps(with_quality.quality, allow_nan=False)) == with_quality.quality


def test_a_whole_minute_of_vorbis_is_decoded():
    content = coded(np.tile(speech(48_000), 10), 48_000, "ogg")

    assert heard(content).duration_s == pytest.approx(len(speech(48_000)) * 10 / 48_000, abs=0.05)
    assert soundfile.info(io.BytesIO(content)).subtype == "VORBIS"
