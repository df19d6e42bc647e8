"""What libsndfile cannot read, by FFmpeg's libraries in PyAV: AAC, MP4 as M4A, Matroska as WebM, streams of FLAC.

FFmpeg is told which of its readers to use, by the content's first bytes, and never guesses: its guesses include
playlists and manifests, which name other files and addresses that it would open.
"""

from __future__ import annotations

import ctypes
import errno
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, NoReturn, Protocol

from resilience.errors import InvalidAudio, UnusableAudio

if TYPE_CHECKING:
    import av
    import numpy as np
    from numpy.typing import NDArray

CODECS = ("aac", "alac", "flac", "mp3", "mp3float", "opus", "vorbis")
PLAIN_SAMPLES = "pcm_"  # codecs of uncompressed samples
MOST_STREAMS = 16  # a telephone's video has six
MOST_BYTES_AT_ONCE = 32 << 20  # an index of 1.4 million packets: eight hours of AAC
MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # what such a file may begin with
HEAD_BYTES = 26
EBML = b"\x1a\x45\xdf\xa3"


class Container(NamedTuple):
    format: str  # as we call it
    demuxer: str  # FFmpeg's reader


AAC, M4A, WEBM = Container("aac", "aac"), Container("m4a", "mov"), Container("webm", "matroska")
FLAC = Container("flac", "flac")
# What else FFmpeg could read, by its first bytes and those from the ninth on: asked only for what such a file holds.
OTHERS = (
    (b"RIFF", b"WAVE", "wav"),
    (b"RIFF", b"AVI ", "avi"),
    (b"OggS", b"", "ogg"),
    (bytes.fromhex("3026b2758e66cf11"), b"", "asf"),
    (b"wvpk", b"", "wv"),
    (b"MAC ", b"", "ape"),
    (b"TTA1", b"", "tta"),
    (b"#!AMR", b"", "amr"),
    (b"FLV\1", b"", "flv"),
    (bytes.fromhex("0b77"), b"", "ac3"),
    (bytes.fromhex("000001ba"), b"", "mpeg"),
)
NOTHING: tuple[str, ...] = ()
READ = {"wav": (PLAIN_SAMPLES,), "ogg": ("vorbis", "opus")}  # what libsndfile would surely have read in them


class Stream(Protocol):
    """A seekable file without a name."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


def container_of(stream: BinaryIO) -> Container | None:
    """What a file is by its first bytes, if it is one of those read here. Moves the file's position."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if head[:3] == b"ID3" and len(head) >= 10:  # a tag that may come before AAC; its size is four times seven bits
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        stream.seek(10 + size)
        head = stream.read(HEAD_BYTES)
    if head[4:8] in MP4_BOXES:
        return M4A
    if head.startswith(EBML):
        return WEBM
    # A stream of FLAC does not know how many samples it will have (36 bits from byte 21), and libsndfile must.
    if head.startswith(b"fLaC") and len(head) == HEAD_BYTES and not head[21] & 0x0F and not any(head[22:26]):
        return FLAC
    # The sync word of ADTS; MP3 has the same twelve bits, but never layer 0.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return AAC
    return None


@contextmanager
def av_recording(file: Stream, container: Container) -> Iterator[AvRecording]:
    """The file's first audio track. Nothing but `file` is opened. Raises InvalidAudio, here and in the block."""
    import av

    _bound_allocations()
    try:
        with _opened(file, container.demuxer) as opened:
            yield AvRecording(opened, container.format)
    except av.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise UnusableAudio("the recording's index is too large") from error
        raise InvalidAudio("the recording is damaged or in no format that can be read") from error


def foreign_codec(file: Stream) -> str | None:
    """How the sound or the picture is coded in a file that libsndfile refused, if it never reads such files.

    None if it reads them, so that this one must be damaged, and for what is no audio or film at all.
    """
    import av

    file.seek(0)
    head = file.read(HEAD_BYTES)
    demuxer = next((name for begin, form, name in OTHERS if head.startswith(begin) and head[8:].startswith(form)), None)
    if demuxer is None:
        return None
    file.seek(0)
    _bound_allocations()
    try:
        with _opened(file, demuxer) as opened:
            codecs = [_codec_of(stream) for stream in (*opened.streams.audio, *opened.streams.video)]
    except av.FFmpegError:
        return None
    return next((f"{codec} in {demuxer}" for codec in codecs if not codec.startswith(READ.get(demuxer, NOTHING))), None)


