"""What an engine is asked for, what it answers, and what it says of itself. Plain values, no model library.

The values cross a pipe between the server and the process that owns the model, so each of them is made of
strings, numbers and other such values only.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from utils.audio.waveform import Waveform

CHARACTERS_A_SECOND = 15  # of English, spoken at an ordinary pace


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
    bytes in hex; both are None for a voice of the model's own, which `name` then picks from `ModelInfo.voices`.
    """

    name: str
    path: str | None = None
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ValidationWish:
    """How a chunk's candidates are to be listened to: `candidates` are compared, in at most `attempts` rounds.

    If none is understood well enough, the one with the longest transcript is taken, or else the best one.
    """

    candidates: int
    attempts: int
    whisper_model: str
    use_whisper: bool
    longest_on_fail: bool


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """One chunk of text, and all that decides how it sounds. Equal requests get equal samples.

    A chunk that the engine fails to speak is tried `max_attempts` times in all, each time with another seed; on the
    last one the engine keeps what is doubtful and says so in a Remark. `early` asks for the first samples before the
    last ones are made, which costs more work in all.
    """

    text: str
    language: str
    voice: VoicePrompt
    sampling: Sampling
    seed: int
    model: str = ""  # one of `EngineInfo.models` by name
    watermark: bool = False
    early: bool = False
    max_attempts: int = 1
    is_last_attempt: bool = False
    validation: ValidationWish | None = None
    request_id: str = "-"  # for the log only

    @property
    def weight(self) -> int:
        """How much work it is, in characters of text."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """A stretch of a recording, at most some minutes, to be said again with another voice."""

    audio: Waveform
    voice: VoicePrompt
    seed: int
    model: str = ""
    watermark: bool = False
    request_id: str = "-"

    @property
    def weight(self) -> int:
        """How much work it is, in characters of text of the same duration."""
        return round(self.audio.duration_s * CHARACTERS_A_SECOND)


Work = ChunkRequest | WindowRequest


@dataclass(frozen=True, slots=True)
class Remark:
    """What a person should know of a chunk that was spoken all the same."""

    text: str


@dataclass(frozen=True, slots=True)
class ChunkOutcome:
    """How a chunk came to be: the seed that did it, at which attempt, and how well a transcriber understood it.

    `score` is 1 if every word was understood, None if nobody listened; `validation_s` is what listening cost.
    """

    seed: int
    attempts: int
    score: float | None = None
    validation_s: float = 0.0
    remarks: tuple[str, ...] = ()


def derived_seed(seed: int, *salts: int) -> int:
    """Another seed from 1 to 2**32 - 1, always the same for the same seed and salts."""
    digest = hashlib.sha256(":".join(map(str, (seed, *salts))).encode()).digest()
    return int.from_bytes(digest[:4], "little") or 1


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model can do, as `/health` and the checks of a request need it.

    `voices` are its own voices, the default first. `languages` are the codes that a request may name. `takes` names
    the members of `Sampling` that it heeds; the others change nothing, and the reply says so. `same_when_early` is
    true if a chunk that is wanted early has the samples of one that is not. `chunk_characters` is the longest chunk
    that it speaks well. `needs_listening` is true if its speech may leave out or repeat words.
    """

    name: str
    sample_rate: int
    voices: tuple[str, ...]
    languages: tuple[str, ...]
    takes: frozenset[str]
    same_when_early: bool
    clones_voices: bool
    converts: bool
    watermarks: bool
    chunk_characters: int
    needs_listening: bool

    def language_of(self, tag: str) -> str | None:
        """The model's language for a tag: `de-DE` and `EN_us` are `de` and `en` where it knows no nearer one."""
        wanted = tag.strip().lower().replace("_", "-")
        while wanted and wanted not in self.languages:
            wanted = wanted.rpartition("-")[0]
        return wanted or None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine and its models, the default first. `concurrency` is how many pieces of work it is at at once.

    `transcriber` names what can listen to its speech, None if nothing can. `listens_unasked` is true if it hears well
    enough to decide by itself what is to be said again.
    """

    name: str
    device: str
    models: tuple[ModelInfo, ...]
    concurrency: int
    transcriber: str | None = None
    listens_unasked: bool = False

    def model_named(self, name: str | None) -> ModelInfo | None:
        """The default for None; None for a name that it does not have."""
        return next((model for model in self.models if name is None or model.name == name), None)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The models in memory; why others could not be loaded when they were last asked for, as sentences by name; and
    the seconds since the models last gave a sign of life, small as long as they do."""

    loaded: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)
    stuck_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far loading is: what is being done, and bytes where they are counted. `eta_s` is None until it is known."""

    doing: str
    bytes_done: int = 0
    bytes_total: int = 0
    eta_s: float | None = None

    @property
    def tenths(self) -> int:
        return 10 * self.bytes_done // self.bytes_total if self.bytes_total else 0


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
    """Models with a voice. It lives in the child process and is called from `info.concurrency` threads.

    An engine whose models must be used from one thread keeps that thread to itself and lets the callers wait for it:
    this is how chunks of many requests come to share a batch.
    """

    def load(self, on_progress: Callable[[LoadProgress], None]) -> EngineInfo:
        """Make the default model ready to speak. Raises ModelUnavailable with a sentence on what is missing."""

    def status(self) -> EngineStatus:
        """How it is now, for `/health` and the watch over hangs. Asked from any thread, once a second."""

    def prepare(self, model: str, voice: VoicePrompt, recording: BinaryIO, cancellation: Cancellation) -> Conditionals:
        """Listen to a recording once, so that `model` can speak with its voice.

        Raises InvalidAudio, ModelUnavailable, Cancelled.
        """

    def speak(
        self, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform | Remark]:
        """Begin to speak, and return the chunk's audio in pieces as they are ready, at the model's sample rate.

        `conditionals` is what `prepare` made of the chunk's voice, None for one of the model's own. The iterator
        raises GenerationFailed if the chunk cannot be spoken whole, ModelUnavailable if its model cannot be loaded,
        Cancelled soon after the cancellation is set.
        """

    def convert(
        self, window: WindowRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform]:
        """Say a stretch of a recording with another voice: as `speak`, and as long as the recording.

        The pieces add up to the window's duration within 40 ms.
        """
