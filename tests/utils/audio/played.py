"""What a player makes of our files: FFmpeg for opus, aac and flac, libsndfile for wav and mp3, nobody for pcm."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress

import av
import numpy as np
from numpy.typing import NDArray

from tests.listen import read
from utils.audio.waveform import Waveform

READERS = {"opus": "ogg", "aac": "aac", "flac": "flac"}  # FFmpeg's names


def played(content: bytes, format_name: str, pcm_rate: int = 24_000) -> Waveform:
    """The sound of a whole file, or of as much of one as there is; pcm does not tell its rate."""
    if format_name == "pcm":
        return Waveform((np.frombuffer(content, "<i2") / 32767).astype(np.float32), pcm_rate)
    if format_name not in READERS:
        return read(content)
    with av.open(io.BytesIO(content), "r", format=READERS[format_name]) as container:
        parts = list(_whole_frames(container))
        rate = container.streams.audio[0].codec_context.sample_rate
    return Waveform(np.concatenate(parts), rate)


def _whole_frames(container: av.container.InputContainer) -> Iterator[NDArray[np.float32]]:
    """The network may cut the last frame in two: a player waits for the rest of it."""
    with suppress(av.error.InvalidDataError):
        for frame in container.decode(audio=0):
            yield _samples(frame)


def told_duration_s(content: bytes, format_name: str) -> float:
    """How long a player says that a file is, before it plays it."""
    with av.open(io.BytesIO(content), "r", format=READERS[format_name]) as container:
        assert container.duration is not None
        return container.duration / 1_000_000


def _samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    samples = frame.to_ndarray()
    full_scale = {"int16": 1 << 15, "int32": 1 << 31}.get(samples.dtype.name, 1)
    return (samples.reshape(-1) / full_scale).astype(np.float32)
