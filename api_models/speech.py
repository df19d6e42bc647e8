"""A text to say, and what became of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

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
from config.settings import SpeechSettings, WhisperName
from generations import SpeechResult
from planning import SpeechRequest


class SpeechOptions(SoundBody):
    """How a text is said. A voice may bring its own, under the same names: its `default_parameters`."""

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

    @property
    def wants_listening(self) -> bool:
        """True if any field is given that only a transcriber could heed."""
        given = (self.whisper_model_name, self.use_faster_whisper, self.use_longest_transcript_on_fail)
        return (
            any(value is not None for value in given)
            or (self.num_candidates_per_chunk or 1) > 1
            or self.bypass_whisper_checking is False
        )


class SpeechBody(SpeechOptions):
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
        description="the voice: a path below voices/, a name, an alias, a voice of the engine's own; or a web address",
        examples=["narrators/anna.wav"],
    )
    project: str | None = PROJECT
    folder: str | None = FOLDER
    save: bool | None = option("save")
    response_mode: ResponseMode | None = AS_QUERY
    return_format: FormatName | None = AS_QUERY

    def to_request(self) -> SpeechRequest:
        return SpeechRequest(
            text=self.text,
            model=self.model,
            voice=self.reference_audio_filename,
            seed=self.seed,
            sound_words=self.sound_words_field,
            folder=self.project or self.folder or None,
            wants_listening=self.wants_listening,
            options=self.options_of(SpeechSettings),
        )


class ChunkReply(BaseModel):
    index: int
    text: str = Field(description="the chunk's part of the cleaned text; all of them join back to it")
    duration_seconds: float
    seed: int
    attempts: int
    score: float | None = Field(None, description="share of its words that was understood; null: nobody listened")


class SpeechReply(GenerationReply):
    generation_seed_used: int
    chunks: list[ChunkReply]

    @classmethod
    def of(cls, result: SpeechResult) -> SpeechReply:
        return cls(
            message=f"spoken in {len(result.chunks)} chunk{'s'[: len(result.chunks) != 1]}",
            **generation_fields(result),
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
