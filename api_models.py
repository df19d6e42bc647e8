"""The bodies that clients send and get, grouped by route. A field that may be left out means "the server's default"."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from config.settings import AudioFormatName, ConversionSettings, Section, SpeechSettings, WhisperName
from conversion import ConversionRequest
from generations import ConversionResult, Generation, SpeechResult
from planning import MAX_SEED, SpeechRequest


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


FormatName = Annotated[AudioFormatName, BeforeValidator(_lower)]
ResponseMode = Annotated[Literal["stream", "file", "download", "url", "json", "live"], BeforeValidator(_lower)]


def now() -> datetime:
    return datetime.now(UTC)


def option(name: str, section: type[Section] = SpeechSettings) -> Any:
    """A field that takes its meaning, range and shipped default from the setting of the same name."""
    setting = section.model_fields[name]
    shipped = json.dumps(setting.default)
    described = f"{setting.description} (null: the server's default, as shipped {shipped})"
    field: FieldInfo = Field(default=None, description=described, examples=[setting.default])  # type: ignore[assignment]
    field.metadata = list(setting.metadata)
    return field


# Options of the contract that this version does not carry out yet, with the value that means "off" and is taken.
LATER: dict[str, Any] = {
    "use_auto_editor": False,
    "keep_original_wav_ae": False,
    "ae_threshold": 0.06,
    "ae_margin": 0.2,
    "normalize_audio": False,
    "normalize_method": "ebu",
    "normalize_level": -24,
    "normalize_tp": -2,
    "normalize_lra": 7,
    "speed_factor": 1.0,
    "speed_factor_library": "auto",
    "trim": False,
    "trim_threshold_ms": 200,
}


# Fields that name a recording, which will take a web address one day.
BY_ADDRESS = ("reference_audio_filename", "input_audio_source", "target_voice_source")


def later(name: str) -> Any:
    return Field(default=None, description=f"not available in this version: null or {json.dumps(LATER[name])} only")


MODEL = Field(
    default=None,
    min_length=1,
    max_length=100,
    description="one of the engine's models, as /api/v1/config lists them (null: its default)",
    examples=["turbo"],
)
SEED = Field(
    default=None,
    ge=0,
    le=MAX_SEED,
    description="0 = random; the seed that was used comes back, and gives the same samples",
)
PROJECT = Field(
    default=None, max_length=1024, description="folder below outputs/, made if absent", examples=["book/chapter-1"]
)
FOLDER = Field(default=None, max_length=1024, description="the same as `project`")
AS_QUERY = Field(default=None, description="as the query parameter, which wins")


class RequestBody(BaseModel):
    """What the bodies of all generations have in common: how they are checked."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_a_flood_of_fields(cls, body: Any) -> Any:
        """One fault for all of them, where a fault each would be an answer of megabytes."""
        if isinstance(body, dict) and len(body) > 2 * len(cls.model_fields):
            raise PydanticCustomError("too_many_fields", "the body has {count} fields", {"count": len(body)})
        return body

    @field_validator(*LATER, check_fields=False)
    @classmethod
    def _refuse_what_is_to_come(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        if value is not None and value != LATER[name]:
            raise PydanticCustomError("not_available_yet", "{name} is not available in this version", {"name": name})
        return value

    @field_validator(*BY_ADDRESS, check_fields=False)
    @classmethod
    def _refuse_addresses(cls, value: str | None) -> str | None:
        if value is not None and value.lower().startswith(("http://", "https://")):
            raise PydanticCustomError(
                "not_available_yet", "a recording by its web address is not available in this version", {}
            )
        return value

    @model_validator(mode="after")
    def _one_folder(self) -> Self:
        project, folder = getattr(self, "project", None), getattr(self, "folder", None)
        if project is not None and folder is not None and project != folder:
            raise PydanticCustomError("folder_conflict", "project and folder are the same option; they differ here", {})
        return self

    def options_of(self, section: type[Section]) -> dict[str, Any]:
        """The members of a section of the settings that this body gives a value."""
        given = {name: getattr(self, name, None) for name in section.model_fields}
        options = {name: value for name, value in given.items() if value is not None}
        if "export_formats" in options:
            options["export_formats"] = tuple(dict.fromkeys(options["export_formats"]))
        return options


# Speech


class SpeechBody(RequestBody):
    """A text to say, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "Hello! This is my own computer speaking."},
                {
                    "text": "Chapter one. It was a bright cold day.",
                    "reference_audio_filename": "narrators/anna.wav",
                    "exaggeration": 0.7,
                    "seed": 42,
                    "project": "book/chapter-1",
                    "export_formats": ["mp3", "flac"],
                },
            ]
        },
    )

    text: str = Field(min_length=1, description="what to say; at most `api.max_text_length` characters (10,000)")
    model: str | None = MODEL
    reference_audio_filename: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="the voice: a path below voices/ (the extension may be left out) or a voice of the engine's own",
        examples=["narrators/anna.wav"],
    )
    exaggeration: float | None = option("exaggeration")
    temperature: float | None = option("temperature")
    cfg_weight: float | None = option("cfg_weight")
    min_p: float | None = option("min_p")
    top_p: float | None = option("top_p")
    repetition_penalty: float | None = option("repetition_penalty")
    seed: int | None = SEED
    language: str | None = option("language")
    num_candidates_per_chunk: int | None = option("num_candidates_per_chunk")
    max_attempts_per_candidate: int | None = option("max_attempts_per_candidate")
    bypass_whisper_checking: bool | None = option("bypass_whisper_checking")
    whisper_model_name: WhisperName | None = option("whisper_model_name")
    use_faster_whisper: bool | None = option("use_faster_whisper")
    use_longest_transcript_on_fail: bool | None = option("use_longest_transcript_on_fail")
    enable_batching: bool | None = option("enable_batching")
    smart_batch_short_sentences: bool | None = option("smart_batch_short_sentences")
    to_lowercase: bool | None = option("to_lowercase")
    normalize_spacing: bool | None = option("normalize_spacing")
    fix_dot_letters: bool | None = option("fix_dot_letters")
    remove_reference_numbers: bool | None = option("remove_reference_numbers")
    sound_words_field: str | None = Field(
        None,
        max_length=20_000,
        description="words to leave out, or `a=>b` to say b for a; one a line or comma-separated",
        examples=["um, SQL=>sequel"],
    )
    project: str | None = PROJECT
    folder: str | None = FOLDER
    export_formats: list[FormatName] | None = option("export_formats")
    disable_watermark: bool | None = option("disable_watermark")
    response_mode: ResponseMode | None = AS_QUERY
    return_format: FormatName | None = AS_QUERY

    use_auto_editor: bool | None = later("use_auto_editor")
    keep_original_wav_ae: bool | None = later("keep_original_wav_ae")
    ae_threshold: float | None = later("ae_threshold")
    ae_margin: float | None = later("ae_margin")
    normalize_audio: bool | None = later("normalize_audio")
    normalize_method: str | None = later("normalize_method")
    normalize_level: float | None = later("normalize_level")
    normalize_tp: float | None = later("normalize_tp")
    normalize_lra: float | None = later("normalize_lra")
    speed_factor: float | None = later("speed_factor")
    speed_factor_library: str | None = later("speed_factor_library")
    trim: bool | None = later("trim")
    trim_threshold_ms: int | None = later("trim_threshold_ms")

    def to_request(self) -> SpeechRequest:
        return SpeechRequest(
            text=self.text,
            model=self.model,
            voice=self.reference_audio_filename,
            seed=self.seed or 0,
            sound_words=self.sound_words_field or "",
            folder=self.project or self.folder or None,
            wants_listening=self._wants_listening(),
            options=self.options_of(SpeechSettings),
        )

    def _wants_listening(self) -> bool:
        """True if any field is given that only a transcriber could heed."""
        given = (self.whisper_model_name, self.use_faster_whisper, self.use_longest_transcript_on_fail)
        return (
            any(value is not None for value in given)
            or (self.num_candidates_per_chunk or 1) > 1
            or self.bypass_whisper_checking is False
        )


# Voice conversion


class ConversionBody(RequestBody):
    """A recording to say again, and in whose voice."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input_audio_source": "interview.wav", "target_voice_source": "narrators/anna.wav"},
                {
                    "input_audio_source": "interviews/long.mp3",
                    "target_voice_source": "anna",
                    "chunk_sec": 30,
                    "overlap_sec": 0.2,
                    "project": "dubbing",
                    "export_formats": ["flac"],
                },
            ]
        },
    )

    input_audio_source: str = Field(
        min_length=1,
        max_length=1024,
        description="the recording: a path below vc_inputs/, or else below outputs/",
        examples=["interview.wav"],
    )
    target_voice_source: str = Field(
        min_length=1,
        max_length=1024,
        description="the voice: a path below voices/ (the extension may be left out) or a voice of the engine's own",
        examples=["narrators/anna.wav"],
    )
    model: str | None = MODEL
    chunk_sec: float | None = option("chunk_sec", ConversionSettings)
    overlap_sec: float | None = option("overlap_sec", ConversionSettings)
    seed: int | None = SEED
    project: str | None = PROJECT
    folder: str | None = FOLDER
    export_formats: list[FormatName] | None = option("export_formats", ConversionSettings)
    disable_watermark: bool | None = option("disable_watermark", ConversionSettings)
    response_mode: ResponseMode | None = AS_QUERY
    return_format: FormatName | None = AS_QUERY

    speed_factor: float | None = later("speed_factor")
    speed_factor_library: str | None = later("speed_factor_library")

    def to_request(self) -> ConversionRequest:
        return ConversionRequest(
            source=self.input_audio_source,
            voice=self.target_voice_source,
            model=self.model,
            seed=self.seed or 0,
            folder=self.project or self.folder or None,
            options=self.options_of(ConversionSettings),
        )


