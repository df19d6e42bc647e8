"""What was made of a request: the result, and the name and companion that it is kept under."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from concatenation import ClipRequest, ConcatenationPlan
from config.settings import ConversionSettings, SoundSettings, SpeechSettings
from config.version import VERSION
from conversion import ConversionPlan
from engines.base import ChunkOutcome, EngineInfo, ModelInfo, VoicePrompt
from planning import SpeechPlan
from utils.audio.formats import AudioFormat
from utils.audio.waveform import Extent, Waveform
from utils.files.naming import number, word
from utils.text.split import Pause

if TYPE_CHECKING:
    from pathlib import Path

    from utils.concatenation.timeline import Silence


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


@dataclass(frozen=True, slots=True)
class SpokenChunk:
    index: int
    text: str
    duration_s: float
    seed: int
    attempts: int
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Audio that was made, and the files that it is kept in: none if it was only to be heard."""

    files: Sequence[SavedFile]
    duration_s: float
    took_s: float
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Kept):
    """Audio that an engine made."""

    voice: str
    engine: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechResult(Generation):
    seed: int
    chunks: list[SpokenChunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionResult(Generation):
    """`source` is the recording's path below the data folder."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatenationResult(Kept):
    plan: ConcatenationPlan


@dataclass(frozen=True, slots=True)
class LivePiece:
    """The next of the samples of audio that is heard while it is made.

    `warnings` are those that are known already. `is_last` may be a piece without samples.
    """

    waveform: Waveform
    engine: str
    seed: int
    warnings: list[str]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Record:
    """How a generation is kept: the words of its file name, and its companion but for what the audio itself says."""

    generation_type: str
    name_parameters: Sequence[str]
    folder: str | None
    about: Mapping[str, Any]

    def companion(
        self,
        extent: Extent,
        timings: Mapping[str, float],
        took_s: float,
        processing: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """All that is needed to know how the audio came about, and to make it again.

        `took_s` is what the request took until now, in seconds: what it is told how large a share processing had of.
        """
        processed_s = sum(timings[f"{stage['stage']}_s"] for stage in processing)
        return {
            "type": self.generation_type,
            "created_date": datetime.now(UTC).isoformat(),
            **self.about,
            "duration_s": extent.duration_s,
            "sample_rate": extent.sample_rate,
            "channels": extent.channels,
            "processing": list(processing),
            "timings": {name: round(seconds, 6) for name, seconds in timings.items()},
            "processing_share": round(processed_s / took_s, 6),
            "versions": {"server": VERSION, "python": platform.python_version()},
        }


def speech_record(plan: SpeechPlan, shipped: SpeechSettings, chunks: Sequence[SpokenChunk], *, live: bool) -> Record:
    """`shipped` are the server's defaults: what differs from them stands in the file's name."""
    parameters = [f"temp{number(plan.options.temperature)}"]
    if plan.request.seed:
        parameters.append(f"seed{plan.request.seed}")
    if plan.options.exaggeration != shipped.exaggeration:
        parameters.append(f"exag{number(plan.options.exaggeration)}")
    parameters += _of_the_sound(plan.options)
    about = {
        **_maker(plan.engine, plan.model, plan.voice, plan.seed),
        "request": {
            "text": plan.request.text,
            "model": plan.request.model,
            "reference_audio_filename": plan.request.voice,
            "seed": plan.request.seed or 0,
            "sound_words_field": plan.request.sound_words or "",
            "project": plan.request.folder,
            "live": live,
            **plan.options.model_dump(mode="json"),
        },
        "text": plan.text,
        "chunks": [
            {**asdict(chunk), "least_pause_after_ms": pause_ms(planned.pause, plan.options)}
            for chunk, planned in zip(chunks, plan.chunks, strict=True)
        ],
        "warnings": plan.warnings,
    }
    return Record("tts", parameters, plan.request.folder, about)


def conversion_record(plan: ConversionPlan, shipped: ConversionSettings, *, live: bool) -> Record:
    """As `speech_record`."""
    options = plan.options
    parameters = []
    if options.chunk_sec != shipped.chunk_sec:
        parameters.append(f"chunk{number(options.chunk_sec)}")
    if options.overlap_sec != shipped.overlap_sec:
        parameters.append(f"overlap{number(options.overlap_sec)}")
    parameters += _of_the_sound(options)
    parameters.append(f"voice{word(PurePosixPath(plan.voice.name).stem)}")
    about = {
        **_maker(plan.engine, plan.model, plan.voice, plan.seed),
        "request": {
            "input_audio_source": plan.request.source,
            "target_voice_source": plan.request.voice,
            "model": plan.request.model,
            "seed": plan.request.seed,
            "project": plan.request.folder,
            "live": live,
            **options.model_dump(mode="json"),
        },
        "source_files": [plan.source],
        "warnings": plan.warnings,
    }
    return Record("vc", parameters, plan.request.folder, about)


def concatenation_record(plan: ConcatenationPlan) -> Record:
    """The name and companion of files that were joined."""
    options, timeline = plan.options, plan.timeline
    parameters = [f"{len(timeline.clips)}files"]
    if timeline.silences:
        parameters.append(f"sil{timeline.silences}")
    if options.pause_duration_ms:
        parameters.append(f"pause{options.pause_duration_ms}v{options.pause_variation_ms}")
    if options.crossfade_ms:
        parameters.append(f"fade{options.crossfade_ms}")
    parameters += ["leveled"] if options.normalize_levels else []
    parameters += [f"trim{options.trim_threshold_ms}"] if options.trim else []
    about = {
        "seed": plan.seed,
        "request": {
            "seed": plan.request.seed,
            "project": plan.request.folder,
            "output_filename": plan.request.output_filename,
            "overwrite": plan.request.overwrite,
            "chapters": plan.request.chapters,
            **options.model_dump(mode="json"),
        },
        "parts": [_part(part) for part in plan.request.parts],
        "source_files": plan.source_files,
        "timeline": timeline.as_json(),
        "chapters": [asdict(chapter) for chapter in plan.chapters],
        "warnings": plan.warnings,
    }
    return Record("concat", parameters, plan.request.folder, about)


def _part(asked: ClipRequest | Silence) -> str | dict[str, Any]:
    """As a client writes it, with what is not as it would be by itself: there may be ten thousand."""
    if not isinstance(asked, ClipRequest):
        return asked.written
    own = {"gain_db": asked.gain_db, "fade_in_ms": asked.fade_in_ms, "fade_out_ms": asked.fade_out_ms}
    said = {name: value for name, value in {**own, "title": asked.title}.items() if value}
    return {"source": asked.source, **said} if said else asked.source


def _of_the_sound(options: SoundSettings) -> list[str]:
    """The words of a file name that tell what was done to the sound."""
    speed = [f"speed{number(options.speed_factor)}"] if options.speed_factor != 1 else []
    return speed + ([f"trim{options.trim_threshold_ms}"] if options.trim else [])


def spoken_chunks(plan: SpeechPlan, spoken: Sequence[tuple[float, ChunkOutcome]]) -> list[SpokenChunk]:
    """The plan's chunks with their durations in seconds and how they came to be."""
    return [
        SpokenChunk(index, chunk.text, duration_s, outcome.seed, outcome.attempts, outcome.score)
        for index, (chunk, (duration_s, outcome)) in enumerate(zip(plan.chunks, spoken, strict=True))
    ]


def remarks(outcomes: Sequence[ChunkOutcome]) -> list[str]:
    """What the engine has to say of each chunk, with the chunk's index."""
    return [f"chunk {index}: {remark}" for index, outcome in enumerate(outcomes) for remark in outcome.remarks]


def pauses_ms(plan: SpeechPlan) -> list[int]:
    """The least pause after each chunk but the last."""
    return [pause_ms(chunk.pause, plan.options) for chunk in plan.chunks[:-1]]


def pause_ms(pause: Pause, options: SpeechSettings) -> int:
    return {
        Pause.NONE: 0,
        Pause.CLAUSE: options.clause_pause_ms,
        Pause.SENTENCE: options.sentence_pause_ms,
        Pause.PARAGRAPH: options.paragraph_pause_ms,
    }[pause]


def _maker(engine: EngineInfo, model: ModelInfo, voice: VoicePrompt, seed: int) -> dict[str, Any]:
    return {
        "engine": {"name": engine.name, "model": model.name, "device": engine.device},
        "voice": {"name": voice.name, "content_hash": voice.content_hash},
        "seed": seed,
    }
