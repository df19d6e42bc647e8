"""Recordings from outside, whatever they are, as one waveform of bounded length."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from resilience.errors import InvalidAudio, UnusableAudio
from utils.audio.av_decode import av_recording, container_of, foreign_codec
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    import soundfile
    from numpy.typing import NDArray

LOWEST_RATE, HIGHEST_RATE = 8000, 192000
MOST_CHANNELS = 8
SHORTEST_S = 0.1
BLOCK_FRAMES = 65536
OPEN_SIZE = 0x7FFFF000  # bytes: a head that says so many or more is that of a stream, written before its end was known
USUAL_RATE, USUAL_CHANNELS = 48000, 2  # what a limit in hours is meant for: more samples a second are fewer hours
UNSUPPORTED_ENCODING, TOO_MANY_CHANNELS = 4, 33  # libsndfile's errors; the latter is for more than 1024


class OpenRecording(Protocol):
    """Audio that is read from its beginning to its end, whichever library decodes it."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def format(self) -> str:
        """By content: wav, mp3, flac, ogg, opus, aac, m4a, webm, aiff and what else libsndfile reads, lower case."""
        ...

    def read(self, count: int) -> NDArray[np.float32]:
        """The next samples, shape (n, channels), n at most `count`; 0 at the end and only there.

        Full scale is 1, which float files may exceed.
        """
        ...


def read_recording(
    recording: Path | BinaryIO, max_duration_s: float, check: Callable[[], None] = lambda: None
) -> Waveform:
    """The recording's first `max_duration_s` seconds, mixed to mono, at its own rate; the rest is not even decoded.

    An open file must be seekable, is read from its beginning and stays open. The content decides the format, not the
    name: WAV of any subtype, MP3, FLAC, Ogg Vorbis or Opus, AAC, M4A, WebM. Float files that exceed full scale are
    scaled into [-1, 1].
    `check` is called before each block and may raise to leave. Raises InvalidAudio for anything else and for less than
    `SHORTEST_S`; UnusableAudio, which is one, for rates outside `LOWEST_RATE`-`HIGHEST_RATE` Hz, more than
    `MOST_CHANNELS`, NaN or infinite samples, and what is coded in another way. FileNotFoundError and other OSErrors of
    the file itself are left as they are.
    """
    with open_recording(recording) as opened:
        return _read(opened, max_duration_s, check)


@contextmanager
def open_recording(recording: Path | BinaryIO) -> Iterator[OpenRecording]:
    """The recording's samples, to be read from the beginning; what is no audio is InvalidAudio, here and in the block.

    Rates and channels out of range are UnusableAudio.
    """
    if isinstance(recording, Path):
        with recording.open("rb") as stream, open_recording(stream) as opened:
            yield opened
        return
    container = container_of(recording)
    unfailing = _UnclosedWav if _is_unclosed_wav(recording) else _Unfailing
    recording.seek(0)
    with (
        av_recording(_Nameless(recording), container) if container else _soundfile_recording(unfailing(recording))
    ) as opened:
        if not LOWEST_RATE <= opened.sample_rate <= HIGHEST_RATE:
            raise UnusableAudio(
                f"the recording is at {opened.sample_rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz can be used"
            )
        if not 1 <= opened.channels <= MOST_CHANNELS:
            raise UnusableAudio(f"the recording has {opened.channels} channels; up to {MOST_CHANNELS} can be used")
        yield opened


def blocks(opened: OpenRecording, check: Callable[[], None], most: int | None = None) -> Iterator[NDArray[np.float32]]:
    """The samples block by block, shape (n, channels), at most so many; in full scale only where the file is.

    `check` is called before each block and may raise to leave. Raises UnusableAudio for NaN and infinite samples.
    """
    import numpy as np

    count = 0
    while most is None or count < most:
        check()
        block = opened.read(BLOCK_FRAMES if most is None else min(most - count, BLOCK_FRAMES))
        if not len(block):
            break
        if not np.isfinite(block).all():
            raise UnusableAudio("the recording has samples that are not numbers")
        yield block
        count += len(block)


def bound_of(longest_s: float, sample_rate: int, channels: int) -> float:
    """How many seconds a recording may last that has no more samples than `longest_s` of stereo at 48 kHz."""
    return longest_s * min(1.0, USUAL_RATE * USUAL_CHANNELS / (sample_rate * channels))


