"""What an engine is asked for, what it answers, and what it says of itself. Plain values, no model library.

The values cross a pipe between the server and the process that owns the model, so each of them is made of
strings, numbers and other such values only.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from utils.audio.waveform import Waveform


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a chunk is performed: Chatterbox's own names and meanings. None leaves a value to the model."""

    exaggeration: float
    temperature: float
    cfg_weight: float
    min_p: float | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class VoicePrompt:
    """Whose voice to speak with: a recording, or one of the engine's own voices when there is no recording.

    `name` is what a person calls it. `path` is the recording on this machine and `content_hash` the SHA-256 of its
    bytes in hex; both are None for a voice of the engine's own, which `name` then picks from `EngineInfo.voices`.
    """

    name: str
    path: str | None = None
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """One chunk of text, and all that decides how it sounds. Equal requests get equal samples.

    A chunk that the engine fails to speak is tried `max_attempts` times in all, each time with another seed.
    """

    text: str
    language: str
    voice: VoicePrompt
    sampling: Sampling
    seed: int
    watermark: bool = False
    max_attempts: int = 1
    request_id: str = "-"  # for the log only


@dataclass(frozen=True, slots=True)
class ChunkOutcome:
    """How a chunk came to be spoken: the seed that did it, and at which attempt."""

    seed: int
    attempts: int


def derived_seed(seed: int, *salts: int) -> int:
    """Another seed from 1 to 2**32 - 1, always the same for the same seed and salts."""
    digest = hashlib.sha256(":".join(map(str, (seed, *salts))).encode()).digest()
    return int.from_bytes(digest[:4], "little") or 1


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine can do, as `/health` and the checks of a request need it.

    `voices` are its own voices, the default first. `languages` are the codes that a request may name. `takes` names
    the members of `Sampling` that it heeds; the others change nothing, and the reply says so. `streams` is true if
    the first samples of a chunk leave before its last are made. `concurrency` is how many chunks it works on at once.
    """

    name: str
    model: str
    device: str
    sample_rate: int
    voices: tuple[str, ...]
    languages: tuple[str, ...]
    takes: frozenset[str]
    concurrency: int
    streams: bool
    clones_voices: bool
    watermarks: bool

    def language_of(self, tag: str) -> str | None:
        """The engine's language for a tag: `de-DE` and `EN_us` are `de` and `en` where it knows no nearer one."""
        wanted = tag.strip().lower().replace("_", "-")
        while wanted and wanted not in self.languages:
            wanted = wanted.rpartition("-")[0]
        return wanted or None


class Conditionals(Protocol):
    """What a model made of a recording: a value that is never changed, kept by `engines.conditionals`."""

    @property
    def size_bytes(self) -> int: ...


class Cancelled(Exception):
    """Raised inside an engine to leave work that nobody waits for any more."""


class Cancellation:
    """A flag that the engine looks at between steps, set from another thread."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def cancel(self) -> None:
        self._flag.set()

    @property
    def is_cancelled(self) -> bool:
        return self._flag.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the work is no longer wanted."""
        if self._flag.is_set():
            raise Cancelled


class SpeechEngine(Protocol):
    """A model with a voice. It lives in the child process and is called from `info.concurrency` threads.

    An engine whose model must be used from one thread keeps that thread to itself and lets the callers wait for it:
    this is how chunks of many requests come to share a batch.
    """

    def load(self) -> EngineInfo:
        """Make the engine ready to speak. Raises ModelUnavailable with a sentence on what is missing."""

    def prepare(self, recording: BinaryIO, cancellation: Cancellation) -> Conditionals:
        """Listen to a recording once, so that chunks can be spoken with its voice. Raises InvalidAudio, Cancelled."""

    def speak(
        self, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform]:
        """Yield the chunk's audio in pieces as they are ready, all at `info.sample_rate`.

        `conditionals` is what `prepare` made of the chunk's voice, None for one of the engine's own. Raises
        GenerationFailed if the chunk cannot be spoken whole, Cancelled soon after the cancellation is set.
        """
