"""Files, uploads and silences to be joined, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from api_models.bodies import AS_QUERY, FOLDER, PROJECT, SEED, FormatName, RequestBody, Strict, lower, option
from api_models.fields import Title
from api_models.generations import OutputFileReply, output_file
from api_models.replies import SuccessReply
from concatenation import ClipRequest, ConcatenationPlan, ConcatenationRequest
from config.settings import ConcatenationSettings, CrossfadeCurve
from generations import ConcatenationResult
from planning import Borrowed
from utils.audio.formats import FORMATS
from utils.concatenation.notation import silence_ms
from utils.concatenation.timeline import Silence

MOST_PARTS = 10_000
MOST_UPLOADS = 100
EXTENSIONS = (*FORMATS, "json")
OF_ORIGINALS = "_original"  # the library has a meaning for it

FileMode = Annotated[Literal["stream", "file", "download", "url", "json"], BeforeValidator(lower)]


def _refuse(kind: str, sentence: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{sentence}", {"sentence": sentence})


def _silence(written: str) -> float | None:
    try:
        return silence_ms(written)
    except ValueError as error:
        raise _refuse("silence_notation", str(error)) from error


class Clip(Strict):
    """What may be said of each file that is joined."""

    gain_db: float | None = Field(
        None, ge=-60, le=30, description="decibels by which it is louder, or softer, than it were (null: 0)"
    )
    fade_in_ms: int | None = Field(
        None, ge=0, le=60_000, description="milliseconds in which it comes up from silence (null: 0)"
    )
    fade_out_ms: int | None = Field(
        None, ge=0, le=60_000, description="milliseconds in which it fades to silence (null: 0)"
    )
    title: Title | None = Field(None, description="of its chapter (null: the file's name)")

    def request(self, source: str, file: Borrowed | None = None) -> ClipRequest:
        return ClipRequest(
            source=source,
            file=file,
            title=self.title,
            gain_db=self.gain_db or 0.0,
            fade_in_ms=self.fade_in_ms or 0,
            fade_out_ms=self.fade_out_ms or 0,
        )


SOURCE = Field(
    min_length=1,
    max_length=1024,
    description='a path below outputs/, or a silence such as "(500ms)" or "(1.5s)", from 50 ms to 10 s',
    examples=["book/one.wav"],
)


class FileItem(Clip):
    """A file or a silence; its source alone is enough."""

    source: str = SOURCE

    @model_validator(mode="before")
    @classmethod
    def _by_its_source(cls, item: Any) -> Any:
        return {"source": item} if isinstance(item, str) else item

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> FileItem:
        if self.is_silence and len(self.model_dump(exclude_none=True)) > 1:
            raise _refuse("silence_options", f"{self.source} is a silence, which has no options")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "description": SOURCE.description}, handler(core)]}

    @property
    def is_silence(self) -> bool:
        return _silence(self.source) is not None

    def part(self) -> ClipRequest | Silence:
        duration_ms = _silence(self.source)
        return self.request(self.source) if duration_ms is None else Silence(self.source, duration_ms)


class ServerFileSegment(Clip):
    """A file below outputs/."""

    type: Literal["server_file"]
    source: str = Field(min_length=1, max_length=1024, description="a path below outputs/", examples=["intro.wav"])


class UploadSegment(Clip):
    """One of the files of the form."""

    type: Literal["upload"]
    index: int = Field(ge=0, lt=MOST_UPLOADS, description="which of `uploaded_files`; the first is 0")


class SilenceSegment(Strict):
    """A silence."""

    type: Literal["silence"]
    source: str = Field(max_length=100, description="from 50 ms to 10 s", examples=["(500ms)", "(1.5s)"])

    @model_validator(mode="after")
    def _is_a_silence(self) -> SilenceSegment:
        if _silence(self.source) is None:
            raise _refuse("silence_notation", f'{self.source!a} is no silence: write "(500ms)" or "(1.5s)"')
        return self


Segment = Annotated[ServerFileSegment | UploadSegment | SilenceSegment, Field(discriminator="type")]


def _enough(clips: int, silences: int) -> None:
    if not clips:
        raise _refuse("too_short", "there is no file in it, only silence" if silences else "there is no file in it")
    if clips == 1 and not silences:
        raise _refuse("too_short", "one file alone has nothing to be joined to: add another, or a silence")


def _enough_items(items: list[FileItem]) -> list[FileItem]:
    silences = sum(item.is_silence for item in items)
    _enough(len(items) - silences, silences)
    return items


def _enough_segments(segments: list[Segment]) -> list[Segment]:
    silences = sum(isinstance(segment, SilenceSegment) for segment in segments)
    _enough(len(segments) - silences, silences)
    used = {segment.index for segment in segments if isinstance(segment, UploadSegment)}
    if unused := sorted(set(range(max(used, default=-1) + 1)) - used):
        raise _refuse("unused_upload", f"the indices of uploads go from 0 without a gap; {unused[0]} is not used")
    return segments


def _stem(name: str) -> str:
    if name.rpartition(".")[2].lower() in EXTENSIONS and "." in name:
        raise _refuse("extension", "leave the extension out: each of the export_formats gets its own")
    if name.endswith(OF_ORIGINALS):
        raise _refuse("reserved", f"a name that ends with {OF_ORIGINALS} means something else")
    return name


def _of(name: str) -> Any:
    return option(name, ConcatenationSettings)


class JoinBody(RequestBody):
    """How files are joined."""

    export_formats: list[FormatName] | None = _of("export_formats")
    channels: Annotated[Literal["mono", "stereo", "auto"], BeforeValidator(lower)] | None = _of("channels")
    normalize_levels: bool | None = _of("normalize_levels")
    level_lufs: float | None = _of("level_lufs")
    level_tp: float | None = _of("level_tp")
    crossfade_ms: int | None = _of("crossfade_ms")
    crossfade_curve: Annotated[CrossfadeCurve, BeforeValidator(lower)] | None = _of("crossfade_curve")
    pause_duration_ms: int | None = _of("pause_duration_ms")
    pause_variation_ms: int | None = _of("pause_variation_ms")
    trim: bool | None = _of("trim")
    trim_threshold_ms: int | None = _of("trim_threshold_ms")
    chapters: bool | None = Field(
        None, description="mark where each file begins, in the reply and in mp3, opus and flac files (null: false)"
    )
    output_filename: Annotated[str, AfterValidator(_stem)] | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="name of the result, without extension (null: a generated one)",
        examples=["chapter-1"],
    )
    overwrite: bool | None = Field(
        None, description="true = `output_filename` may be there already, and is replaced (null: false)"
    )
    seed: int | None = SEED
    dry_run: bool | None = AS_QUERY
    project: str | None = PROJECT
    folder: str | None = FOLDER
    response_mode: FileMode | None = AS_QUERY
    return_format: FormatName | None = AS_QUERY

    def _request(self, parts: Sequence[ClipRequest | Silence], field: str) -> ConcatenationRequest:
        return ConcatenationRequest(
            parts=parts,
            output_filename=self.output_filename,
            overwrite=bool(self.overwrite),
            chapters=bool(self.chapters),
            seed=self.seed or 0,
            folder=self.project or self.folder or None,
            options=self.options_of(ConcatenationSettings),
            named=field,
        )


class ConcatenationBody(JoinBody):
    """Generated files and silences, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"files": ["intro.wav", "(1s)", "part1.wav", "part2.wav"], "pause_duration_ms": 600},
                {
                    "files": [{"source": "music.wav", "gain_db": -12, "fade_out_ms": 2000}, "speech.wav"],
                    "crossfade_ms": 500,
                    "chapters": True,
                    "export_formats": ["mp3"],
                },
            ]
        }
    )

    files: Annotated[
        list[FileItem], Field(min_length=1, max_length=MOST_PARTS), FailFast(), AfterValidator(_enough_items)
    ] = Field(description="at least one file and a silence, or two files")

    def to_request(self) -> ConcatenationRequest:
        return self._request([item.part() for item in self.files], "files")


