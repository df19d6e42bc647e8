"""From samples that are still being made to bytes that can be played already."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from utils.audio.av_encode import AAC, OPUS, AvEncoder, Coding
from utils.audio.encode import MP3_GAIN, mp3_how, pcm, wav_head
from utils.audio.formats import Bitrates

LIVE_FORMATS = ("wav", "mp3", "opus", "aac", "pcm")


class LiveEncoder(Protocol):
    """One stream. Takes a thread's time, as `encode.write_audio` does."""

    def encode(self, samples: NDArray[np.float32]) -> bytes: ...
    def finish(self) -> bytes: ...


def live_encoder(format_name: str, sample_rate: int, bitrates: Bitrates) -> LiveEncoder:
    """An encoder for one of `LIVE_FORMATS`. Raises ValueError for another."""
    match format_name:
        case "wav":
            return _Wav(sample_rate)
        case "mp3":
            return _Mp3(sample_rate, bitrates.mp3)
        case "opus":
            return _Av(OPUS, sample_rate, bitrates.opus)
        case "aac":
            return _Av(AAC, sample_rate, bitrates.aac)
        case "pcm":
            return _Pcm()
        case _:
            raise ValueError(f"no live encoder for {format_name}")


class _Wav:
    """32-bit float, mono, under a head that leaves the length open."""

    def __init__(self, sample_rate: int) -> None:
        self._head = wav_head(sample_rate, None)

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        head, self._head = self._head, b""
        return head + np.ascontiguousarray(samples, dtype="<f4").tobytes()

    def finish(self) -> bytes:
        return b""


class _Mp3:
    """Constant bit rate. The frame at its start that would tell the length is silent: 24 ms and LAME's delay remain."""

    def __init__(self, sample_rate: int, bitrate_kbps: int) -> None:
        import soundfile

        self._sink = _Sink()
        self._file = soundfile.SoundFile(self._sink, "w", sample_rate, 1, **mp3_how(bitrate_kbps, sample_rate))

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        self._file.write(samples * np.float32(MP3_GAIN))
        return self._sink.taken()

    def finish(self) -> bytes:
        self._file.close()
        return self._sink.taken()


class _Av:
    """Opus in pages of 20 ms, AAC frame by frame."""

    def __init__(self, coding: Coding, sample_rate: int, bitrate_kbps: int) -> None:
        self._sink = _Sink()
        self._encoder = AvEncoder(self._sink, coding, sample_rate, bitrate_kbps, is_live=True)

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        self._encoder.encode(samples)
        return self._sink.taken()

    def finish(self) -> bytes:
        self._encoder.finish()
        return self._sink.taken()


class _Pcm:
    """Bare 16-bit samples."""

    def encode(self, samples: NDArray[np.float32]) -> bytes:
        return pcm(samples)

    def finish(self) -> bytes:
        return b""


class _Sink:
    """The file that an encoder writes to: what is written can be taken out, and stays where it was put."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._position = 0

    def write(self, content: bytes) -> int:
        self._written += content
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def seek(self, _offset: int, _whence: int = 0) -> int:
        return self._position

    def taken(self) -> bytes:
        content = bytes(self._written)
        self._written.clear()
        return content
