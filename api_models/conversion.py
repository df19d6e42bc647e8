"""A recording to say again, and what became of it."""

from __future__ import annotations

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


class ConversionReply(GenerationReply):
    source: str = Field(description="the recording, below the data directory", examples=["vc_inputs/interview.wav"])

    @classmethod
    def of(cls, result: ConversionResult) -> ConversionReply:
        return cls(message="converted", **generation_fields(result), source=result.source)