class MixedConcatenationBody(JoinBody):
    """Generated files, uploads and silences, in order: the field `request_json` of a form."""

    segments: Annotated[
        list[Segment], Field(min_length=1, max_length=MOST_PARTS), FailFast(), AfterValidator(_enough_segments)
    ] = Field(description="as `files` of /api/v1/concat, but for uploads, each of which is used at least once")

    @property
    def uploads(self) -> int:
        """How many files it speaks of."""
        return len({segment.index for segment in self.segments if isinstance(segment, UploadSegment)})

    def to_request(self, uploads: Sequence[Borrowed]) -> ConcatenationRequest:
        return self._request([_part(segment, uploads) for segment in self.segments], "segments")


def _part(segment: Segment, uploads: Sequence[Borrowed]) -> ClipRequest | Silence:
    if isinstance(segment, SilenceSegment):
        return Silence(segment.source, _silence(segment.source) or 0)
    if isinstance(segment, UploadSegment):
        upload = uploads[segment.index]
        return segment.request(upload.relative, upload)
    return segment.request(segment.source)


# Replies


class TrimSummary(BaseModel):
    files_trimmed: int
    files_not_trimmed: int
    total_silence_removed_seconds: float


class ChapterReply(BaseModel):
    title: str
    start_seconds: float
    end_seconds: float
    source: str


