"""From samples, at once or as they come, to a whole file."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from utils.audio.av_encode import AAC, OPUS, AvEncoder, Coding, rate_for
from utils.audio.chapters import (
    COMMENT_BLOCK,
    LAST_BLOCK,
    Chapter,
    comment_block,
    comments,
    id3_tag,
    padding_block,
)
from utils.audio.formats import Bitrates
from utils.audio.quantize import to_16_bits
from utils.audio.resample import StreamResampler
from utils.audio.waveform import Extent, Waveform

IEEE_FLOAT = 3
LARGEST_RIFF = 0xFFFFFFFE  # bytes after its first eight
MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
FLAC_INFO = 42  # bytes of the mark and the block that come first
MP3_GAIN = 1 / 0.95  # LAME makes everything that much quieter, 0.45 dB, so that it never overshoots full scale
PART = 1 << 18  # samples that are encoded between two looks whether anybody still wants them
LOSSY_MARGIN, LEAST_BYTES = 1.5, 1 << 16
UNKNOWN = 0xFFFFFFFF  # a size that a RIFF head cannot know, or hold

Add = Callable[[NDArray[np.float32]], None]


def write_audio(
    waveform: Waveform,
    file: BinaryIO,
    format_name: str,
    bitrates: Bitrates,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the finished file, as `encoding` does. `check` is called between parts, and may raise to leave."""
    extent = Extent(len(waveform.samples), waveform.sample_rate)
    with encoding(file, format_name, extent, bitrates) as add:
        for start in range(0, extent.count, PART):
            check()
            add(waveform.samples[start : start + PART])


def write_wav(waveform: Waveform, file: BinaryIO) -> None:
    """A WAV file of 32-bit float samples, mono."""
    write_audio(waveform, file, "wav", Bitrates())


def encoding(
    file: BinaryIO, format_name: str, extent: Extent, bitrates: Bitrates, chapters: Sequence[Chapter] = ()
) -> AbstractContextManager[Add]:
    """Write a file while its samples come: whoever is in the block adds them, `extent.count` in all.

    wav as 32-bit float, mp3 at a constant bit rate, flac with 24 bits, opus in Ogg, aac in ADTS, pcm as bare 16-bit
    samples. Equal samples give equal bytes. Blocks have the shape (n,) or (n, channels); there are one or two channels.
    mp3 carries `chapters`, and so do opus and flac, up to a thousand. The file is whole when the block is left, unless
    by an exception; it must be seekable. Takes a thread's time: about 0.02 s per second of audio for mp3, opus and aac,
    next to nothing for the others.
    """
    match format_name:
        case "wav":
            return _wav(file, extent)
        case "mp3":
            return _mp3(file, extent, bitrates.mp3, chapters)
        case "flac":
            return _flac(file, extent, chapters)
        case "opus":
            return _by_av(file, extent, OPUS, bitrates.opus, chapters)
        case "aac":
            return _by_av(file, extent, AAC, bitrates.aac, ())
        case "pcm":
            return nullcontext(lambda samples: _written(file, pcm(samples)))
        case _:
            raise ValueError(f"no encoder for {format_name}")


def most_bytes(format_name: str, extent: Extent, bitrates: Bitrates) -> int:
    """About the most that a file of that much audio can have."""
    kbps = {"mp3": bitrates.mp3, "opus": bitrates.opus, "aac": bitrates.aac}.get(format_name)
    if kbps:
        return round(extent.duration_s * kbps * 1000 / 8 * LOSSY_MARGIN) + LEAST_BYTES
    return extent.count * extent.channels * (2 if format_name == "pcm" else 4) + LEAST_BYTES


@contextmanager
def _wav(file: BinaryIO, extent: Extent) -> Iterator[Add]:
    """Written here and not by libsndfile, which puts the time of day into a PEAK chunk of float files: the same request
    would never give the same bytes twice.
    """
    file.write(wav_head(extent.sample_rate, extent.count, extent.channels))
    yield lambda samples: _written(file, np.ascontiguousarray(samples, dtype="<f4").data)


def _written(file: BinaryIO, content: bytes | memoryview) -> None:
    file.write(content)


def pcm(samples: NDArray[np.float32]) -> bytes:
    """Signed 16-bit samples, little-endian."""
    return to_16_bits(samples).tobytes()


