"""From a waveform to a whole file."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from utils.audio.av_encode import AAC, OPUS, AvEncoder, Coding
from utils.audio.formats import Bitrates
from utils.audio.quantize import to_16_bits
from utils.audio.waveform import Waveform

IEEE_FLOAT = 3
MP3_GAIN = 1 / 0.95  # LAME makes everything that much quieter, 0.45 dB, so that it never overshoots full scale
PART = 1 << 18  # samples that are encoded between two looks whether anybody still wants them
UNKNOWN = 0xFFFFFFFF  # a size that a RIFF head cannot know


def write_audio(
    waveform: Waveform,
    file: BinaryIO,
    format_name: str,
    bitrates: Bitrates,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the finished file: wav as 32-bit float, mp3 at a constant bit rate, flac with 24 bits, opus in Ogg, aac in
    ADTS, pcm as bare 16-bit samples.

    Equal samples give equal bytes. `file` must be seekable. `check` is called between parts, and may raise to leave.
    Takes a thread's time: about 0.02 s per second of audio for mp3, opus and aac, next to nothing for the others.
    """
    match format_name:
        case "wav":
            write_wav(waveform, file)
        case "mp3":
            _write_by_soundfile(waveform, file, check, MP3_GAIN, **mp3_how(bitrates.mp3, waveform.sample_rate))
        case "flac":
            _write_by_soundfile(waveform, file, check, format="FLAC", subtype="PCM_24")
        case "opus":
            _write_by_av(waveform, file, check, OPUS, bitrates.opus)
        case "aac":
            _write_by_av(waveform, file, check, AAC, bitrates.aac)
        case "pcm":
            for part in _parts(waveform):
                check()
                file.write(pcm(part))
        case _:
            raise ValueError(f"no encoder for {format_name}")


def write_wav(waveform: Waveform, file: BinaryIO) -> None:
    """A RIFF file of 32-bit float samples, mono.

    Written here and not by libsndfile, which puts the time of day into a PEAK chunk of float files: the same request
    would never give the same bytes twice. Layout: Microsoft's RIFF WAVE, format 3 with its fact chunk.
    """
    samples = np.ascontiguousarray(waveform.samples, dtype="<f4")
    file.write(wav_head(waveform.sample_rate, len(samples)))
    file.write(samples.data)


def pcm(samples: NDArray[np.float32]) -> bytes:
    """Signed 16-bit samples, little-endian."""
    return to_16_bits(samples).tobytes()


def wav_head(sample_rate: int, count: int | None) -> bytes:
    """All that comes before the samples of a WAV file; None as their count is that of a stream that has not ended.

    Its sizes are then the largest there are, which players take for "until the end".
    """
    width = 4
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, IEEE_FLOAT, 1, sample_rate, sample_rate * width, width, 8 * width, 0)
    fact_head = struct.pack("<4sI", b"fact", 4)
    inner = 4 + len(form) + len(fact_head) + 4 + 8
    length = UNKNOWN if count is None else count
    data_size = UNKNOWN if count is None else count * width
    size = UNKNOWN if count is None else inner + data_size
    head = struct.pack("<4sI4s", b"RIFF", size, b"WAVE")
    return b"".join((head, form, fact_head, struct.pack("<I4sI", length, b"data", data_size)))


def mp3_how(bitrate_kbps: int, sample_rate: int) -> dict[str, Any]:
    """What soundfile is told so that it writes MP3 at a constant bit rate."""
    level = _mp3_level(bitrate_kbps, sample_rate)
    return {"format": "MP3", "bitrate_mode": "CONSTANT", "compression_level": level}


def _write_by_soundfile(
    waveform: Waveform, file: BinaryIO, check: Callable[[], None], gain: float = 1.0, **how: Any
) -> None:
    import soundfile

    with soundfile.SoundFile(file, "w", waveform.sample_rate, 1, **how) as encoder:
        for part in _parts(waveform):
            check()
            encoder.write(part if gain == 1 else part * np.float32(gain))


def _write_by_av(
    waveform: Waveform, file: BinaryIO, check: Callable[[], None], coding: Coding, bitrate_kbps: int
) -> None:
    encoder = AvEncoder(file, coding, waveform.sample_rate, bitrate_kbps)
    for part in _parts(waveform):
        check()
        encoder.encode(part)
    encoder.finish()


def _parts(waveform: Waveform) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(waveform.samples), PART):
        yield waveform.samples[start : start + PART]


def _mp3_level(bitrate_kbps: int, sample_rate: int) -> float:
    """libsndfile's compression level for a constant bit rate: 0 is the format's highest, 1 its lowest.

    MPEG-2 (24 kHz and below) goes from 8 to 160 kbit/s, MPEG-1 (32 kHz and up) from 32 to 320. A level of exactly 1
    fails at some rates.
    """
    lowest, highest = (8, 160) if sample_rate <= 24_000 else (32, 320)
    return min(0.99, max(0.0, (highest - bitrate_kbps) / (highest - lowest)))
