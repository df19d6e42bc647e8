"""From a waveform to a whole file."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from utils.audio.waveform import Waveform

IEEE_FLOAT = 3


def write_audio(waveform: Waveform, file: BinaryIO, format_name: str, mp3_bitrate_kbps: int) -> None:
    """Write the finished file: wav as 32-bit float, mp3 at a constant bit rate, flac with 24 bits.

    Equal samples give equal bytes. `file` must be seekable. Takes a thread's time: about 0.02 s per second of audio
    for mp3, next to nothing for the others.
    """
    match format_name:
        case "wav":
            write_wav(waveform, file)
        case "mp3":
            _write_by_soundfile(
                waveform,
                file,
                format="MP3",
                bitrate_mode="CONSTANT",
                compression_level=_mp3_level(mp3_bitrate_kbps, waveform.sample_rate),
            )
        case "flac":
            _write_by_soundfile(waveform, file, format="FLAC", subtype="PCM_24")
        case _:
            raise ValueError(f"no encoder for {format_name}")


def write_wav(waveform: Waveform, file: BinaryIO) -> None:
    """A RIFF file of 32-bit float samples, mono.

    Written here and not by libsndfile, which puts the time of day into a PEAK chunk of float files: the same request
    would never give the same bytes twice. Layout: Microsoft's RIFF WAVE, format 3 with its fact chunk.
    """
    samples = np.ascontiguousarray(waveform.samples, dtype="<f4")
    rate, width = waveform.sample_rate, samples.itemsize
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, IEEE_FLOAT, 1, rate, rate * width, width, 8 * width, 0)
    fact = struct.pack("<4sII", b"fact", 4, len(samples))
    data_head = struct.pack("<4sI", b"data", samples.nbytes)
    size = 4 + len(form) + len(fact) + len(data_head) + samples.nbytes
    file.write(b"".join((struct.pack("<4sI4s", b"RIFF", size, b"WAVE"), form, fact, data_head)))
    file.write(samples.data)


def _write_by_soundfile(waveform: Waveform, file: BinaryIO, **how: object) -> None:
    import soundfile

    soundfile.write(file, waveform.samples, waveform.sample_rate, **how)


def _mp3_level(bitrate_kbps: int, sample_rate: int) -> float:
    """libsndfile's compression level for a constant bit rate: 0 is the format's highest, 1 its lowest.

    MPEG-2 (24 kHz and below) goes from 8 to 160 kbit/s, MPEG-1 (32 kHz and up) from 32 to 320. A level of exactly 1
    fails at some rates.
    """
    lowest, highest = (8, 160) if sample_rate <= 24_000 else (32, 320)
    return min(0.99, max(0.0, (highest - bitrate_kbps) / (highest - lowest)))
