"""Who listens to what was spoken: Whisper where it is at hand, else the offline recogniser, for those who ask."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.base import ChunkOutcome, ChunkRequest, Remark, ValidationWish
from engines.transcription import faster_whisper, pocketsphinx
from engines.transcription.base import CannotListen, Transcriber
from engines.transcription.booth import Booth
from engines.transcription.faster_whisper import FasterWhisper, WhisperSource
from engines.transcription.pocketsphinx import PocketSphinx
from engines.validation import is_silent, validated
from resilience.errors import GenerationFailed, ModelUnavailable
from utils.audio.waveform import Waveform

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0  # how long it is taken for known whether weights are here


@dataclass(frozen=True, slots=True)
class ListeningOptions:
    """The members of ValidationSettings, see there; `model` is the Whisper that requests get which name none."""

    model: str = "medium"
    weights: str | None = None
    offline: bool = False
    device: str = "auto"
    threads: int = 0
    hub_timeout_s: float = 8.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens to a chunk, None for nobody, who does if that one cannot, and remarks on the choice."""

    transcriber: Transcriber | None
    stand_in: Transcriber | None = None
    remarks: tuple[str, ...] = ()


class Listeners:
    """The transcribers of this process, each loaded when it first listens, one Whisper in memory at a time. Safe from
    any thread.

    Whisper's weights are fetched behind the scenes if the settings allow it: nobody waits for them, the offline
    recogniser listens meanwhile, as it does while Whisper's files are damaged.
    """

    def __init__(self, options: ListeningOptions) -> None:
        self._options = options
        folder = Path(options.weights) if options.weights else None
        self._source = WhisperSource(folder, options.offline, options.hub_timeout_s)
        self._booth = Booth()
        self._whispers: dict[str, FasterWhisper] = {}
        self._seen: dict[str, tuple[float, bool]] = {}
        self._asked_for: set[str] = set()  # at the hub, each once
        self._lock = threading.Lock()
        self._offline = None if pocketsphinx.why_unavailable() else PocketSphinx()

    @property
    def has_whisper(self) -> bool:
        """True if the Whisper of the settings can listen now, as it stood at most `LOOK_AGAIN_S` ago. No network."""
        model = self._options.model
        return self._is_here(model) and self._whisper(model).problem() is None

    @property
    def name(self) -> str | None:
        """What would listen now."""
        if self.has_whisper:
            return f"Whisper {self._options.model}"
        return self._offline.name if self._offline else None

    def listener(self, wish: ValidationWish, language: str) -> Listener:
        """The best one for a wish that understands the language."""
        offline = self._offline if self._offline and self._offline.understands(language) else None
        remarks: tuple[str, ...] = ()
        if wish.use_whisper:
            if self._is_here(wish.whisper_model):
                whisper = self._whisper(wish.whisper_model)
                if problem := whisper.problem():
                    remarks = (problem,)
                elif whisper.understands(language):
                    return Listener(whisper, offline)
            else:
                self._fetch(wish.whisper_model)
        if offline is None:
            remarks = (*remarks, f"not validated: nothing that listens here understands {language!r}")
        return Listener(offline, remarks=remarks)

    def _is_here(self, model: str) -> bool:
        now = time.monotonic()
        seen_at, is_here = self._seen.get(model, (0.0, False))
        if model not in self._seen or now - seen_at > LOOK_AGAIN_S:
            is_here = faster_whisper.is_installed() and faster_whisper.located(model, self._source) is not None
            self._seen[model] = now, is_here
        return is_here

    def _whisper(self, model: str) -> FasterWhisper:
        with self._lock:
            if model not in self._whispers:
                device = "cpu" if self._options.device == "auto" else self._options.device
                self._whispers[model] = FasterWhisper(model, self._source, device, self._options.threads, self._booth)
            return self._whispers[model]

    def _fetch(self, model: str) -> None:
        with self._lock:
            if self._options.offline or not faster_whisper.is_installed() or model in self._asked_for:
                return
            self._asked_for.add(model)
        threading.Thread(target=self._fetched, args=(model,), daemon=True, name="fetch-whisper").start()

    def _fetched(self, model: str) -> None:
        try:
            if problem := faster_whisper.why_unavailable(model, self._source):
                logger.warning("whisper unavailable model=%s reason=%s", model, problem)
                return
            logger.info("whisper fetching model=%s", model)
            faster_whisper.fetched(model, self._source)
            self._seen.pop(model, None)
            logger.info("whisper fetched model=%s", model)
        except ModelUnavailable as error:
            logger.warning("whisper unavailable model=%s reason=%s", model, error)


def spoken_and_heard(
    speak: Callable[[ChunkRequest], Callable[[], Sequence[Waveform | Remark]]],
    join: Callable[[Sequence[Waveform]], Waveform],
    chunk: ChunkRequest,
    wish: ValidationWish,
    listener: Listener,
    check: Callable[[], None],
) -> tuple[Waveform, ChunkOutcome]:
    """The candidate of a chunk that was understood best, and how it came about.

    `speak` begins a candidate and returns what waits for it, so that those of a round are spoken together. If nobody
    can listen after all, the first candidate that is not silent is taken. Raises what `speak` raises and
    GenerationFailed if every candidate is silent.
    """
    spoken: dict[int, Waveform | None] = {}
    doubts: dict[int, tuple[str, ...]] = {}

    def round_of(seeds: Sequence[int]) -> list[Waveform | None]:
        missing = [seed for seed in seeds if seed not in spoken]  # a stand-in hears what is there already
        begun = [speak(replace(chunk, seed=seed, is_last_attempt=True)) for seed in missing]
        for seed, wait in zip(missing, begun, strict=True):
            try:
                parts = wait()
            except GenerationFailed:
                spoken[seed] = None
                continue
            doubts[seed] = tuple(part.text for part in parts if isinstance(part, Remark))
            spoken[seed] = join([part for part in parts if isinstance(part, Waveform)])
        return [spoken[seed] for seed in seeds]

    remarks = listener.remarks
    for transcriber in filter(None, (listener.transcriber, listener.stand_in)):
        try:
            chosen = validated(round_of, chunk.text, chunk.language, chunk.seed, wish, transcriber, check)
        except CannotListen as problem:
            remarks = (*remarks, str(problem))
            continue
        remarks = (*doubts[chosen.seed], *remarks)
        if not chosen.passed:
            heard = f"none of {chosen.spoken} candidates was understood well enough by {transcriber.name}"
            remarks = (*remarks, f"{heard}; the one taken scored {chosen.score:.2f}")
        return chosen.waveform, ChunkOutcome(
            chosen.seed, chosen.attempts, score=chosen.score, validation_s=chosen.cost_s, remarks=remarks
        )
    for seed, waveform in spoken.items():
        if waveform is not None and not is_silent(waveform):
            return waveform, ChunkOutcome(seed, 1, remarks=(*doubts[seed], *remarks, "not validated"))
    raise GenerationFailed("the engine made no speech of this text that could be heard")
