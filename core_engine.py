"""From a request for speech to files in the outputs library: the order of the stages, and nothing else."""

from __future__ import annotations

import asyncio
import importlib
import platform
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from config.settings import ApiSettings, SpeechSettings
from config.version import VERSION
from engines.base import Cancellation, ChunkOutcome, ChunkRequest, EngineInfo, Sampling, VoicePrompt, derived_seed
from engines.host import EngineHost, Place
from monitoring import context
from monitoring.metrics import Metrics
from resilience.errors import InvalidRequest, TextTooLong, VoiceNotFound
from utils.audio.formats import AudioFormat
from utils.audio.waveform import Waveform
from utils.files.naming import number
from utils.text.normalize import CleanUp, clean, lowercase, refuse_control_characters
from utils.text.split import Chunk, Grouping, Pause, split

if TYPE_CHECKING:
    from pathlib import Path

MAX_SEED = 2**32 - 1
FINISHING_AT_ONCE = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What a client asks to be said. `options` holds the members of SpeechSettings that the client gave a value."""

    text: str
    voice: str | None = None
    seed: int = 0
    sound_words: str = ""
    folder: str | None = None
    wants_validation: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpokenChunk:
    index: int
    text: str
    duration_s: float
    seed: int
    attempts: int


class Recording(Protocol):
    """A voice of the library: see management.voices."""

    @property
    def relative(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def content_hash(self) -> str: ...


class VoiceLibrary(Protocol):
    def find(self, name: str) -> Recording | None: ...
    def close_matches(self, name: str, others: Sequence[str]) -> list[str]: ...


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
    duration_s: float
    took_s: float
    chunks: list[SpokenChunk]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that is decided before the engine is asked."""

    request: SpeechRequest
    options: SpeechSettings
    info: EngineInfo
    voice: VoicePrompt
    seed: int
    text: str
    chunks: list[Chunk]
    requests: list[ChunkRequest]
    warnings: list[str]


