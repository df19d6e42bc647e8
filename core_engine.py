"""From a request to files in the outputs library: the order of the stages, and nothing else."""

from __future__ import annotations

import asyncio
import importlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from config.settings import SpeechSettings
from config.version import VERSION
from engines.base import Cancellation, ChunkOutcome, EngineInfo
from engines.host import EngineHost, Place
from monitoring.metrics import Metrics
from planning import Planner, SpeechPlan, SpeechRequest
from utils.audio.formats import AudioFormat
from utils.audio.waveform import Waveform
from utils.files.naming import number
from utils.text.split import Pause

if TYPE_CHECKING:
    from pathlib import Path

FINISHING_AT_ONCE = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpokenChunk:
    index: int
    text: str
    duration_s: float
    seed: int
    attempts: int
    score: float | None


class SavedFile(Protocol):
    """A file of the outputs library: see management.outputs."""

    @property
    def format(self) -> AudioFormat: ...
    @property
    def path(self) -> Path: ...
    @property
    def relative(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


class OutputsLibrary(Protocol):
    def folder(self, name: str | None) -> Path: ...
    def check_room(self) -> None: ...

    def save(
        self,
        waveform: Waveform,
        *,
        generation_type: str,
        name_parameters: Sequence[str],
        folder: str | None,
        formats: Sequence[str],
        mp3_bitrate_kbps: int,
        companion: Mapping[str, Any],
        check: Callable[[], None],
    ) -> Sequence[SavedFile]: ...


@dataclass(frozen=True, slots=True)
class SpeechResult:
    files: Sequence[SavedFile]
    seed: int
    voice: str
    engine: str
    model: str
    duration_s: float
    took_s: float
    chunks: list[SpokenChunk]
    warnings: list[str]


class CoreEngine:
    """Speaks texts through the engine, into the outputs library that it was given."""

    def __init__(
        self, planner: Planner, speech: SpeechSettings, host: EngineHost, outputs: OutputsLibrary, metrics: Metrics
    ) -> None:
        self._planner = planner
        self._speech = speech
        self._host = host
        self._outputs = outputs
        self._metrics = metrics
        # Threads of their own: encoding may fill them without holding up the short tasks of other requests.
        self._finishers = ThreadPoolExecutor(FINISHING_AT_ONCE, thread_name_prefix="finish")

    def close(self) -> None:
        self._finishers.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def warm_up() -> None:
        """Import what is left out of the start, so that the first request does not wait for it."""
        importlib.import_module("utils.audio.join")
        importlib.import_module("utils.audio.encode")
        importlib.import_module("soundfile")

    def options(self, request: SpeechRequest) -> SpeechSettings:
        """The server's defaults, with what the request says in their place."""
        return self._planner.options(request)

    async def speak(self, request: SpeechRequest) -> SpeechResult:
        """Say the whole text and keep it in the outputs library.

        Cancelling this coroutine frees the engine. Raises what the stages raise: InvalidRequest and TextTooLong,
        VoiceNotFound, InvalidPath, InvalidAudio, ServiceOverloaded, ModelUnavailable, GenerationTimeout,
        GenerationFailed, StorageFull.
        """
        with self._host.place_in_line() as place:
            return await self._speak(request, place)

    async def _speak(self, request: SpeechRequest, place: Place) -> SpeechResult:
        started_at = time.perf_counter()
        info = await self._host.wait_until_ready()
        plan = await asyncio.to_thread(self._plan, request, info)
        planned_at = time.perf_counter()
        spoken = await self._speak_chunks(plan, place)
        spoken_at = time.perf_counter()
        chunks = _spoken_chunks(plan, spoken)
        plan.warnings.extend(_remarks(spoken))
        timings = {
            "plan_s": planned_at - started_at,
            "synthesis_s": spoken_at - planned_at,
            "validation_s": sum(outcome.validation_s for _, outcome in spoken),  # a part of synthesis_s
        }
        pauses = [self._pause_ms(chunk.pause, plan.options) for chunk in plan.chunks[:-1]]
        joined, files = await self._unless_cancelled(
            partial(self._finish, plan, [waveform for waveform, _ in spoken], pauses, chunks, timings)
        )
        took_s = time.perf_counter() - started_at
        self._metrics.count_generation(joined.duration_s, took_s)
        return SpeechResult(
            files,
            plan.seed,
            plan.voice.name,
            info.name,
            plan.model.name,
            joined.duration_s,
            took_s,
            chunks,
            plan.warnings,
        )

    async def _unless_cancelled(self, finish: Callable[[Cancellation], T]) -> T:
        """Run the last stage in one of its threads; a request that is cancelled meanwhile leaves no files behind."""
        cancellation = Cancellation()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._finishers, finish, cancellation)
        finally:
            cancellation.cancel()

    def _plan(self, request: SpeechRequest, engine: EngineInfo) -> SpeechPlan:
        self._outputs.folder(request.folder)
        self._outputs.check_room()
        return self._planner.plan(request, engine)

    async def _speak_chunks(self, plan: SpeechPlan, place: Place) -> list[tuple[Waveform, ChunkOutcome]]:
        from utils.audio import join

        spoken: list[tuple[Waveform, ChunkOutcome]] = []
        pieces: list[Waveform] = []
        async with aclosing(self._host.stream_work(place, plan.work)) as stream:
            async for _, event in stream:
                if isinstance(event, Waveform):
                    pieces.append(event)
                else:
                    spoken.append((join.in_a_row(pieces, plan.model.sample_rate), event))
                    pieces = []
        return spoken

    @staticmethod
    def _pause_ms(pause: Pause, options: SpeechSettings) -> int:
        return {
            Pause.NONE: 0,
            Pause.CLAUSE: options.clause_pause_ms,
            Pause.SENTENCE: options.sentence_pause_ms,
            Pause.PARAGRAPH: options.paragraph_pause_ms,
        }[pause]

    def _finish(
        self,
        plan: SpeechPlan,
        waveforms: Sequence[Waveform],
        pauses_ms: Sequence[int],
        chunks: Sequence[SpokenChunk],
        timings: Mapping[str, float],
        cancellation: Cancellation,
    ) -> tuple[Waveform, Sequence[SavedFile]]:
        from utils.audio import join

        started_at = time.perf_counter()
        joined = join.with_pauses(waveforms, pauses_ms)
        timings = {**timings, "join_s": time.perf_counter() - started_at}
        files = self._outputs.save(
            joined,
            generation_type="tts",
            name_parameters=self._name_parameters(plan),
            folder=plan.request.folder,
            formats=plan.options.export_formats,
            mp3_bitrate_kbps=plan.options.mp3_bitrate_kbps,
            companion=self._companion(plan, joined, chunks, timings),
            check=cancellation.check,
        )
        return joined, files

    def _name_parameters(self, plan: SpeechPlan) -> list[str]:
        parameters = [f"temp{number(plan.options.temperature)}"]
        if plan.request.seed:
            parameters.append(f"seed{plan.request.seed}")
        if plan.options.exaggeration != self._speech.exaggeration:
            parameters.append(f"exag{number(plan.options.exaggeration)}")
        return parameters

    @staticmethod
    def _companion(
        plan: SpeechPlan, joined: Waveform, chunks: Sequence[SpokenChunk], timings: Mapping[str, float]
    ) -> dict[str, Any]:
        """All that is needed to know how the audio came about, and to make it again."""
        return {
            "type": "tts",
            "created_date": datetime.now(UTC).isoformat(),
            "engine": {"name": plan.engine.name, "model": plan.model.name, "device": plan.engine.device},
            "voice": {"name": plan.voice.name, "content_hash": plan.voice.content_hash},
            "seed": plan.seed,
            "request": {
                "text": plan.request.text,
                "reference_audio_filename": plan.request.voice,
                "seed": plan.request.seed,
                "sound_words_field": plan.request.sound_words,
                "project": plan.request.folder,
                **plan.options.model_dump(mode="json"),
            },
            "text": plan.text,
            "chunks": [
                {**asdict(chunk), "least_pause_after_ms": CoreEngine._pause_ms(planned.pause, plan.options)}
                for chunk, planned in zip(chunks, plan.chunks, strict=True)
            ],
            "duration_s": joined.duration_s,
            "sample_rate": joined.sample_rate,
            "channels": 1,
            "timings": {name: round(seconds, 6) for name, seconds in timings.items()},
            "warnings": plan.warnings,
            "versions": {"server": VERSION, "python": platform.python_version()},
        }


def _spoken_chunks(plan: SpeechPlan, spoken: Sequence[tuple[Waveform, ChunkOutcome]]) -> list[SpokenChunk]:
    return [
        SpokenChunk(index, chunk.text, waveform.duration_s, outcome.seed, outcome.attempts, outcome.score)
        for index, (chunk, (waveform, outcome)) in enumerate(zip(plan.chunks, spoken, strict=True))
    ]


def _remarks(spoken: Sequence[tuple[Waveform, ChunkOutcome]]) -> list[str]:
    """What the engine has to say of each chunk, with the chunk's index."""
    return [f"chunk {index}: {remark}" for index, (_, outcome) in enumerate(spoken) for remark in outcome.remarks]
