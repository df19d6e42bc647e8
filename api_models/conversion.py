"""A recording to say again, and what became of it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from api_models.bodies import (
    AS_QUERY,
    FOLDER,
    MODEL,
    PROJECT,
    SEED,
    FormatName,
    ResponseMode,
    SoundBody,
    option,
)
from api_models.generations import GenerationReply, generation_fields
from config.settings import ConversionSettings
from conversion import ConversionRequest
from generations import ConversionResult


class ConversionBody(SoundBody):
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
        description="the recording: a path below vc_inputs/, or else below outputs/; or a web address",
        examples=["interview.wav"],
    )
    target_voice_source: str = Field(
        min_length=1,
        max_length=1024,
        description="the voice: a path below voices/, a name, an alias, a voice of the engine's own; or a web address",
        examples=["narrators/anna.wav"],
    )
    model: str | None = MODEL
    chunk_sec: float | None = option("chunk_sec", ConversionSettings)
    overlap_sec: float | None = option("overlap_sec", ConversionSettings)
    seed: int | None = SEED
    project: str | None = PROJECT
    folder: str | None = FOLDER
    save: bool | None = option("save")
    response_mode: ResponseMode | None = AS_QUERY
    return_format: FormatName | None = AS_QUERY

    def to_request(self) -> ConversionRequest:
        return ConversionRequest(
            source=self.input_audio_source,
            voice=self.target_voice_source,
            model=self.model,
            seed=self.seed or 0,
            folder=self.project or self.folder or None,
            options=self.options_of(ConversionSettings),
        )


# The files of a form, and the field of the body that each takes the place of.
FILES = {"input_audio": "input_audio_source", "target_voice": "target_voice_source"}


def conversion_form_schema() -> dict[str, Any]:
    """The body as a form, for OpenAPI: the same fields, and files in the place of names."""
    schema = ConversionBody.model_json_schema()
    described = {
        name: {"type": "string", "format": "binary", "description": f"the recording itself, instead of `{instead}`"}
        for name, instead in FILES.items()
    }
    return {"type": "object", "properties": {**described, **schema["properties"]}, "additionalProperties": False}


class ConversionReply(GenerationReply):
    source: str = Field(
        description="the recording: its path below the data directory, its web address, or the name it was sent under",
        examples=["vc_inputs/interview.wav"],
    )

    @classmethod
    def of(cls, result: ConversionResult) -> ConversionReply:
        return cls(message="converted", **generation_fields(result), source=result.source)
