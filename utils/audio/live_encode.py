"""From samples that are still being made to bytes that can be played already."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from utils.audio.av_encode import AAC, FLAC_16, FLAC_24, MP3, OPUS, AvEncoder, Coding
from utils.audio.encode import MP3_GAIN, UNKNOWN, pcm, wav_head
from utils.audio.formats import Bitrates
from utils.audio.resample import StreamResampler

PCM = 1  # the format of RIFF that is bare integers


class LiveEncoder(Protocol):
    """One stream. Takes a thread's time, as `encode.write_audio` does."""

    def encode(self, samples: NDArray[np.float32]) -> bytes: ...
    def finish(self) -> bytes: ...


def live_encoder(format_name: str, sample_rate: int, bitrates: Bitrates, *, integer16: bool = False) -> LiveEncoder:
    """An encoder for one of `formats.FORMATS`. Raises ValueError for another.

    wav and flac are as in files, 32-bit float and 24 bits, their lengths left open; with `integer16` both have 16-bit
    samples, those of pcm, and the head of wav is the classic one of 44 bytes.
    """
    match format_name:
        case "wav" if integer16:
            return _Bare(_integer_wav_head(sample_rate), pcm)
        case "wav":
            return _Bare(wav_head(sample_rate, None), _floats)
        case "pcm":
            return _Bare(b"", pcm)
        case "flac":
            return _Av(FLAC_16 if integer16 else FLAC_24, sample_rate)
        case "mp3":
            return _Av(MP3, sample_rate, bitrates.mp3, MP3_GAIN)
        case "opus":
            return _Av(OPUS, sample_rate, bitrates.opus)
        case "aac":
            return _Av(AAC, sample_rate, bitrates.aac)
        case _:
            raise ValueError(f"no live encoder for {format_name}")


class Resampled:
    """An encoder that is given samples at another rate than its own, both in Hz."""

    def __init__(self, encoder: LiveEncoder, from_rate: int, to_rate: int) -> None:
        self._encoder = encoder
        self._resampler = StreamResampler(from_rate, to_rate)

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        return self._encoder.encode(self._resampler.add(samples))

    def finish(self) -> bytes:
        return self._encoder.encode(self._resampler.rest()) + self._encoder.finish()


class _Bare:
    """A head, and the samples as they are."""

    def __init__(self, head: bytes, numbers: Callable[[NDArray[np.float32]], bytes]) -> None:
        self._head = head
        self._numbers = numbers

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        head, self._head = self._head, b""
        return head + self._numbers(samples)

    def finish(self) -> bytes:
        return self._head


class _Av:
    """mp3, aac and flac frame by frame, opus in pages of 40 ms."""

    def __init__(self, coding: Coding, sample_rate: int, bitrate_kbps: int | None = None, gain: float = 1.0) -> None:
        self._sink = _Sink()
        self._encoder = AvEncoder(self._sink, coding, sample_rate, bitrate_kbps, is_live=True)
        self._gain = np.float32(gain)

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        self._encoder.encode(samples if self._gain == 1 else samples * self._gain)
        return self._sink.taken()

    def finish(self) -> bytes:
        self._encoder.finish()
        return self._sink.taken()


class _Sink:
    """What an encoder writes to: what is written can be taken out."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, content: bytes, /) -> int:
        self._written += content
        return len(content)

    def taken(self) -> bytes:
        content = bytes(self._written)
        self._written.clear()
        return content


def _floats(samples: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(samples, dtype="<f4").tobytes()


def _integer_wav_head(sample_rate: int) -> bytes:
    width = 2
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, PCM, 1, sample_rate, sample_rate * width, width, 8 * width)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN)
