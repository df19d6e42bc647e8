"""What was made of a request, for those who asked for a description of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from api_models.replies import SuccessReply
from generations import Generation, SavedFile


class OutputFileReply(BaseModel):
    format: str = Field(examples=["wav"])
    filename: str = Field(examples=["tts_2026-11-22_201530_004211_temp0.75.wav"])
    url: str = Field(description="where the file can be had from this server", examples=["/outputs/tts_….wav"])
    path: str = Field(description="relative to the data directory", examples=["outputs/tts_….wav"])
    size_bytes: int


def output_file(file: SavedFile) -> OutputFileReply:
    return OutputFileReply(
        format=file.format.name,
        filename=file.path.name,
        url=file.url,
        path=f"outputs/{file.relative}",
        size_bytes=file.size_bytes,
    )


class GenerationReply(SuccessReply):
    """What was made and is kept."""

    output_files: list[OutputFileReply]
    processing_time_seconds: float
    audio_duration_seconds: float
    engine: str = Field(examples=["embedded"])
    model: str = Field(examples=["espeak-world"])
    voice: str
    warnings: list[str] = Field(description="what was asked for and had no effect, or may not be as expected")


def generation_fields(result: Generation) -> dict[str, Any]:
    """The members of GenerationReply but for its message."""
    return {
        "output_files": [output_file(file) for file in result.files],
        "processing_time_seconds": round(result.took_s, 4),
        "audio_duration_seconds": round(result.duration_s, 4),
        "engine": result.engine,
        "model": result.model,
        "voice": result.voice,
        "warnings": result.warnings,
    }
