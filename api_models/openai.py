"""OpenAI's speech API on the wire: a text to say, models, and the one body of every failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api_models.bodies import FOLDER, PROJECT, FormatName
from api_models.fields import Title
from api_models.speech import SpeechOptions
from config.settings import SpeechSettings
from planning import SpeechRequest

LONGEST_INPUT = 4096
SLOWEST, FASTEST = 0.25, 4.0
OTHER_NAMES = {"language": "lang_code", "speed_factor": "speed", "project": "folder"}


def _named(value: Any) -> Any:
    """A voice is a name, or an object with an id: the name or the id."""
    if not isinstance(value, dict):
        return value
    if "id" not in value:
        raise PydanticCustomError("voice_without_id", "an object that names a voice has an id", {})
    if len(value) > 1:
        raise PydanticCustomError("voice_with_more", "an object that names a voice has an id and nothing else", {})
    return value["id"]


VoiceName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"id": {"type": "string"}},
                    "required": ["id"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class SpeechManner(SpeechOptions):
    """How a text is said: OpenAI's own fields, and those of `POST /api/v1/tts`."""

    model: str = Field(min_length=1, max_length=200, description="one of those that /v1/models lists")
    voice: VoiceName = Field(
        description="a voice of the library (path, name or alias), of the engine, or one of OpenAI's names; or "
        '`{"id": "…"}`, as /v1/audio/voices lists them'
    )
    instructions: str | None = Field(
        None, max_length=4096, description="how to say it; no engine of this server can follow them yet"
    )
    response_format: FormatName = "mp3"
    speed: float | None = Field(
        None, ge=SLOWEST, le=FASTEST, description="2 = twice as fast, the pitch is kept (null: `speech.speed_factor`)"
    )
    lang_code: str | None = Field(None, min_length=2, max_length=35, description="the same as `language`")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, body: Any) -> Any:
        return {key: value for key, value in body.items() if value is not None} if isinstance(body, dict) else body

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        for name, other in (("language", "lang_code"), ("speed", "speed_factor")):
            if None not in (mine := getattr(self, name), its := getattr(self, other)) and mine != its:
                raise PydanticCustomError("conflict", f"{name} and {other} are the same option; they differ here", {})
        return self

    def sent_as(self, field: str) -> str:
        """The name by which the body has this option."""
        other = OTHER_NAMES.get(field, field)
        return other if other in self.model_fields_set and field not in self.model_fields_set else field

    def to_request(self, model: str, voice: str) -> SpeechRequest:
        """Without a text. `model` and `voice` as this server calls them."""
        said = {"language": self.lang_code, "speed_factor": self.speed}
        return SpeechRequest(
            text="",
            model=model,
            voice=voice,
            seed=self.seed,
            sound_words=self.sound_words_field,
            wants_listening=self.wants_listening,
            options={
                **self.options_of(SpeechSettings),
                **{name: value for name, value in said.items() if value is not None},
            },
        )


class CreateSpeech(SpeechManner):
    """A text to say. Beside OpenAI's own fields it may have those of `POST /api/v1/tts` that say how."""

    model_config = ConfigDict(
        extra="ignore",  # as other servers of this API have other extensions, which their clients send to all
        json_schema_extra={
            "examples": [
                {"model": "tts-1", "input": "Hello! This is my own computer speaking.", "voice": "alloy"},
                {
                    "model": "tts-1",
                    "input": "And this is my own voice.",
                    "voice": "narrators/anna",
                    "response_format": "opus",
                    "speed": 1.25,
                    "exaggeration": 0.7,
                    "seed": 42,
                },
            ]
        },
    )

    input: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_INPUT)] = Field(
        description="what to say"
    )
    stream_format: Literal["audio", "sse"] = Field(
        "audio", description="audio: the bare file; sse: the same in server-sent events"
    )
    save: bool | None = Field(None, description="keep it in the outputs library (null: `openai.save`)")
    project: str | None = PROJECT
    folder: str | None = FOLDER

    def to_request(self, model: str, voice: str) -> SpeechRequest:
        manner = super().to_request(model, voice)
        return replace(manner, text=self.input, folder=self.project or self.folder or None)


def bounds(field: str) -> tuple[float, float] | None:
    """The least and the greatest value of a field of `CreateSpeech`, where it has both."""
    info = CreateSpeech.model_fields.get(field)
    metadata = info.metadata if info else []
    least = next((one.ge for one in metadata if hasattr(one, "ge")), None)
    most = next((one.le for one in metadata if hasattr(one, "le")), None)
    return None if least is None or most is None else (least, most)


class ErrorBody(BaseModel):
    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="the field at fault", examples=["voice"])
    code: str | None = Field(examples=["voice_not_found"])


class ErrorEnvelope(BaseModel):
    """The body of every failure below /v1."""

    error: ErrorBody


class Model(BaseModel):
    id: str = Field(examples=["tts-1"])
    object: Literal["model"] = "model"
    created: int = Field(description="seconds since 1970; when this server was started")
    owned_by: str = Field(description="the engine", examples=["embedded"])


class ModelList(BaseModel):
    """`models` is the same list again, for clients that look for it there."""

    object: Literal["list"] = "list"
    data: list[Model]
    models: list[Model]


# Voices


class Voice(BaseModel):
    id: str = Field(description="what a request names it by", examples=["narrators/anna.wav"])
    object: Literal["audio.voice"] = "audio.voice"
    name: str = Field(examples=["Anna"])
    created_at: int = Field(description="seconds since 1970")
    type: Literal["audio_sample", "built_in"] = Field(description="a recording of the library, or the engine's own")


class VoiceList(BaseModel):
    """`voices` is the same list again, for clients that look for it there; with `legacy=true` it has the ids alone."""

    object: Literal["list"] = "list"
    data: list[Voice]
    voices: list[Voice] | list[str]


class CreateVoice(BaseModel):
    """A sample of somebody's voice."""

    type: Literal["audio_sample"] = Field("audio_sample", description="voices are not made from prompts here")
    name: Title
    audio_sample: UploadFile = Field(description="the recording, at most 10 MiB")
    consent: str | None = Field(None, max_length=200, description="the id of a recorded consent")


class VoiceDeleted(BaseModel):
    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: Literal[True] = True


# Consents


class Consent(BaseModel):
    id: str = Field(examples=["cons_4d2c…"])
    object: Literal["audio.voice_consent"] = "audio.voice_consent"
    name: str
    language: str = Field(description="BCP 47", examples=["en-US"])
    created_at: int = Field(description="seconds since 1970")


class ConsentList(BaseModel):
    """The newest first."""

    object: Literal["list"] = "list"
    data: list[Consent]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CreateConsent(BaseModel):
    """A recording in which somebody says that his voice may be used."""

    name: Title
    language: Annotated[str, Field(max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")]
    recording: UploadFile = Field(description="at most 10 MiB")


class ConsentQuery(BaseModel):
    after: str | None = Field(None, max_length=200, description="the last id of the page before")
    limit: int = Field(20, ge=1, le=100)


class ConsentChanges(BaseModel):
    model_config = ConfigDict(strict=True)

    name: Title


class ConsentDeleted(BaseModel):
    id: str
    object: Literal["audio.voice_consent"] = "audio.voice_consent"
    deleted: Literal[True] = True
