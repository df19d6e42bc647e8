"""MP3, Opus, AAC and FLAC by FFmpeg's libraries in PyAV: bytes come out while samples go in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utils.audio.quantize import to_16_bits, to_24_bits
from utils.audio.resample import StreamResampler

SAMPLES_AT_ONCE = 1 << 15
# Of Ogg: a page of one second, which is right for files, would leave a second late. Each has 28 bytes of its own: for
# pages of one frame that were 11 kbit/s, of two 6.
LIVE_PAGE_US = "40000"
FILE_PAGE_US = "1000000"
LIVE_BLOCK = "480"  # samples of FLAC that are one block: by itself the encoder takes some 0.1 s


class Sink(Protocol):
    """What encoded bytes are written to; it need not be seekable."""

    def write(self, content: bytes, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Coding:
    """A codec in a container, and the rates in Hz that it knows: other samples are brought to the next one above.

    No rates are all rates. What else FFmpeg is told: of the container, for a file and for a stream, and of the codec.
    """

    codec: str
    container: str
    sample_format: str
    rates: tuple[int, ...] = ()
    file: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


OPUS = Coding(
    "libopus",
    "ogg",
    "flt",
    (8_000, 12_000, 16_000, 24_000, 48_000),
    file={"page_duration": FILE_PAGE_US},
    live={"page_duration": LIVE_PAGE_US},
    options={"vbr": "constrained"},  # left to itself the encoder takes a fifth more for voices than it was told
)
AAC = Coding("aac", "adts", "fltp", (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000))
# Bare frames, since what an ID3 tag or a first frame of information would tell is not known before the end.
MP3 = Coding(
    "libmp3lame",
    "mp3",
    "fltp",
    (16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    live={"write_xing": "0", "id3v2_version": "0"},
)
FLAC_24, FLAC_16 = (
    Coding("flac", "flac", numbers, live={"metadata_header_padding": "0"}, options={"frame_size": LIVE_BLOCK})
    for numbers in ("s32", "s16")
)
WHOLE_NUMBERS: Mapping[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {"s32": to_24_bits, "s16": to_16_bits}


def rate_for(rates: tuple[int, ...], sample_rate: int) -> int:
    """The one of the rates, which rise, that samples of another are brought to."""
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


class AvEncoder:
    """Writes one stream of samples, mono or stereo, to a sink. Equal samples give equal bytes. Takes a thread's time.

    `bitrate_kbps` is for codecs that lose something, `comments` are names and values that a container of Ogg carries.
    """

    def __init__(
        self,
        sink: Sink,
        coding: Coding,
        sample_rate: int,
        bitrate_kbps: int | None = None,
        *,
        channels: int = 1,
        comments: Iterable[tuple[str, str]] = (),
        is_live: bool = False,
    ) -> None:
        import av

        self._rate = rate_for(coding.rates or (sample_rate,), sample_rate)
        self._resampler = StreamResampler(sample_rate, self._rate, channels) if self._rate != sample_rate else None
        self._layout = "mono" if channels == 1 else "stereo"
        # bitexact leaves out what differs from one encoding to the next: serial numbers, the encoder's version
        options = {"fflags": "+bitexact", **(coding.live if is_live else coding.file)}
        self._container = av.open(_OneWay(sink), "w", format=coding.container, options=options)
        stream = self._container.add_stream(coding.codec, rate=self._rate, options=dict(coding.options))
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        context = stream.codec_context
        context.layout, context.format = self._layout, coding.sample_format
        if bitrate_kbps:
            context.bit_rate = bitrate_kbps * 1000
        stream.metadata.update(comments)
        self._numbers = coding.sample_format if coding.sample_format in WHOLE_NUMBERS else "flt"
        self._position = 0

    def encode(self, samples: NDArray[np.float32]) -> None:
        """The next samples, shape (n,), or (n, 2) in stereo."""
        self._write(self._resampler.add(samples) if self._resampler else samples)

    def finish(self) -> None:
        if self._resampler:
            self._write(self._resampler.rest())
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def _write(self, samples: NDArray[np.float32]) -> None:
        import av

        for start in range(0, len(samples), SAMPLES_AT_ONCE):
            part = np.ascontiguousarray(samples[start : start + SAMPLES_AT_ONCE], np.float32)
            values = WHOLE_NUMBERS[self._numbers](part) if self._numbers in WHOLE_NUMBERS else part
            frame = av.AudioFrame.from_ndarray(values.reshape(1, -1), format=self._numbers, layout=self._layout)
            frame.sample_rate, frame.pts = self._rate, self._position
            self._position += len(part)
            self._container.mux(self._stream.encode(frame))


class _OneWay:
    """A sink as FFmpeg sees it: without a way back, so that nothing is written twice."""

    def __init__(self, sink: Sink) -> None:
        self.write = sink.write
