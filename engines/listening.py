"""Who listens to what was spoken: Whisper where it is at hand, else the offline recogniser, for those who ask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engines.base import ChunkOutcome, ChunkRequest, Remark, ValidationWish
from engines.transcription import faster_whisper, pocketsphinx
from engines.transcription.base import Transcriber
from engines.transcription.faster_whisper import FasterWhisper, WhisperSource
from engines.transcription.pocketsphinx import PocketSphinx
from engines.validation import validated
from resilience.errors import GenerationFailed, ModelUnavailable
from utils.audio.waveform import Waveform

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListeningOptions:
    """The members of ValidationSettings, see there; `model` is the Whisper that requests get which name none."""

    model: str = "medium"
    weights: str | None = None
    offline: bool = False
    device: str = "auto"
    threads: int = 0
    hub_timeout_s: float = 8.0


class Listeners:
    """The transcribers of this process, each loaded when it first listens. Safe from any thread.

    Whisper's weights are fetched behind the scenes if the settings allow it: nobody waits for them, the offline
    recogniser listens meanwhile.
    """

    def __init__(self, options: ListeningOptions) -> None:
        self._options = options
        folder = Path(options.weights) if options.weights else None
        self._source = WhisperSource(folder, options.offline, options.hub_timeout_s)
        self._whispers: dict[str, FasterWhisper] = {}
        self._fetching: set[str] = set()
        self._lock = threading.Lock()
        self._offline = None if pocketsphinx.why_unavailable() else PocketSphinx()

    @property
    def has_whisper(self) -> bool:
        """True if the Whisper of the settings is at hand now; no network is asked."""
        return self._is_here(self._options.model)

    @property
    def name(self) -> str | None:
        """What would listen now."""
        if self.has_whisper:
            return f"Whisper {self._options.model}"
        return self._offline.name if self._offline else None

    def listener(self, wish: ValidationWish, language: str) -> Transcriber | None:
        """The best one for a wish that understands the language; None if nobody here does."""
        if wish.use_whisper:
            if self._is_here(wish.whisper_model):
                whisper = self._whisper(wish.whisper_model)
                if whisper.understands(language):
                    return whisper
            else:
                self._fetch(wish.whisper_model)
        return self._offline if self._offline and self._offline.understands(language) else None

    def _is_here(self, model: str) -> bool:
        return (
            faster_whisper.is_installed()
            and model not in self._fetching
            and faster_whisper.located(model, self._source) is not None
        )

    def _whisper(self, model: str) -> FasterWhisper:
        with self._lock:
            if model not in self._whispers:
                device = "cpu" if self._options.device == "auto" else self._options.device
                self._whispers[model] = FasterWhisper(model, self._source, device, self._options.threads)
            return self._whispers[model]

    def _fetch(self, model: str) -> None:
        with self._lock:
            if self._options.offline or not faster_whisper.is_installed() or model in self._fetching:
                return
            self._fetching.add(model)
        threading.Thread(target=self._fetched, args=(model,), daemon=True, name="fetch-whisper").start()

    def _fetched(self, model: str) -> None:
        try:
            if problem := faster_whisper.why_unavailable(model, self._source):
                logger.warning("whisper unavailable model=%s reason=%s", model, problem)
                return  # and not asked again: it stays among those being fetched
            logger.info("whisper fetching model=%s", model)
            faster_whisper.fetched(model, self._source)
            self._fetching.discard(model)
            logger.info("whisper fetched model=%s", model)
        except ModelUnavailable as error:
            logger.warning("whisper unavailable model=%s reason=%s", model, error)


def spoken_and_heard(
    speak: Callable[[ChunkRequest], Callable[[], Sequence[Waveform | Remark]]],
    join: Callable[[Sequence[Waveform]], Waveform],
    chunk: ChunkRequest,
    wish: ValidationWish,
    listener: Transcriber,
    check: Callable[[], None],
) -> tuple[Waveform, ChunkOutcome]:
    """The candidate of a chunk that was understood best, and how it came about.

    `speak` begins a candidate and returns what waits for it, so that those of a round are spoken together. Raises
    what it raises, GenerationFailed if every candidate is silent, ModelUnavailable if the listener cannot be loaded.
    """
    remarks: dict[int, tuple[str, ...]] = {}

    def round_of(seeds: Sequence[int]) -> list[Waveform | None]:
        begun = [speak(replace(chunk, seed=seed, is_last_attempt=True)) for seed in seeds]
        waveforms: list[Waveform | None] = []
        for seed, wait in zip(seeds, begun, strict=True):
            try:
                parts = wait()
            except GenerationFailed:
                waveforms.append(None)
                continue
            remarks[seed] = tuple(part.text for part in parts if isinstance(part, Remark))
            waveforms.append(join([part for part in parts if isinstance(part, Waveform)]))
        return waveforms

    chosen = validated(round_of, chunk.text, chunk.language, chunk.seed, wish, listener, check)
    doubts = remarks.get(chosen.seed, ())
    if not chosen.passed:
        heard = f"none of {chosen.spoken} candidates was understood well enough by {listener.name}"
        doubts = (*doubts, f"{heard}; the one taken scored {chosen.score:.2f}")
    return chosen.waveform, ChunkOutcome(
        chosen.seed, chosen.attempts, score=chosen.score, validation_s=chosen.cost_s, remarks=doubts
    )
