"""Recordings as files of every kind that people send, made here."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from utils.audio.resample import resample
from utils.audio.waveform import Waveform

VOICES = Path(__file__).resolve().parents[2] / "data"

# name → FFmpeg's container and codec
AV_KINDS = {
    "aac": ("adts", "aac"),
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "alac": ("ipod", "alac"),
    "mov": ("mov", "pcm_s24le"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "pcm_s16le"),
}
# name → libsndfile's container and subtype
SOUNDFILE_KINDS = {
    "wav 8 bit": ("WAV", "PCM_U8"),
    "wav 16 bit": ("WAV", "PCM_16"),
    "wav 24 bit": ("WAV", "PCM_24"),
    "wav 64-bit float": ("WAV", "DOUBLE"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "aiff": ("AIFF", "PCM_16"),
}


def speech(sample_rate: int = 24_000, times: int = 2, name: str = "male_voice") -> NDArray[np.float32]:
    """Some 3 s of a voice, said again and again."""
    samples, rate = soundfile.read(VOICES / f"{name}.flac", dtype="float32")
    return np.tile(resample(Waveform(samples, rate), sample_rate).samples, times)


def coded(samples: NDArray[np.float32], sample_rate: int, kind: str) -> bytes:
    """The samples, shape (n,) or (n, channels), as a file of the kind."""
    if kind in AV_KINDS:
        return _by_av(samples, sample_rate, *AV_KINDS[kind])
    file = io.BytesIO()
    container, subtype = SOUNDFILE_KINDS[kind]
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", sample_rate, channels, subtype, format=container) as opened:
        for start in range(0, len(samples), sample_rate):  # libsndfile crashes over a long block of Vorbis
            opened.write(samples[start : start + sample_rate])
    return file.getvalue()


def _by_av(samples: NDArray[np.float32], sample_rate: int, container: str, codec: str) -> bytes:
    file = io.BytesIO()
    planes = np.atleast_2d(samples.T)
    layout = "mono" if len(planes) == 1 else "stereo"
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=sample_rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        for start in range(0, planes.shape[1], 1024):
            part = np.ascontiguousarray(planes[:, start : start + 1024], np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode(None))
    return file.getvalue()


def sound(codec: str, container: str) -> bytes:
    """A second of stereo, in whatever codec and container of FFmpeg's: some of which we do not read."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=48_000, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        for start in range(0, 48_000, 1536):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1536), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48_000, start
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode(None))
    return file.getvalue()


def film(container: str) -> bytes:
    """A second of a black picture, without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(10):
            opened.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        opened.mux(stream.encode(None))
    return file.getvalue()
