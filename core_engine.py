"""From a request to files in the outputs library: the order of the stages, and nothing else."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, asynccontextmanager
from contextvars import copy_context
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import mastering
from concatenation import ConcatenationPlan, ConcatenationPlanner, ConcatenationRequest
from config.settings import ConcatenationSettings, ConversionSettings, SpeechSettings
from conversion import ConversionPlan, ConversionPlanner, ConversionRequest, fitted
from dictation import Dictation, Events
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
from making import Clock, Progress, Sound
from monitoring.metrics import Metrics
from planning import Planner, SpeechPlan, SpeechRequest
from resilience.errors import GenerationFailed
from utils.audio.formats import Bitrates
from utils.audio.waveform import Extent, Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utils.audio.chapters import Chapter

    Samples = NDArray[np.float32]

FINISHING_AT_ONCE = 2
READING_AT_ONCE = 2
JOINING_AT_ONCE = 2
NO_FILES: Sequence[SavedFile] = ()
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

    Both can be heard while they are made, from the generators `stream_…`; the last item they yield is what came of it.
    With `keep=False` that has no files, and nothing is encoded, written or reserved. Closing one, or cancelling a
    coroutine, frees the engine and keeps nothing.
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
        heard = ("utils.audio.join", "utils.audio.live_encode", "utils.audio.trim")
        for name in (*heard, *USED_BY_JOINING, "soundfile", "av"):
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
        async with aclosing(self.stream_speech(request, live=False)) as stream:
            async for event in stream:
                if isinstance(event, SpeechResult):
                    return event
        raise AssertionError("unreachable")

    async def stream_speech(
        self, request: SpeechRequest, *, keep: bool = True, live: bool = True
    ) -> AsyncGenerator[LivePiece | SpeechResult]:
        """Say the text and yield what is said at once; what `speak` raises, before the first piece if it can be.

        `live` is whether somebody listens meanwhile: then the pieces are those of the finished sound, and what needs
        the whole of it (mastering.NEED_THE_WHOLE) makes them wait for it. The last piece may be without samples.
        """
        leaving = Cancellation()
        try:
            with self._host.place_in_line() as place:
                clock = Clock()
                engine = await self._host.wait_until_ready()
                plan = await asyncio.to_thread(self._plan, request, engine, early=live, keep=keep)
                clock.lap("plan_s")
                sound = await asyncio.to_thread(Sound, plan, leaving.check, live=live, keep=keep)
                piece = partial(LivePiece, engine=engine.name, seed=plan.seed, warnings=plan.warnings)
                made: list[tuple[float, ChunkOutcome]] = []
                async with aclosing(self._joined(plan, place, made)) as spoken:
                    async for waveform in spoken:
                        if len((ready := await sound.add(waveform)).samples):
                            yield piece(ready, is_last=False)
                yield piece(await sound.finish(self._finishers), is_last=True)
                clock.lap("synthesis_s")
                result = await self._speech_result(plan, sound, made, clock, live=live, keep=keep)
            yield result
        finally:
            leaving.cancel()

    @asynccontextmanager
    async def dictation(self, request: SpeechRequest) -> AsyncGenerator[Dictation]:
        """A place in line in which a text can be spoken while it is still being written; that of the request is not.

        Raises what `speak` raises but for what concerns the text. Nothing is kept.
        """
        with self._host.place_in_line() as place:
            engine = await self._host.wait_until_ready()
            manner = await asyncio.to_thread(self._planner.manner, request, engine)

            def at_work(plan: SpeechPlan) -> AbstractAsyncContextManager[Events]:
                return self._at_work(plan, self._host.renewed(place))

            yield Dictation(self._planner, manner, at_work, lambda: self._host.characters_a_second, self._metrics)
            if manner.voice.content_hash:
                await asyncio.to_thread(self._use.record_use, manner.voice.name, manner.voice.content_hash)

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
        self, request: ConversionRequest, *, keep: bool = True, live: bool = True
    ) -> AsyncGenerator[LivePiece | ConversionResult]:
        """Convert the recording and yield each window as soon as it is joined; what `convert` raises.

        `live` as in `stream_speech`.
        """
        from utils.audio.crossfade import CrossfadeJoin

        leaving = Cancellation()
        try:
            with self._host.place_in_line() as place:
                clock = Clock()
                engine = await self._host.wait_until_ready()
                plan = await self._plan_conversion(request, engine, leaving, keep)
                clock.lap("plan_s")
                join = CrossfadeJoin(plan.count, plan.overlap, plan.model.sample_rate)
                sound = await asyncio.to_thread(Sound, plan, leaving.check, live=live, keep=keep)
                piece = partial(LivePiece, engine=engine.name, seed=plan.seed, warnings=plan.warnings)
                async with aclosing(self._converted(plan, place, leaving)) as windows:
                    async for window in windows:
                        if len((ready := await sound.add(await asyncio.to_thread(join.add, window))).samples):
                            yield piece(ready, is_last=False)
                yield piece(await sound.finish(self._finishers), is_last=True)
                clock.lap("conversion_s")
                sound.came_of(join.joined)
                del join  # the one copy of an hour of sound belongs to what is done with it next
                record = conversion_record(plan, self._conversion, live=live)
                duration_s, files = await self._keep(plan, record, sound, clock, keep=keep)
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
            leaving.cancel()

    def concatenation_options(self, request: ConcatenationRequest) -> ConcatenationSettings:
        """As `options`. Raises InvalidRequest."""
        return self._concatenations.options(request)

    async def plan_concatenation(self, request: ConcatenationRequest) -> ConcatenationPlan:
        """What would be joined, and how. What `join` raises, before it writes anything."""
        return await self._in_joiner(self._concatenations.plan, request)

    async def join(self, request: ConcatenationRequest) -> ConcatenationResult:
        """Join the files into one, and keep it in the outputs library. The engine has no part in it.

        Raises InvalidRequest, InvalidPath, FileMissing, InvalidAudio, NameTaken, StorageFull.
        """
        result = await self._in_joiner(self._join, request)
        self._metrics.count_generation(result.duration_s, result.took_s)
        return result

    # Stages

    async def _in_joiner(
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

        clock = Clock()
        plan = self._concatenations.plan(request, check)
        clock.lap("plan_s")
        record = concatenation_record(plan)

        def companion() -> dict[str, Any]:
            clock.lap("join_s")
            return record.companion(plan.timeline.extent, clock.laps, clock.total_s)

        with self._use.in_use(*plan.paths):
            files = self._outputs.save_stream(
                rendered(plan.timeline, check, Progress(plan.timeline.extent), plan.warnings.append),
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

    def _plan(self, request: SpeechRequest, engine: EngineInfo, *, early: bool, keep: bool) -> SpeechPlan:
        self._prepare_folder(request.folder, keep=keep)
        return self._planner.plan(request, engine, early=self._host.characters_a_second if early else None)

    def _prepare_folder(self, name: str | None, *, keep: bool) -> None:
        """Refuse at once what could not be kept in the end; a name that is wrong, even if nothing is to be kept."""
        self._outputs.folder(name)
        if keep:
            self._outputs.check_room()

    @asynccontextmanager
    async def _at_work(self, plan: SpeechPlan, place: Place) -> AsyncGenerator[Events]:
        """What comes of the plan's work. The voice's recording is in use meanwhile."""
        with self._use.in_use(*_path_of(plan.voice)):
            async with aclosing(self._host.stream_work(place, plan.work)) as stream:
                yield stream

    async def _joined(
        self, plan: SpeechPlan, place: Place, made: list[tuple[float, ChunkOutcome]]
    ) -> AsyncGenerator[Waveform]:
        """The speech with its pauses, as it comes. `made` gets the seconds of each chunk and how it came to be."""
        from utils.audio.join import PauseJoin

        join = PauseJoin(pauses_ms(plan), plan.model.sample_rate)
        duration_s = 0.0
        async with self._at_work(plan, place) as stream:
            async for _, event in stream:
                if isinstance(event, Waveform):
                    duration_s += event.duration_s
                    samples = join.add(event.samples)
                else:
                    made.append((duration_s, event))
                    duration_s = 0.0
                    samples = join.end_chunk()
                if len(samples):
                    yield Waveform(samples, plan.model.sample_rate)

    async def _plan_conversion(
        self, request: ConversionRequest, engine: EngineInfo, reading: Cancellation, keep: bool
    ) -> ConversionPlan:
        def plan() -> ConversionPlan:
            self._prepare_folder(request.folder, keep=keep)
            return self._conversions.plan(request, engine, reading.check)

        return await self._read(plan)

    async def _converted(self, plan: ConversionPlan, place: Place, reading: Cancellation) -> AsyncGenerator[Waveform]:
        """The windows in the new voice, each as long as it was; only some are in memory at a time."""
        from utils.audio.join import in_a_row

        with self._use.in_use(plan.recording.path, *_path_of(plan.voice)):
            work = plan.work(reading.check)
            done = 0
            while batch := await self._read(list, islice(work, plan.at_once)):
                parts: list[Samples] = []
                try:
                    async with aclosing(self._host.stream_work(place, batch)) as stream:
                        async for index, event in stream:
                            if isinstance(event, Waveform):
                                parts.append(event.samples)
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

    async def _speech_result(
        self,
        plan: SpeechPlan,
        sound: Sound,
        made: Sequence[tuple[float, ChunkOutcome]],
        clock: Clock,
        *,
        live: bool,
        keep: bool,
    ) -> SpeechResult:
        outcomes = [outcome for _, outcome in made]
        chunks = spoken_chunks(plan, made)
        plan.warnings.extend(remarks(outcomes))
        clock.laps["validation_s"] = sum(outcome.validation_s for outcome in outcomes)  # a part of synthesis_s
        record = speech_record(plan, self._speech, chunks, live=live)
        duration_s, files = await self._keep(plan, record, sound, clock, keep=keep)
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
        self, plan: SpeechPlan | ConversionPlan, record: Record, sound: Sound, clock: Clock, *, keep: bool
    ) -> tuple[float, Sequence[SavedFile]]:
        """Master and save in one of the finishing threads; what is cancelled meanwhile leaves no files behind.

        The duration in seconds, and the files: none if nothing is to be kept. Adds to the plan's warnings.
        """
        cancellation = Cancellation()

        def finish() -> tuple[float, Sequence[SavedFile]]:
            done = sound.whole(cancellation.check)
            clock.laps.update(done.laps)
            plan.warnings.extend(warning for warning in done.warnings if warning not in plan.warnings)
            files = self._outputs.save(
                done.waveform,
                original=done.original,
                generation_type=record.generation_type,
                name_parameters=record.name_parameters,
                folder=record.folder,
                formats=plan.options.export_formats,
                bitrates=mastering.bitrates(plan.options),
                companion=record.companion(
                    Extent(len(done.waveform.samples), done.waveform.sample_rate),
                    clock.laps,
                    clock.total_s,
                    done.applied,
                ),
                check=cancellation.check,
            )
            return done.waveform.duration_s, files

        duration_s, files = sound.duration_s, NO_FILES
        try:
            if keep:
                duration_s, files = await asyncio.get_running_loop().run_in_executor(self._finishers, finish)
            if plan.voice.content_hash and not plan.request.voice_file:
                await asyncio.to_thread(self._use.record_use, plan.voice.name, plan.voice.content_hash)
        finally:
            cancellation.cancel()
        self._metrics.count_generation(duration_s, clock.total_s)
        return duration_s, files


async def _in(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    task = partial(copy_context().run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(threads, task)


def _path_of(voice: VoicePrompt) -> list[Path]:
    return [Path(voice.path)] if voice.path else []
