"""Generated files, and recordings to convert: how they are listed, uploaded and deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, Field

from api_models.bodies import lower
from api_models.fields import Transcript
from api_models.libraries import Deletion, FileListing, GenerationType, PageReply, Upload
from api_models.replies import SuccessReply

FileSort = Annotated[Literal["created_date", "filename", "duration", "size"], BeforeValidator(lower)]
OutputSort = Annotated[
    Literal["created_date", "filename", "duration", "size", "generation_type"], BeforeValidator(lower)
]
GENERATION_TYPE = Field(None, description="only what was made this way")


class OutputListing(FileListing):
    generation_type: GenerationType | None = GENERATION_TYPE
    sort_by: OutputSort = "created_date"


class OutputDeletion(Deletion):
    generation_type: GenerationType | None = GENERATION_TYPE


class VcInputListing(FileListing):
    sort_by: FileSort = "created_date"


class VcInputUpload(Upload):
    """A recording to convert."""

    vc_input_file: UploadFile = Field(description="the recording; what it holds decides, not its extension")
    text: Transcript | None = Field(None, description="what is said in it; found by `search`")


# Replies


class LibraryFile(BaseModel):
    """A recording, as it was heard when it came in."""

    filename: str = Field(examples=["interview.wav"])
    url: str
    created_date: datetime
    file_size_bytes: int
    duration_seconds: float
    sample_rate: int = Field(description="Hz")
    format: str = Field(description="by content", examples=["wav"])
    folder_path: str | None = Field(description="null: the library itself", examples=["interviews"])


class OutputMetadata(LibraryFile):
    url: str = Field(description="where the file can be had from this server", examples=["/outputs/book/tts_….wav"])
    generation_type: str | None = Field(description="tts, vc or concat; null: it was put there by hand")
    parameters: dict[str, Any] = Field(description="the request, as it was understood")
    source_files: list[str] = Field(description="the recordings it was made from")
    formats: list[str] = Field(description="the formats of this generation", examples=[["wav", "mp3"]])


class OutputsReply(PageReply):
    files: list[OutputMetadata]


class VcInputMetadata(LibraryFile):
    url: str = Field(
        description="path below vc_inputs/, to be used as `input_audio_source`", examples=["interviews/one.wav"]
    )
    text: str | None
    upload_date: datetime


class VcInputsReply(PageReply):
    files: list[VcInputMetadata]


class VcInputReply(SuccessReply):
    metadata: VcInputMetadata
    filename: str
