from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.errors import FileMissing, InvalidAudio, UnusableAudio
from tests.recordings import vowels
from utils.audio.decode import read_recording
from utils.audio.long_recording import measure, read_windows, windows
from utils.audio.resample import resample

LONGEST_S = 600.0


def never():
    pass


@settings(deadline=None)
@given(st.integers(1, 1_000_000), st.integers(10_000, 100_000), st.data())
def test_windows_cover_all_share_the_overlap_and_are_of_one_length(count, longest, data):
    overlap = data.draw(st.integers(0, longest * 9 // 10))

    spans = [*windows(count, longest, overlap)]

    lengths = [end - start for start, end in spans]
    assert (spans[0][0], spans[-1][1]) == (0, count)
    assert all(end - start == overlap for (_, end), (start, _) in pairwise(spans))
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("rate", [24_000, 16_000, 44_100])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_windows_read_one_by_one_are_those_of_the_whole(tmp_path, name, rate):
    stereo = np.stack([vowels(150, 3.0).samples, vowels(220, 3.0).samples], axis=1)
    soundfile.write(tmp_path / name, stereo, 44_100)
    whole = resample(read_recording(tmp_path / name, 60), rate).samples
    recording = measure(tmp_path / name, LONGEST_S, never)
    spans = [*windows(recording.count_at(rate), rate, rate // 10)]

    heard = [*read_windows(recording, iter(spans), rate, never)]

    assert len(heard) >= 2
    for (start, end), window in zip(spans, heard, strict=True):
        assert len(window.samples) == end - start
        count = min(end, len(whole)) - start
        np.testing.assert_allclose(window.samples[:count], whole[start : start + count], atol=1e-4)


def test_a_long_recording_is_never_held_whole(tmp_path):
    minutes = np.tile(vowels(150, 4.0).samples, 75)
    soundfile.write(tmp_path / "long.flac", minutes, 24_000)
    tracemalloc.start()

    recording = measure(tmp_path / "long.flac", LONGEST_S, never)
    for _ in read_windows(recording, windows(recording.count, 240_000, 2400), 24_000, never):
        pass

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert recording.duration_s == 300
    assert peak_bytes < 60 * 24_000 * 4


def test_a_float_file_beyond_full_scale_is_scaled_in_every_window_alike(tmp_path):
    soundfile.write(tmp_path / "hot.wav", 4 * vowels(150, 3.0).samples, 24_000, subtype="FLOAT")
    whole = read_recording(tmp_path / "hot.wav", 10).samples
    recording = measure(tmp_path / "hot.wav", LONGEST_S, never)

    heard = [*read_windows(recording, windows(recording.count, 24_000, 0), 24_000, never)]

    np.testing.assert_allclose(np.concatenate([window.samples for window in heard]), whole, atol=1e-6)


def test_a_recording_that_was_changed_meanwhile_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", vowels(150, 3.0).samples, 24_000)
    recording = measure(tmp_path / "a.wav", LONGEST_S, never)
    soundfile.write(tmp_path / "a.wav", vowels(150, 1.0).samples, 24_000)

    with pytest.raises(InvalidAudio, match="changed"):
        list(read_windows(recording, windows(recording.count, 24_000, 0), 24_000, never))


@pytest.mark.parametrize(
    ("longest_s", "channels", "rate", "fits"),
    [
        (10, 2, 48_000, True),
        (9.9, 2, 48_000, False),
        (10, 4, 48_000, False),
        (21, 4, 48_000, True),
        (9.9, 1, 8000, False),
    ],
)
def test_what_is_too_long_or_too_much_work_is_refused(tmp_path, longest_s, channels, rate, fits):
    soundfile.write(tmp_path / "a.flac", np.zeros((10 * rate, channels), np.int16), rate)

    if fits:
        assert measure(tmp_path / "a.flac", longest_s, never).duration_s == 10
    else:
        with pytest.raises(UnusableAudio, match="longer"):
            measure(tmp_path / "a.flac", longest_s, never)


def test_a_recording_that_was_removed_meanwhile_is_missing(tmp_path):
    soundfile.write(tmp_path / "a.wav", vowels(150, 3.0).samples, 24_000)
    recording = measure(tmp_path / "a.wav", LONGEST_S, never)
    (tmp_path / "a.wav").unlink()

    with pytest.raises(FileMissing, match="removed while it was being read"):
        next(read_windows(recording, windows(recording.count, 24_000, 0), 24_000, never))
    with pytest.raises(FileMissing, match="removed while it was being read"):
        measure(tmp_path / "a.wav", LONGEST_S, never)


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio at all" * 100)

    with pytest.raises(InvalidAudio):
        measure(tmp_path / "a.wav", LONGEST_S, never)