class CoreEngine:
    """Speaks texts through the engine, with the voices and into the outputs that it was given."""

    def __init__(
        self,
        speech: SpeechSettings,
        api: ApiSettings,
        host: EngineHost,
        voices: VoiceLibrary,
        outputs: OutputsLibrary,
        metrics: Metrics,
    ) -> None:
        self._speech = speech
        self._api = api
        self._host = host
        self._voices = voices
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
        return self._speech.model_copy(update=dict(request.options))

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
        chunks = [
            SpokenChunk(index, plan.chunks[index].text, waveform.duration_s, outcome.seed, outcome.attempts)
            for index, (waveform, outcome) in enumerate(spoken)
        ]
        timings = {"plan_s": planned_at - started_at, "synthesis_s": spoken_at - planned_at}
        pauses = [self._pause_ms(chunk.pause, plan.options) for chunk in plan.chunks[:-1]]
        joined, files = await self._unless_cancelled(
            partial(self._finish, plan, [waveform for waveform, _ in spoken], pauses, chunks, timings)
        )
        took_s = time.perf_counter() - started_at
        self._metrics.count_generation(joined.duration_s, took_s)
        return SpeechResult(
            files, plan.seed, plan.voice.name, info.name, joined.duration_s, took_s, chunks, plan.warnings
        )

    async def _unless_cancelled(self, finish: Callable[[Cancellation], T]) -> T:
        """Run the last stage in one of its threads; a request that is cancelled meanwhile leaves no files behind."""
        cancellation = Cancellation()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._finishers, finish, cancellation)
        finally:
            cancellation.cancel()

    def _plan(self, request: SpeechRequest, info: EngineInfo) -> _Plan:
        options = self.options(request)
        self._check(request, options, info)
        text = clean(
            request.text,
            CleanUp(
                to_lowercase=options.to_lowercase,
                normalize_spacing=options.normalize_spacing,
                fix_dot_letters=options.fix_dot_letters,
                remove_reference_numbers=options.remove_reference_numbers,
                sound_words=request.sound_words,
            ),
            self._api.max_text_length,
        )
        if not text.strip():
            raise InvalidRequest("nothing is left to say after the clean-up of the text", field="text")
        grouping = Grouping.FULL if options.enable_batching else Grouping.EACH
        if grouping is Grouping.EACH and options.smart_batch_short_sentences:
            grouping = Grouping.SHORT
        chunks = split(text, language=options.language, max_characters=options.chunk_characters, grouping=grouping)
        voice = self._find_voice(request.voice or self._speech.default_voice, info)
        seed = request.seed or secrets.randbelow(MAX_SEED) + 1
        requests = [
            ChunkRequest(
                text=lowercase(chunk.text.strip()) if options.to_lowercase else chunk.text.strip(),
                language=info.language_of(options.language) or options.language,
                voice=voice,
                sampling=Sampling(
                    exaggeration=options.exaggeration,
                    temperature=options.temperature,
                    cfg_weight=options.cfg_weight,
                    min_p=options.min_p,
                    top_p=options.top_p,
                    repetition_penalty=options.repetition_penalty,
                ),
                seed=derived_seed(seed, index) if index else seed,
                watermark=not options.disable_watermark,
                max_attempts=options.max_attempts_per_candidate,
                request_id=context.request_id.get(),
            )
            for index, chunk in enumerate(chunks)
        ]
        return _Plan(
            request, options, info, voice, seed, text, chunks, requests, self._warnings(request, options, info)
        )

    def _check(self, request: SpeechRequest, options: SpeechSettings, info: EngineInfo) -> None:
        if not request.text.strip():
            raise InvalidRequest("the text is empty", field="text", kind="string_too_short")
        if len(request.text.strip()) > self._api.max_text_length:
            raise TextTooLong(
                f"the text has {len(request.text.strip())} characters; at most {self._api.max_text_length} are allowed",
                field="text",
                kind="string_too_long",
            )
        refuse_control_characters(request.text)
        refuse_control_characters(request.sound_words, field="sound_words_field")
        self._outputs.folder(request.folder)
        self._outputs.check_room()
        if info.language_of(options.language) is None:
            raise InvalidRequest(
                f"the {info.name} engine does not speak {options.language!a}; it speaks {', '.join(info.languages)}",
                field="language",
            )

    def _find_voice(self, name: str | None, info: EngineInfo) -> VoicePrompt:
        """The library comes first, so that a recording may take the name of an engine's own voice."""
        if name is None:
            return VoicePrompt(info.voices[0])
        if recording := self._voices.find(name):
            return VoicePrompt(recording.relative, str(recording.path), recording.content_hash)
        if name in info.voices:
            return VoicePrompt(name)
        close = self._voices.close_matches(name, info.voices)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise VoiceNotFound(f"there is no voice named {name}{hint}", detail={"voice": name, "close_matches": close})

    @staticmethod
    def _warnings(request: SpeechRequest, options: SpeechSettings, info: EngineInfo) -> list[str]:
        sampling = ("exaggeration", "temperature", "cfg_weight", "min_p", "top_p", "repetition_penalty")
        warnings = [
            f"{name} has no effect on the {info.name} engine"
            for name in sampling
            if name in request.options and name not in info.takes
        ]
        if not options.disable_watermark and not info.watermarks:
            warnings.append(f"not watermarked: the {info.name} engine has no watermark")
        if not any(character.isalnum() for character in request.text):
            warnings.append("the text has no letter or digit: there may be little or nothing to hear")
        if request.wants_validation:
            warnings.append("not validated: this server has no transcriber, so one candidate was made of each chunk")
        return warnings

    async def _speak_chunks(self, plan: _Plan, place: Place) -> list[tuple[Waveform, ChunkOutcome]]:
        from utils.audio import join

        spoken: list[tuple[Waveform, ChunkOutcome]] = []
        pieces: list[Waveform] = []
        async with aclosing(self._host.stream_speech(place, plan.requests)) as stream:
            async for _, event in stream:
                if isinstance(event, Waveform):
                    pieces.append(event)
                else:
                    spoken.append((join.in_a_row(pieces, plan.info.sample_rate), event))
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
        plan: _Plan,
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

    def _name_parameters(self, plan: _Plan) -> list[str]:
        parameters = [f"temp{number(plan.options.temperature)}"]
        if plan.request.seed:
            parameters.append(f"seed{plan.request.seed}")
        if plan.options.exaggeration != self._speech.exaggeration:
            parameters.append(f"exag{number(plan.options.exaggeration)}")
        return parameters

    @staticmethod
    def _companion(
        plan: _Plan, joined: Waveform, chunks: Sequence[SpokenChunk], timings: Mapping[str, float]
    ) -> dict[str, Any]:
        """All that is needed to know how the audio came about, and to make it again."""
        return {
            "type": "tts",
            "created_date": datetime.now(UTC).isoformat(),
            "engine": {"name": plan.info.name, "model": plan.info.model, "device": plan.info.device},
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