def wav_head(sample_rate: int, count: int | None, channels: int = 1) -> bytes:
    """All that comes before the samples of a WAV file; None as their count is that of a stream that has not ended.

    Layout: Microsoft's RIFF WAVE, format 3 with its fact chunk. The sizes of a stream are the largest there are, which
    players take for "until the end". A file of more than 4 GiB is RF64 (EBU Tech 3306): its sizes stand in a chunk of
    their own.
    """
    width = 4 * channels
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, IEEE_FLOAT, channels, sample_rate, sample_rate * width, width, 32, 0)
    inner = 4 + len(form) + 12 + 8
    is_large = count is not None and inner + count * width > LARGEST_RIFF
    if is_large or count is None:
        length = data_size = size = UNKNOWN
    else:
        length, data_size, size = count, count * width, inner + count * width
    chunks = [form, struct.pack("<4sII4sI", b"fact", 4, length, b"data", data_size)]
    if is_large and count is not None:
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, inner + 36 + count * width, count * width, count, 0)
        return b"".join((struct.pack("<4sI4s", b"RF64", size, b"WAVE"), sizes, *chunks))
    return b"".join((struct.pack("<4sI4s", b"RIFF", size, b"WAVE"), *chunks))


def mp3_how(bitrate_kbps: int, sample_rate: int) -> dict[str, Any]:
    """What soundfile is told so that it writes MP3 at a constant bit rate."""
    level = _mp3_level(bitrate_kbps, sample_rate)
    return {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": level}


@contextmanager
def _mp3(file: BinaryIO, extent: Extent, bitrate_kbps: int, chapters: Sequence[Chapter]) -> Iterator[Add]:
    rate = rate_for(MP3_RATES, extent.sample_rate)
    resampler = StreamResampler(extent.sample_rate, rate, extent.channels) if rate != extent.sample_rate else None
    if chapters:
        file.write(id3_tag(chapters))
    with _by_soundfile(file, replace(extent, sample_rate=rate), **mp3_how(bitrate_kbps, rate)) as write:
        yield lambda samples: write((resampler.add(samples) if resampler else samples) * np.float32(MP3_GAIN))
        if resampler:
            write(resampler.rest() * np.float32(MP3_GAIN))


@contextmanager
def _flac(file: BinaryIO, extent: Extent, chapters: Sequence[Chapter]) -> Iterator[Add]:
    """With chapters the file is written further back at first: the comments, with their encoder's name, and blocks of
    padding then take the place of what comes before the frames."""
    room = len(comment_block(chapters, b"")) + 4 if chapters else 0
    file.seek(room)
    with _by_soundfile(file, extent, format="FLAC", subtype="PCM_24") as write:
        yield write
    if chapters:
        _put_comments(file, room, chapters)


def _put_comments(file: BinaryIO, room: int, chapters: Sequence[Chapter]) -> None:
    """A stream of FLAC that begins at `room` becomes one that begins at 0, with chapters."""
    file.seek(room)
    info, kind = file.read(FLAC_INFO), 0
    vendor, end = b"", room + FLAC_INFO
    while not kind & LAST_BLOCK:
        file.seek(end)
        kind, size = file.read(1)[0], int.from_bytes(file.read(3), "big")
        if kind & ~LAST_BLOCK == COMMENT_BLOCK:
            vendor = file.read(int.from_bytes(file.read(4), "little"))
        end += 4 + size
    head = info + comment_block(chapters, vendor)
    file.seek(0)
    file.write(head + padding_block(end - len(head), is_last=True))
    file.seek(0, os.SEEK_END)


@contextmanager
def _by_soundfile(file: BinaryIO, extent: Extent, **how: Any) -> Iterator[Add]:
    import soundfile

    with soundfile.SoundFile(_FromHere(file), "w", extent.sample_rate, extent.channels, **how) as encoder:
        yield encoder.write


@contextmanager
def _by_av(
    file: BinaryIO, extent: Extent, coding: Coding, bitrate_kbps: int, chapters: Sequence[Chapter]
) -> Iterator[Add]:
    encoder = AvEncoder(
        file, coding, extent.sample_rate, bitrate_kbps, channels=extent.channels, comments=comments(chapters)
    )
    yield encoder.encode
    encoder.finish()


class _FromHere:
    """A file as libsndfile sees it: it begins where it is now."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._start = file, file.tell()
        self.write, self.read = file.write, file.read

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + self._start if whence == os.SEEK_SET else offset, whence) - self._start


def _mp3_level(bitrate_kbps: int, sample_rate: int) -> float:
    """libsndfile's compression level for a constant bit rate: 0 is the format's highest, 1 its lowest.

    MPEG-2 (24 kHz and below) goes from 8 to 160 kbit/s, MPEG-1 (32 kHz and up) from 32 to 320. A level of exactly 1
    fails at some rates.
    """
    lowest, highest = (8, 160) if sample_rate <= 24_000 else (32, 320)
    return min(0.99, max(0.0, (highest - bitrate_kbps) / (highest - lowest)))
