from __future__ import annotations

import http.server
import io
import os
import resource
import struct
import threading

import av
import numpy as np
import pytest

from resilience.errors import InvalidAudio, UnusableAudio
from tests.recordings import vowels
from tests.utils.audio.coded import AV_KINDS, coded, film, speech
from utils.audio.decode import BLOCK_FRAMES, open_recording, read_recording
from utils.audio.long_recording import measure, read_windows, windows


def never():
    pass


def lag_s(heard, samples):
    """By how much the one comes after the other, in seconds."""
    size = 2 * max(len(heard), len(samples))
    likeness = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(samples, size)))
    lag = int(np.argmax(likeness))
    return (lag if lag < size // 2 else lag - size) / 24_000


@pytest.mark.parametrize("kind", AV_KINDS)
@pytest.mark.parametrize("name", ["voice.wav", "voice.m4a", "voice"])
def test_the_content_decides_and_not_the_name(tmp_path, kind, name):
    samples = speech(48_000)
    (tmp_path / name).write_bytes(coded(samples, 48_000, kind))

    heard = read_recording(tmp_path / name, 60)

    assert heard.sample_rate == 48_000
    assert heard.duration_s == pytest.approx(len(samples) / 48_000, abs=0.1)
    assert heard.samples.dtype == np.float32
    assert np.abs(heard.samples).max() == pytest.approx(np.abs(samples).max(), rel=0.3)


@pytest.mark.parametrize("kind", ["m4a", "mp4", "alac", "mov"])
def test_what_an_encoder_puts_before_the_sound_is_not_heard(kind):
    samples = vowels(150, 3.0).samples

    heard = read_recording(io.BytesIO(coded(samples, 24_000, kind)), 60)

    assert lag_s(heard.samples, samples) == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("kind", AV_KINDS)
def test_channels_are_mixed(kind):
    both = np.stack([speech(48_000), np.zeros_like(speech(48_000))], axis=1)

    heard = read_recording(io.BytesIO(coded(both, 48_000, kind)), 60)

    assert heard.samples.ndim == 1
    assert np.abs(heard.samples).max() == pytest.approx(np.abs(both).max() / 2, rel=0.3)


def test_a_tag_before_bare_aac_is_passed_over():
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)

    heard = read_recording(io.BytesIO(tag + coded(speech(), 24_000, "aac")), 60)

    assert heard.duration_s == pytest.approx(len(speech()) / 24_000, abs=0.1)


def test_no_more_than_asked_for_is_decoded():
    stream = io.BytesIO(coded(np.tile(speech(), 3), 24_000, "aac"))

    heard = read_recording(stream, 2)

    assert heard.duration_s == 2
    assert stream.tell() < len(stream.getvalue()) / 2


def test_blocks_are_as_long_as_asked_for_until_the_end():
    with open_recording(io.BytesIO(coded(np.tile(speech(), 2), 24_000, "alac"))) as opened:
        lengths = [len(opened.read(BLOCK_FRAMES)) for _ in range(6)]

    assert sum(lengths) == len(speech()) * 2
    assert lengths[:4] == [BLOCK_FRAMES] * 4
    assert lengths[-1] == 0