def _codec_of(stream: av.stream.Stream) -> str:
    context: av.codec.context.CodecContext | None = stream.codec_context
    return context.name if context else "something unknown"


def _opened(file: Stream, demuxer: str) -> av.container.InputContainer:
    import av

    return av.open(
        file,
        "r",
        format=demuxer,
        options={
            "format_whitelist": demuxer if demuxer != M4A.demuxer else "mov,mp4,m4a,3gp,3g2,mj2",
            "protocol_whitelist": "none",
            "codec_whitelist": ",".join(CODECS),
            "enable_drefs": "0",
            "max_streams": str(MOST_STREAMS),
        },
        metadata_errors="replace",
        io_open=_open_nothing,
    )


@cache
def _bound_allocations() -> None:
    """A few bytes of an MP4 file can claim billions of samples, and FFmpeg would hold an index of them: 2 GB, measured.

    The bound is FFmpeg's own, for the whole process. PyAV does not hand it on, and on Windows a library is not found
    through another that uses it: there its default remains.
    """
    import av

    with suppress(AttributeError, OSError):
        bound = ctypes.CDLL(av._core.__file__).av_max_alloc
        bound.argtypes, bound.restype = [ctypes.c_size_t], None
        bound(MOST_BYTES_AT_ONCE)


def _open_nothing(*_: object) -> NoReturn:
    raise UnusableAudio("the recording refers to other files")


class AvRecording:
    """Implements `decode.OpenRecording`. What an encoder put before the sound (priming) is left out, as the file says.

    Bare AAC does not say, and is some 50 ms longer than what was recorded.
    """

    def __init__(self, opened: av.container.InputContainer, format_name: str) -> None:
        import av

        if not opened.streams.audio:
            raise UnusableAudio("the file holds no audio")
        track = opened.streams.audio[0]
        codec = _codec_of(track)
        if codec not in CODECS and not codec.startswith(PLAIN_SAMPLES):
            raise UnusableAudio(f"the recording is coded as {codec}, which cannot be read")
        self.format = format_name
        self._as_floats = av.AudioResampler("fltp")
        self._frames = _frames(opened, track)
        self._held: deque[NDArray[np.float32]] = deque()
        first = next(self._frames, None)
        if first is None:
            raise UnusableAudio("no sound is found in the recording")
        self.sample_rate = first.sample_rate
        self.channels = first.layout.nb_channels
        self._hold(first)

    def read(self, count: int) -> NDArray[np.float32]:
        import numpy as np

        parts = [np.zeros((0, self.channels), np.float32)]
        while count > 0:
            if not self._held and not self._hold(next(self._frames, None)):
                break
            samples = self._held.popleft()
            parts.append(samples[:count])
            if len(samples) > count:
                self._held.appendleft(samples[count:])
            count -= len(parts[-1])
        return np.concatenate(parts)

    def _hold(self, frame: av.AudioFrame | None) -> bool:
        import numpy as np

        if frame is None:
            return False
        if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
            raise UnusableAudio("the recording changes its rate or its channels midway")
        for part in self._as_floats.resample(frame):
            self._held.append(part.to_ndarray().astype(np.float32, copy=False).T)
        return True


def _frames(opened: av.container.InputContainer, track: av.AudioStream) -> Iterator[av.AudioFrame]:
    """The track's sound. A file that was cut off ends with half a packet, left out unless there is no other."""
    import av

    damage: av.FFmpegError | None = None
    is_heard = False
    for packet in opened.demux(track):
        if damage is not None and packet.size:
            raise damage
        try:
            for frame in packet.decode():
                is_heard = True
                yield frame
        except av.InvalidDataError as error:
            damage = error
    if damage is not None and not is_heard:
        raise damage
