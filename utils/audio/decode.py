"""Recordings from outside, whatever they are, as one waveform of bounded length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from resilience.errors import InvalidAudio
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    import soundfile
    from numpy.typing import NDArray

LOWEST_RATE, HIGHEST_RATE = 8000, 192000
MOST_CHANNELS = 8
SHORTEST_S = 0.1
BLOCK_FRAMES = 65536


def read_recording(
    recording: Path | BinaryIO, max_duration_s: float, check: Callable[[], None] = lambda: None
) -> Waveform:
    """The recording's first `max_duration_s` seconds, mixed to mono, at its own rate; the rest is not even decoded.

    An open file must be seekable, is read from its beginning and stays open. The content decides the format, not the
    name: WAV of any subtype, MP3, FLAC, Ogg Vorbis or Opus. Float files that exceed full scale are scaled into [-1, 1].
    `check` is called before each block and may raise to leave. Raises InvalidAudio for anything else, for rates outside
    `LOWEST_RATE`-`HIGHEST_RATE` Hz, more than `MOST_CHANNELS`, NaN or infinite samples and less than `SHORTEST_S`;
    FileNotFoundError and other OSErrors of the file itself are left as they are.
    """
    with open_recording(recording) as file:
        return _read(file, max_duration_s, check)


@contextmanager
def open_recording(recording: Path | BinaryIO) -> Iterator[soundfile.SoundFile]:
    """The recording's samples, to be read from the beginning; what is no audio is InvalidAudio, here and in the block.

    Raises it too for rates and channels out of range.
    """
    if isinstance(recording, Path):
        with recording.open("rb") as stream, open_recording(stream) as file:
            yield file
        return
    import soundfile

    recording.seek(0)
    try:
        with soundfile.SoundFile(_Nameless(recording)) as file:
            if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
                raise InvalidAudio(
                    f"the recording is at {file.samplerate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz can be used"
                )
            if not 1 <= file.channels <= MOST_CHANNELS:
                raise InvalidAudio(f"the recording has {file.channels} channels; up to {MOST_CHANNELS} can be used")
            yield file
    except soundfile.LibsndfileError as error:
        raise InvalidAudio("the recording is damaged or in no format that can be read") from error


def mono_blocks(
    file: soundfile.SoundFile, check: Callable[[], None], most: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """The samples block by block, the channels' mean, at most so many; in full scale only where the file is.

    `check` is called before each block and may raise to leave. Raises InvalidAudio for NaN and infinite samples.
    """
    import numpy as np

    left = file.frames if most is None else most
    while left > 0:
        check()
        block = file.read(min(left, BLOCK_FRAMES), dtype="float32", always_2d=True)
        if not len(block):
            break
        if not np.isfinite(block).all():
            raise InvalidAudio("the recording has samples that are not numbers")
        yield block.mean(axis=1)
        left -= len(block)


class _Nameless:
    """A file without its name: soundfile takes what is called *.raw for bare samples."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read, self.seek, self.tell = stream.read, stream.seek, stream.tell


def _read(file: soundfile.SoundFile, max_duration_s: float, check: Callable[[], None]) -> Waveform:
    import numpy as np

    blocks = [*mono_blocks(file, check, round(max_duration_s * file.samplerate))]
    samples: NDArray[np.float32] = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if len(samples) < SHORTEST_S * file.samplerate:
        raise InvalidAudio(f"the recording is shorter than {SHORTEST_S} seconds")
    peak = float(np.max(np.abs(samples)))
    return Waveform((samples / max(1.0, peak)).astype(np.float32), file.samplerate)