@pytest.mark.parametrize("kind", ["m4a", "webm", "aac"])
def test_windows_read_one_by_one_are_those_of_the_whole(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(coded(speech(48_000), 48_000, kind))
    whole = read_recording(path, 60).samples

    recording = measure(path, 60, never)
    spans = [*windows(recording.count, 96_000, 9600)]
    heard = [*read_windows(recording, iter(spans), 48_000, never)]

    assert recording.count == len(whole)
    assert len(heard) >= 3
    for (start, end), window in zip(spans, heard, strict=True):
        np.testing.assert_allclose(window.samples, whole[start:end], atol=1e-6)


def test_aac_that_was_cut_off_is_as_long_as_what_is_there():
    content = coded(speech(), 24_000, "aac")

    heard = read_recording(io.BytesIO(content[: len(content) // 2 + 37]), 60)

    assert heard.duration_s == pytest.approx(len(speech()) / 24_000 / 2, rel=0.2)


@pytest.mark.parametrize("kind", ["m4a", "webm", "aac", "mka"])
def test_what_is_damaged_is_refused_or_read_but_never_more(kind):
    content = coded(speech(48_000), 48_000, kind)
    random = np.random.default_rng(0)

    for _ in range(20):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 20):
            damaged[position] = random.integers(0, 256)
        try:
            heard = read_recording(io.BytesIO(bytes(damaged)), 60)
        except InvalidAudio:
            continue
        assert np.isfinite(heard.samples).all()


@pytest.mark.parametrize("head", [b"\0\0\0\x20ftypM4A ", b"\x1a\x45\xdf\xa3", b"\xff\xf1\x50\x80"])
def test_a_right_beginning_alone_is_no_audio(head):
    with pytest.raises(InvalidAudio):
        read_recording(io.BytesIO(head + b"nothing that could be heard " * 50), 60)


def test_a_film_without_sound_is_refused_with_the_reason():
    with pytest.raises(UnusableAudio, match="no audio"):
        read_recording(io.BytesIO(film("mp4")), 60)


def test_a_codec_that_ffmpeg_does_not_know_is_refused():
    content = coded(speech(), 24_000, "m4a").replace(b"mp4a", b"abcd").replace(b"esds", b"free")

    with pytest.raises(UnusableAudio, match="unknown"):
        read_recording(io.BytesIO(content), 60)


def test_an_index_over_the_bound_is_no_damage():
    content = bytearray(coded(speech(), 24_000, "m4a"))
    sizes = content.index(b"stsz")
    content[sizes + 8 : sizes + 16] = struct.pack(">II", 0, 40_000_000)

    with pytest.raises(UnusableAudio, match="index"):
        read_recording(io.BytesIO(bytes(content)), 60)


def test_a_small_file_that_claims_billions_of_samples_takes_no_memory():
    content = bytearray(coded(speech(), 24_000, "m4a"))
    count = 80_000_000
    sizes, chunks, times = (content.index(box) for box in (b"stsz", b"stsc", b"stts"))
    content[sizes + 8 : sizes + 16] = struct.pack(">II", 1, count)
    content[chunks + 12 : chunks + 24] = struct.pack(">III", 1, count, 1)
    content[times + 12 : times + 16] = struct.pack(">I", count)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(UnusableAudio):
        read_recording(io.BytesIO(bytes(content)), 60)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A recording in a folder, and behind an address; says what was asked of the address."""
    tmp_path = tmp_path_factory.mktemp("elsewhere")
    (tmp_path / "other.aac").write_bytes(coded(speech(), 24_000, "aac"))
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=os.fspath(tmp_path))

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path, asked
    server.shutdown()
    thread.join()
    server.server_close()


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:6.0,\n{}\n#EXT-X-ENDLIST\n"
HLS_MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000\n{}\n"
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT6S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/mp4">
<Representation id="1" bandwidth="64000" codecs="mp4a.40.2" audioSamplingRate="24000"><BaseURL>{}</BaseURL>
</Representation></AdaptationSet></Period></MPD>
"""
CONCAT = "ffconcat version 1.0\nfile '{}'\n"


@pytest.mark.parametrize("text", [HLS, HLS_MASTER, DASH, CONCAT], ids=["hls", "hls master", "dash", "concat"])
@pytest.mark.parametrize("head", [b"", b"\0\0\0\x20ftypM4A ", b"\x1a\x45\xdf\xa3", b"\xff\xf1", b"ID3\4\0\0\0\0\0\0"])
@pytest.mark.parametrize("where", ["address", "file", "name"])
@pytest.mark.parametrize("name", ["list.m3u8", "list.m4a", "list.mpd"])
def test_a_playlist_is_no_recording_and_nothing_it_names_is_opened(elsewhere, text, head, where, name):
    address, folder, asked = elsewhere
    asked.clear()
    target = {"address": f"{address}/other.aac", "file": f"file:{folder}/other.aac", "name": "other.aac"}[where]
    (folder / name).write_bytes(head + text.format(target).encode())

    with pytest.raises(InvalidAudio):
        read_recording(folder / name, 60)

    assert asked == []


def test_a_playlist_would_be_followed_if_ffmpeg_were_let(elsewhere):
    address, folder, asked = elsewhere
    asked.clear()
    (folder / "list").write_text(HLS.format(f"{address}/other.aac"), encoding="utf-8")

    with av.open(os.fspath(folder / "list"), format="hls", options={"protocol_whitelist": "file,http,tcp"}) as opened:
        assert opened.streams.audio

    assert asked