# Replies


class SuccessReply(BaseModel):
    """What every JSON answer that went well begins with."""

    success: Literal[True] = True
    message: str
    timestamp: datetime = Field(default_factory=now)


class OutputFileReply(BaseModel):
    format: str = Field(examples=["wav"])
    filename: str = Field(examples=["tts_2026-11-22_201530_004211_temp0.75.wav"])
    url: str = Field(description="where the file can be had from this server", examples=["/outputs/tts_….wav"])
    path: str = Field(description="relative to the data directory", examples=["outputs/tts_….wav"])
    size_bytes: int


class ChunkReply(BaseModel):
    index: int
    text: str = Field(description="the chunk's part of the cleaned text; all of them join back to it")
    duration_seconds: float
    seed: int
    attempts: int
    score: float | None = Field(None, description="share of its words that was understood; null: nobody listened")


class GenerationReply(SuccessReply):
    """What was made and is kept."""

    output_files: list[OutputFileReply]
    processing_time_seconds: float
    audio_duration_seconds: float
    engine: str = Field(examples=["embedded"])
    model: str = Field(examples=["espeak-world"])
    voice: str
    warnings: list[str] = Field(description="what was asked for and had no effect, or may not be as expected")


class SpeechReply(GenerationReply):
    generation_seed_used: int
    chunks: list[ChunkReply]

    @classmethod
    def of(cls, result: SpeechResult) -> SpeechReply:
        return cls(
            message=f"spoken in {len(result.chunks)} chunk{'s'[: len(result.chunks) != 1]}",
            **_generation_fields(result),
            generation_seed_used=result.seed,
            chunks=[
                ChunkReply(
                    index=chunk.index,
                    text=chunk.text,
                    duration_seconds=round(chunk.duration_s, 4),
                    seed=chunk.seed,
                    attempts=chunk.attempts,
                    score=chunk.score,
                )
                for chunk in result.chunks
            ],
        )


