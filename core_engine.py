"""From a request to files in the outputs library: the order of the stages, and nothing else."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from contextvars import copy_context
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import mastering
from concatenation import ConcatenationPlan, ConcatenationPlanner, ConcatenationRequest
from config.settings import ConcatenationSettings, ConversionSettings, SpeechSettings
from conversion import ConversionPlan, ConversionPlanner, ConversionRequest, fitted
from engines.base import Cancellation, ChunkOutcome, EngineInfo, VoicePrompt
from engines.host import EngineHost, Place
from generations import (
    ConcatenationResult,
    ConversionResult,
    LivePiece,
    Record,
    SavedFile,
    SpeechResult,
    concatenation_record,
    conversion_record,
    pauses_ms,
    remarks,
    speech_record,
    spoken_chunks,
)
from monitoring.metrics import Metrics
from planning import Planner, SpeechPlan, SpeechRequest
from resilience.errors import GenerationFailed
from utils.audio.formats import Bitrates
from utils.audio.waveform import Extent, Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utils.audio.chapters import Chapter

logger = logging.getLogger(__name__)

FINISHING_AT_ONCE = 2
READING_AT_ONCE = 2
JOINING_AT_ONCE = 2
PROGRESS_EVERY_S = 10.0
USED_BY_JOINING = ("utils.concatenation.render", "utils.audio.measures", "utils.audio.loudness", "utils.audio.encode")

P = ParamSpec("P")
T = TypeVar("T")


class OutputsLibrary(Protocol):
    def folder(self, name: str | None) -> Path: ...
    def check_room(self) -> None: ...
    def stem(self, generation_type: str, parameters: Sequence[str]) -> str: ...

    def save_stream(
        self,
        blocks: Iterable[NDArray[np.float32]],
        extent: Extent,
        *,
        stem: str,
        folder: str | None,
        formats: Sequence[str],
        bitrates: Bitrates,
        chapters: Sequence[Chapter],
        companion: Callable[[], Mapping[str, Any]],
        overwrite: bool,
        check: Callable[[], None],
    ) -> Sequence[SavedFile]: ...

    def save(
        self,
        waveform: Waveform,
        *,
        original: Waveform | None,
        generation_type: str,
        name_parameters: Sequence[str],
        folder: str | None,
        formats: Sequence[str],
        bitrates: Bitrates,
        companion: Mapping[str, Any],
        check: Callable[[], None],
    ) -> Sequence[SavedFile]: ...


class LibraryUse(Protocol):
    """What the libraries are told of: see management.libraries."""

    def in_use(self, *paths: Path) -> AbstractContextManager[Any]: ...
    def record_use(self, voice: str, content_hash: str) -> None: ...


class CoreEngine:
    """Speaks texts and converts recordings through the engine, and joins files, into the outputs library.

    Both can be heard while they are made, from the generators `stream_…`; they yield what was kept as their last
    item. Closing one, or cancelling a coroutine, frees the engine and keeps nothing.
    """

    def __init__(
        self,
        planner: Planner,
        conversions: ConversionPlanner,
        concatenations: ConcatenationPlanner,
        speech: SpeechSettings,
        conversion: ConversionSettings,
        host: EngineHost,
        outputs: OutputsLibrary,
        use: LibraryUse,
        metrics: Metrics,
    ) -> None:
        self._planner = planner
        self._conversions = conversions
        self._concatenations = concatenations
        self._speech = speech
        self._conversion = conversion
        self._host = host
        self._outputs = outputs
        self._use = use
        self._metrics = metrics
        # Threads of their own: encoding and reading may fill them without holding up the short tasks of other requests.
        self._finishers = ThreadPoolExecutor(FINISHING_AT_ONCE, thread_name_prefix="finish")
        self._readers = ThreadPoolExecutor(READING_AT_ONCE, thread_name_prefix="read")
        self._joiners = ThreadPoolExecutor(JOINING_AT_ONCE, thread_name_prefix="join")

    def close(self) -> None:
        for threads in (self._finishers, self._readers, self._joiners):
            threads.shutdown(wait=False, cancel_futures=True)

    def warm_up(self) -> None:
        """Import what is left out of the start, so that the first request does not wait for it."""
        for name in ("utils.audio.live_join", "utils.audio.live_encode", *USED_BY_JOINING, "soundfile", "av"):
            importlib.import_module(name)
        mastering.warm_up(self._speech)

    def options(self, request: SpeechRequest) -> SpeechSettings:
        """The defaults of the server and the voice, with what the request says in their place. As Planner.options."""
        return self._planner.options(request)

    def conversion_options(self, request: ConversionRequest) -> ConversionSettings:
        """As `options`. Raises InvalidRequest."""
        return self._conversions.options(request)

    async def speak(self, request: SpeechRequest) -> SpeechResult:
        """Say the whole text and keep it in the outputs library.

        Raises what the stages raise: InvalidRequest and TextTooLong, VoiceNotFound, InvalidPath, InvalidAudio,
        ServiceOverloaded, ModelUnavailable, GenerationTimeout, GenerationFailed, StorageFull.
        """
        from utils.audio import join

        with self._host.place_in_line() as place:
            clock = _Clock()
            plan = await asyncio.to_thread(self._plan, request, await self._host.wait_until_ready(), early=False)
            clock.lap("plan_s")
            spoken = await self._speak_chunks(plan, place)
            clock.lap("synthesis_s")
            waveforms = [waveform for waveform, _ in spoken]
            joined = partial(join.with_pauses, waveforms, pauses_ms(plan))
            made = [(waveform.duration_s, outcome) for waveform, outcome in spoken]
            return await self._keep_speech(plan, joined, made, clock, live=False)

    async def stream_speech(self, request: SpeechRequest) -> AsyncGenerator[LivePiece | SpeechResult]:
        """Say the text and yield what is said at once; what `speak` raises, before the first piece if it can be."""
        from utils.audio import join
        from utils.audio.live_join import LiveJoin

        with self._host.place_in_line() as place:
            clock = _Clock()
            plan = await asyncio.to_thread(self._plan, request, await self._host.wait_until_ready(), early=True)
            clock.lap("plan_s")
            live = LiveJoin(pauses_ms(plan), plan.model.sample_rate)
            pieces: list[Waveform] = []
            made: list[tuple[float, ChunkOutcome]] = []
            duration_s = 0.0
            async with self._at_work(plan, place) as stream:
                async for _, event in stream:
                    if isinstance(event, Waveform):
                        duration_s += event.duration_s
                        samples = live.add(event.samples)
                    else:
                        made.append((duration_s, event))
                        duration_s = 0.0
                        samples = live.end_chunk()
                    is_last = len(made) == len(plan.work)
                    if len(samples) or is_last:
                        pieces.append(Waveform(samples, plan.model.sample_rate))
                        yield LivePiece(pieces[-1], plan.engine.name, plan.seed, plan.warnings, is_last)
            clock.lap("synthesis_s")
            joined = partial(join.in_a_row, pieces, plan.model.sample_rate)
            result = await self._keep_speech(plan, joined, made, clock, live=True)
        yield result

    async def convert(self, request: ConversionRequest) -> ConversionResult:
        """Say the whole recording again in another voice, and keep it in the outputs library.

        Raises what `speak` raises (but for TextTooLong), and FileMissing.
        """
        async with aclosing(self.stream_conversion(request, live=False)) as stream:
            async for event in stream:
                if isinstance(event, ConversionResult):
                    return event
        raise AssertionError("unreachable")

    async def stream_conversion(
        self, request: ConversionRequest, *, live: bool = True
    ) -> AsyncGenerator[LivePiece | ConversionResult]:
        """Convert the recording and yield each window as soon as it is joined; what `convert` raises.

        `live` is for the companion: whether somebody listens meanwhile.
        """
        from utils.audio.crossfade import CrossfadeJoin

        reading = Cancellation()
        try:
            with self._host.place_in_line() as place:
                clock = _Clock()
                plan = await self._plan_conversion(request, await self._host.wait_until_ready(), reading)
                clock.lap("plan_s")
                join = CrossfadeJoin(plan.count, plan.overlap, plan.model.sample_rate)
                async with aclosing(self._converted(plan, place, reading)) as windows:
                    async for window in windows:
                        piece = await asyncio.to_thread(join.add, window)
                        yield LivePiece(piece, plan.engine.name, plan.seed, plan.warnings, is_last=join.is_whole)
                clock.lap("conversion_s")
                record = conversion_record(plan, self._conversion, live=live)
                whole = [join.joined]
                del join  # the one copy of an hour of sound belongs to what is done with it next
                duration_s, files = await self._keep(plan, record, whole.pop, clock)
            yield ConversionResult(
                files=files,
                voice=plan.voice.name,
                engine=plan.engine.name,
                model=plan.model.name,
                duration_s=duration_s,
                took_s=clock.total_s,
                warnings=plan.warnings,
                source=plan.source,
            )
        finally:
            reading.cancel()

    def concatenation_options(self, request: ConcatenationRequest) -> ConcatenationSettings:
        """As `options`. Raises InvalidRequest."""
        return self._concatenations.options(request)

    async def plan_concatenation(self, request: ConcatenationRequest) -> ConcatenationPlan:
        """What would be joined, and how. What `join` raises, before it writes anything."""
        return await self._joined(self._concatenations.plan, request)

    async def join(self, request: ConcatenationRequest) -> ConcatenationResult:
        """Join the files into one, and keep it in the outputs library. The engine has no part in it.

        Raises InvalidRequest, InvalidPath, FileMissing, InvalidAudio, NameTaken, StorageFull.
        """
        result = await self._joined(self._join, request)
        self._metrics.count_generation(result.duration_s, result.took_s)
        return result

    # Stages

    async def _joined(
        self, work: Callable[[ConcatenationRequest, Callable[[], None]], T], request: ConcatenationRequest
    ) -> T:
        """The result of work in a joining thread, which leaves it soon after this is cancelled."""
        joining = Cancellation()
        try:
            return await _in(self._joiners, work, request, joining.check)
        finally:
            joining.cancel()

    def _join(self, request: ConcatenationRequest, check: Callable[[], None]) -> ConcatenationResult:
        from utils.concatenation.render import rendered

        clock = _Clock()
        plan = self._concatenations.plan(request, check)
        clock.lap("plan_s")
        record = concatenation_record(plan)

        def companion() -> dict[str, Any]:
            clock.lap("join_s")
            return record.companion(plan.timeline.extent, clock.laps)

        with self._use.in_use(*plan.paths):
            files = self._outputs.save_stream(
                rendered(plan.timeline, check, _Progress(plan.timeline.extent)),
                plan.timeline.extent,
                stem=request.output_filename or self._outputs.stem(record.generation_type, record.name_parameters),
                folder=record.folder,
                formats=plan.options.export_formats,
                bitrates=mastering.bitrates(plan.options),
                chapters=plan.chapters,
                companion=companion,
                overwrite=request.overwrite,
                check=check,
            )
        return ConcatenationResult(
            files=files,
            duration_s=plan.timeline.extent.duration_s,
            took_s=clock.total_s,
            warnings=plan.warnings,
            plan=plan,
        )

    def _plan(self, request: SpeechRequest, engine: EngineInfo, *, early: bool) -> SpeechPlan:
        self._outputs.folder(request.folder)
        self._outputs.check_room()
        return self._planner.plan(request, engine, early=early)

    @asynccontextmanager
    async def _at_work(
        self, plan: SpeechPlan, place: Place
    ) -> AsyncGenerator[AsyncIterator[tuple[int, Waveform | ChunkOutcome]]]:
        """What comes of the plan's work. The voice's recording is in use meanwhile."""
        with self._use.in_use(*_path_of(plan.voice)):
            async with aclosing(self._host.stream_work(place, plan.work)) as stream:
                yield stream

    async def _speak_chunks(self, plan: SpeechPlan, place: Place) -> list[tuple[Waveform, ChunkOutcome]]:
        from utils.audio import join

        spoken: list[tuple[Waveform, ChunkOutcome]] = []
        pieces: list[Waveform] = []
        async with self._at_work(plan, place) as stream:
            async for _, event in stream:
                if isinstance(event, Waveform):
                    pieces.append(event)
                else:
                    spoken.append((join.in_a_row(pieces, plan.model.sample_rate), event))
                    pieces = []
        return spoken

    async def _plan_conversion(
        self, request: ConversionRequest, engine: EngineInfo, reading: Cancellation
    ) -> ConversionPlan:
        def plan() -> ConversionPlan:
            self._outputs.folder(request.folder)
            self._outputs.check_room()
            return self._conversions.plan(request, engine, reading.check)

        return await self._read(plan)

    async def _converted(self, plan: ConversionPlan, place: Place, reading: Cancellation) -> AsyncGenerator[Waveform]:
        """The windows in the new voice, each as long as it was; only some are in memory at a time."""
        from utils.audio.join import in_a_row

        with self._use.in_use(plan.recording.path, *_path_of(plan.voice)):
            work = plan.work(reading.check)
            done = 0
            while batch := await self._read(list, islice(work, plan.at_once)):
                parts: list[Waveform] = []
                try:
                    async with aclosing(self._host.stream_work(place, batch)) as stream:
                        async for index, event in stream:
                            if isinstance(event, Waveform):
                                parts.append(event)
                            else:
                                whole = await asyncio.to_thread(in_a_row, parts, plan.model.sample_rate)
                                yield fitted(whole, batch[index].audio)
                                parts = []
                                done += 1
                except GenerationFailed as error:
                    error.detail = {"window": done}
                    raise

    async def _read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _in(self._readers, call, *args, **kwargs)

    async def _keep_speech(
        self,
        plan: SpeechPlan,
        join: Callable[[], Waveform],
        made: Sequence[tuple[float, ChunkOutcome]],
        clock: _Clock,
        *,
        live: bool,
    ) -> SpeechResult:
        outcomes = [outcome for _, outcome in made]
        chunks = spoken_chunks(plan, made)
        plan.warnings.extend(remarks(outcomes))
        clock.laps["validation_s"] = sum(outcome.validation_s for outcome in outcomes)  # a part of synthesis_s
        record = speech_record(plan, self._speech, chunks, live=live)
        duration_s, files = await self._keep(plan, record, join, clock)
        return SpeechResult(
            files=files,
            voice=plan.voice.name,
            engine=plan.engine.name,
            model=plan.model.name,
            duration_s=duration_s,
            took_s=clock.total_s,
            warnings=plan.warnings,
            seed=plan.seed,
            chunks=chunks,
        )

    async def _keep(
        self, plan: SpeechPlan | ConversionPlan, record: Record, join: Callable[[], Waveform], clock: _Clock
    ) -> tuple[float, Sequence[SavedFile]]:
        """Join, master and save in one of the finishing threads; what is cancelled meanwhile leaves no files behind.

        The duration in seconds, and the files. Adds to the plan's warnings.
        """
        cancellation = Cancellation()

        def finish() -> tuple[float, Sequence[SavedFile]]:
            sound = [join()]
            clock.lap("join_s")
            done = mastering.master(sound.pop(), plan.options, cancellation.check)
            clock.laps.update(done.laps)
            plan.warnings.extend(done.warnings)
            files = self._outputs.save(
                done.waveform,
                original=done.original,
                generation_type=record.generation_type,
                name_parameters=record.name_parameters,
                folder=record.folder,
                formats=plan.options.export_formats,
                bitrates=mastering.bitrates(plan.options),
                companion=record.companion(
                    Extent(len(done.waveform.samples), done.waveform.sample_rate), clock.laps, done.applied
                ),
                check=cancellation.check,
            )
            if plan.voice.content_hash and not plan.request.voice_file:
                self._use.record_use(plan.voice.name, plan.voice.content_hash)
            return done.waveform.duration_s, files

        try:
            duration_s, files = await asyncio.get_running_loop().run_in_executor(self._finishers, finish)
        finally:
            cancellation.cancel()
        self._metrics.count_generation(duration_s, clock.total_s)
        return duration_s, files


async def _in(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    task = partial(copy_context().run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(threads, task)


def _path_of(voice: VoicePrompt) -> list[Path]:
    return [Path(voice.path)] if voice.path else []


class _Clock:
    """How long each stage took, in seconds; the first begins now."""

    def __init__(self) -> None:
        self._started_at = self._lap_at = time.perf_counter()
        self.laps: dict[str, float] = {}

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self._started_at

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage], self._lap_at = now - self._lap_at, now


class _Progress:
    """Says in the log how far a long concatenation has got."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._said_at = time.monotonic()

    def __call__(self, count: int) -> None:
        """So many samples are there."""
        if time.monotonic() - self._said_at > PROGRESS_EVERY_S:
            self._said_at = time.monotonic()
            done_s = count / self._extent.sample_rate
            logger.info("joining done_s=%.0f of_s=%.0f", done_s, self._extent.duration_s)
