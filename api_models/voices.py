"""Voices: how they are uploaded, described and listed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from api_models.bodies import lower
from api_models.fields import (
    FOLDER_NAMES,
    PRINTABLE,
    STRIPPED,
    Aliases,
    Description,
    FolderName,
    ListedAliases,
    ListedTags,
    Tags,
    Title,
    chosen_folder,
    refuse_two_folders,
)
from api_models.libraries import Deletion, Listing, PageReply, SortOrder, Upload
from api_models.replies import SuccessReply
from api_models.speech import SpeechOptions

DEFAULTS = "options of speech that requests with this voice take where they say nothing"


def _json_object(text: Any) -> Any:
    """What a form's field holds as JSON. Raises PydanticCustomError unless that is an object."""
    if not isinstance(text, str):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if not isinstance(value, dict):
        raise PydanticCustomError("json_object", "not a JSON object", {})
    return value


FormDefaults = Annotated[
    SpeechOptions | None,
    BeforeValidator(_json_object),
    WithJsonSchema({"type": "string", "contentMediaType": "application/json"}),
]
VoiceSort = Annotated[Literal["name", "created_date", "duration", "usage_count", "last_used"], BeforeValidator(lower)]
VoiceTag = Annotated[str, StringConstraints(max_length=50), STRIPPED, PRINTABLE]
TAG = Field(None, description="only voices with this tag")


class _Details(Upload):
    """What an upload says of its voices."""

    description: Description | None = None
    tags: ListedTags = Field(default_factory=list, description="comma-separated, repeated, or a JSON array")
    default_parameters: FormDefaults = Field(
        None, description=f"JSON object: {DEFAULTS}", examples=['{"exaggeration": 0.7, "temperature": 0.6}']
    )

    def details(self) -> dict[str, Any]:
        """What was said, JSON-ready: any of name, description, tags, aliases, default_parameters."""
        said = {name: getattr(self, name, None) for name in ("name", "description", "tags", "aliases")}
        return {
            **{name: value for name, value in said.items() if value},
            **({"default_parameters": _given(self.default_parameters)} if self.default_parameters else {}),
        }


class VoiceUpload(_Details):
    """A recording to clone from."""

    voice_file: UploadFile = Field(description="the recording; what it holds decides, not its extension")
    name: Title | None = Field(None, description="how people call it; the file's stem if left out")
    aliases: ListedAliases = Field(
        default_factory=list, description="other names that requests may use; each may belong to one voice only"
    )


class VoicesUpload(_Details):
    """Several recordings, which share what is said of them."""

    voice_files: list[UploadFile] = Field(default_factory=list, description="the recordings, one part each")
    voice_file: list[UploadFile] = Field(default_factory=list, description="the same as `voice_files`")
    files: list[UploadFile] = Field(default_factory=list, description="the same as `voice_files`")

    @property
    def recordings(self) -> list[UploadFile]:
        return [*self.voice_files, *self.voice_file, *self.files]


class VoiceChanges(BaseModel):
    """What is to change. A field left out stays as it is, `null` clears it."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"name": "Anna", "tags": ["warm", "female"], "aliases": ["narrator"]},
                {"folder_path": "narrators", "description": None},
                {"default_parameters": {"exaggeration": 0.7}},
            ]
        },
    )

    name: Title | None = Field(None, description="null: the file's stem")
    description: Description | None = None
    tags: Tags | None = None
    aliases: Aliases | None = Field(None, description="other names that requests may use")
    default_parameters: SpeechOptions | None = Field(None, description=DEFAULTS)
    folder_path: FolderName | None = Field(None, description="the folder to move it to; null: the library itself")
    project: FolderName | None = Field(None, description="the same as `folder_path`")
    folder: FolderName | None = Field(None, description="the same as `folder_path`")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        refuse_two_folders(self)
        if not self.model_fields_set:
            raise PydanticCustomError("nothing_asked", "nothing is asked for: name at least one field", {})
        return self

    def changes(self) -> dict[str, Any]:
        """Any of name, description, tags, aliases, default_parameters, folder_path; None clears."""
        given = {name: getattr(self, name) or None for name in self.model_fields_set - set(FOLDER_NAMES)}
        if self.default_parameters is not None:
            given["default_parameters"] = _given(self.default_parameters) or None
        if self.model_fields_set & set(FOLDER_NAMES):
            given["folder_path"] = chosen_folder(self)
        return given


def _given(options: SpeechOptions) -> dict[str, Any]:
    """The options that were given a value, JSON-ready."""
    return options.model_dump(mode="json", exclude_unset=True, exclude_none=True)


class VoiceListing(Listing):
    tag: VoiceTag | None = TAG
    sort_by: VoiceSort = "name"
    sort_order: SortOrder = "asc"


class VoiceDeletion(Deletion):
    tag: VoiceTag | None = TAG


# Replies


class VoiceMetadata(BaseModel):
    """A voice, as it was heard when it came in and as it was described."""

    name: str = Field(examples=["Anna"])
    filename: str = Field(examples=["anna.wav"])
    url: str = Field(
        description="path below voices/, to be used as `reference_audio_filename`", examples=["narrators/anna.wav"]
    )
    description: str | None
    duration_seconds: float
    sample_rate: int = Field(description="Hz")
    file_size_bytes: int
    format: str = Field(description="by content", examples=["wav"])
    default_parameters: dict[str, Any] = Field(description=DEFAULTS)
    tags: list[str]
    created_date: datetime
    last_used: datetime | None
    usage_count: int = Field(description="generations that used it")
    folder_path: str | None = Field(description="null: the library itself", examples=["narrators"])
    aliases: list[str] = Field(description="other names that requests may use")
    quality: dict[str, Any] = Field(description="how well it is fit for cloning, with advice")


class VoicesReply(PageReply):
    voices: list[VoiceMetadata]
    total_voices: int = Field(description="the same as `total_files`")


class VoiceReply(SuccessReply):
    voice_metadata: VoiceMetadata
    filename: str


class UploadResult(BaseModel):
    """What became of one file."""

    filename: str
    success: bool
    voice_metadata: VoiceMetadata | None
    error: str | None
    error_code: str | None


class UploadsReply(SuccessReply):
    results: list[UploadResult]
    uploaded_count: int
    failed_count: int


class QualityReply(SuccessReply):
    quality: dict[str, Any]
    filename: str