class ConversionReply(GenerationReply):
    source: str = Field(description="the recording, below the data directory", examples=["vc_inputs/interview.wav"])

    @classmethod
    def of(cls, result: ConversionResult) -> ConversionReply:
        return cls(message="converted", **_generation_fields(result), source=result.source)


def _generation_fields(result: Generation) -> dict[str, Any]:
    """The members of GenerationReply but for its message."""
    return {
        "output_files": [
            OutputFileReply(
                format=file.format.name,
                filename=file.path.name,
                url=file.url,
                path=f"outputs/{file.relative}",
                size_bytes=file.size_bytes,
            )
            for file in result.files
        ],
        "processing_time_seconds": round(result.took_s, 4),
        "audio_duration_seconds": round(result.duration_s, 4),
        "engine": result.engine,
        "model": result.model,
        "voice": result.voice,
        "warnings": result.warnings,
    }


# System


class RootReply(SuccessReply):
    name: str
    version: str
    links: dict[str, str]


class LivenessReply(SuccessReply):
    status: Literal["alive"] = "alive"


class ReadinessReply(SuccessReply):
    status: Literal["ready"] = "ready"
    engine: str


class HealthReply(SuccessReply):
    status: Literal["healthy", "degraded", "starting"]
    engine: str | None = Field(description="the engine that speaks; null until it is loaded")
    model: str | None
    device: str | None
    models_loaded: dict[str, bool]
    models: list[dict[str, Any]] = Field(description="the engine's models, and whether each is in memory now")
    loading: dict[str, Any] | None = Field(description="while starting: what is done, bytes, seconds left")
    version: str
    uptime_seconds: float
    metrics: dict[str, Any]
    system_info: dict[str, Any]
    resource_status: dict[str, Any]
    warnings: list[str]
    error_summary: dict[str, Any]


class ConfigReply(SuccessReply):
    tts_defaults: dict[str, Any]
    vc_defaults: dict[str, Any]
    supported_formats: list[str]
    api_limits: dict[str, Any]
    engine: dict[str, Any] = Field(description="what the loaded engine speaks and heeds")


# Errors


class ErrorReply(BaseModel):
    """Every failure of the native API has this shape; match on `error_code`."""

    success: Literal[False] = False
    error: str = Field(description="a sentence for a person")
    error_code: str = Field(examples=["VOICE_NOT_FOUND"])
    detail: str | list[Any] | dict[str, Any] | None = None
    request_id: str
    timestamp: datetime = Field(default_factory=now)