def bounded_blocks(opened: OpenRecording, longest_s: float, check: Callable[[], None]) -> Iterator[NDArray[np.float32]]:
    """`blocks` to the end, of no more samples than `longest_s` of stereo at 48 kHz has.

    Raises UnusableAudio as soon as there are more, and for what lasts longer than `longest_s`. A file of some kilobytes
    can be hours of eight channels at 192 kHz; decoding and measuring it takes time by the sample.
    """
    rate, channels = opened.sample_rate, opened.channels
    bound_s = bound_of(longest_s, rate, channels)
    count = 0
    for block in blocks(opened, check):
        count += len(block)
        if count > bound_s * rate:
            material = "" if bound_s == longest_s else f", the most for {channels} channels at {rate} Hz"
            raise UnusableAudio(f"the recording is longer than {bound_s:g} seconds{material}")
        yield block


def mono_blocks(
    opened: OpenRecording, check: Callable[[], None], most: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """`blocks`, the channels' mean."""
    return (block.mean(axis=1) for block in blocks(opened, check, most))


class _Nameless:
    """A file without its name: soundfile takes what is called *.raw for bare samples, FFmpeg opens what is named."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read, self.seek, self.tell = stream.read, stream.seek, stream.tell

    def read(self, size: int, /) -> bytes:
        return self._read(size)


class _Unfailing(_Nameless):
    """Ends where the disk fails, since libsndfile cannot be told, and keeps the failure for `raise_failure`."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream)
        self._failure: OSError | None = None

    def read(self, size: int, /) -> bytes:
        if self._failure:
            return b""
        try:
            return super().read(size)
        except OSError as error:
            self._failure = error
            return b""

    def raise_failure(self) -> None:
        if self._failure:
            raise self._failure


def is_cut_wav(stream: BinaryIO) -> bool:
    """Whether it is a WAV that has fewer samples than its head says, as one that was not copied to its end.

    Those that are there can be read. Moves the file's position.
    """
    begins, size = _wav_data(stream)
    return size < OPEN_SIZE and stream.seek(0, os.SEEK_END) < begins + size


def _is_unclosed_wav(stream: BinaryIO) -> bool:
    """Whether its recorder never came back to write how many samples it has."""
    begins, size = _wav_data(stream)
    return begins > 0 and size == 0


def _wav_data(stream: BinaryIO) -> tuple[int, int]:
    """Where the samples of a WAV begin, and how many bytes of them its head says that there are; 0 and 0 of others."""
    stream.seek(0)
    head, position = stream.read(4096), 12
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return 0, 0
    while head[position : position + 4] != b"data" and position + 8 <= len(head):
        size = int.from_bytes(head[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    if len(head) < position + 8:
        return 0, 0
    return position + 8, int.from_bytes(head[position + 4 : position + 8], "little")


class _UnclosedWav(_Unfailing):
    """Has the size of such a file be 8, which libsndfile takes for its sign and reads to the end."""

    def read(self, size: int, /) -> bytes:
        start = self.tell()
        content = bytearray(super().read(size))
        for position in range(max(4, start), min(8, start + len(content))):
            content[position - start] = 8 if position == 4 else 0
        return bytes(content)


class _SoundfileRecording:
    def __init__(self, file: soundfile.SoundFile, source: _Unfailing) -> None:
        self._file, self._source = file, source
        self.sample_rate: int = file.samplerate
        self.channels: int = file.channels
        self.format = "opus" if file.subtype == "OPUS" else _NAMES.get(file.format, file.format.lower())

    def read(self, count: int) -> NDArray[np.float32]:
        samples: NDArray[np.float32] = self._file.read(count, dtype="float32", always_2d=True)
        self._source.raise_failure()
        return samples


_NAMES = {"WAVEX": "wav", "RF64": "wav"}  # of formats that libsndfile tells apart and people do not


@contextmanager
def _soundfile_recording(file: _Unfailing) -> Iterator[OpenRecording]:
    import soundfile

    try:
        with soundfile.SoundFile(file) as opened:
            yield _SoundfileRecording(opened, file)
    except soundfile.LibsndfileError as error:
        file.raise_failure()
        if error.code == TOO_MANY_CHANNELS:
            raise UnusableAudio(f"the recording has too many channels; up to {MOST_CHANNELS} can be used") from error
        codec = "something unknown" if error.code == UNSUPPORTED_ENCODING else foreign_codec(file)
        if codec:
            raise UnusableAudio(f"the recording is coded as {codec}, which cannot be read") from error
        raise InvalidAudio("the recording is damaged or in no format that can be read") from error


def _read(opened: OpenRecording, max_duration_s: float, check: Callable[[], None]) -> Waveform:
    import numpy as np

    parts = [*mono_blocks(opened, check, round(max_duration_s * opened.sample_rate))]
    samples: NDArray[np.float32] = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(samples) < SHORTEST_S * opened.sample_rate:
        raise InvalidAudio(f"the recording is shorter than {SHORTEST_S} seconds")
    peak = float(np.max(np.abs(samples)))
    return Waveform((samples / max(1.0, peak)).astype(np.float32), opened.sample_rate)