class PlanMetadata(BaseModel):
    """How the parts were put together."""

    silence_segments: int = Field(description="silences that were written")
    natural_pauses: int = Field(description="pauses that were drawn")
    total_segments: int = Field(description="files and silences that were asked for")
    crossfade_ms: int
    normalized: bool
    sample_rate: int = Field(description="Hz, the highest of the files'")
    channels: int
    total_samples: int = Field(description="of each channel")
    trim_summary: TrimSummary


class ConcatenationMetadata(PlanMetadata):
    processing_details: list[dict[str, Any]] = Field(
        description="file, manual_silence or natural_pause, in order: when it begins, how long it is, what was done"
    )


class DryRunReply(SuccessReply):
    """What would be heard. Nothing was written."""

    dry_run: Literal[True] = True
    total_duration_seconds: float
    file_count: int
    estimated_processing_seconds: float
    generation_seed_used: int
    timeline: list[dict[str, Any]] = Field(description="as `processing_details` of what is joined")
    metadata: PlanMetadata
    chapters: list[ChapterReply]
    warnings: list[str]

    @classmethod
    def of(cls, plan: ConcatenationPlan) -> DryRunReply:
        return cls(
            message="nothing was written",
            estimated_processing_seconds=round(plan.estimated_s, 3),
            timeline=plan.timeline.as_json(),
            metadata=PlanMetadata(**_metadata(plan)),
            **_about(plan),
        )


class ConcatenationReply(SuccessReply):
    output_files: list[str] = Field(description="the names of the files", examples=[["concat_….wav"]])
    files: list[OutputFileReply]
    total_duration_seconds: float
    file_count: int = Field(description="how many files were joined")
    processing_time_seconds: float
    generation_seed_used: int = Field(description="what the pauses were drawn from")
    metadata: ConcatenationMetadata
    chapters: list[ChapterReply]
    warnings: list[str] = Field(description="what was asked for and had no effect, or may not be as expected")

    @classmethod
    def of(cls, result: ConcatenationResult) -> ConcatenationReply:
        plan = result.plan
        clips = len(plan.timeline.clips)
        return cls(
            message=f"{clips} file{'s'[: clips != 1]} joined",
            output_files=[file.path.name for file in result.files],
            files=[output_file(file) for file in result.files],
            processing_time_seconds=round(result.took_s, 4),
            metadata=ConcatenationMetadata(**_metadata(plan), processing_details=plan.timeline.as_json()),
            **_about(plan),
        )


def _about(plan: ConcatenationPlan) -> dict[str, Any]:
    """What both replies say."""
    return {
        "total_duration_seconds": round(plan.timeline.extent.duration_s, 6),
        "file_count": len(plan.timeline.clips),
        "generation_seed_used": plan.seed,
        "chapters": [
            ChapterReply(
                title=chapter.title,
                start_seconds=round(chapter.start_s, 6),
                end_seconds=round(chapter.end_s, 6),
                source=placed.clip.source,
            )
            for placed, chapter in zip(plan.timeline.clips, plan.chapters, strict=bool(plan.chapters))
        ],
        "warnings": plan.warnings,
    }


def _metadata(plan: ConcatenationPlan) -> dict[str, Any]:
    timeline = plan.timeline
    removed_s = [sum(clip.trimmed_s) for clip in timeline.clips]
    trimmed = sum(seconds > 0 for seconds in removed_s)
    return {
        "silence_segments": timeline.silences,
        "natural_pauses": timeline.pauses,
        "total_segments": len(timeline.clips) + timeline.silences,
        "crossfade_ms": plan.options.crossfade_ms,
        "normalized": plan.options.normalize_levels,
        "sample_rate": timeline.extent.sample_rate,
        "channels": timeline.extent.channels,
        "total_samples": timeline.extent.count,
        "trim_summary": TrimSummary(
            files_trimmed=trimmed,
            files_not_trimmed=len(removed_s) - trimmed,
            total_silence_removed_seconds=round(sum(removed_s), 6),
        ),
    }
