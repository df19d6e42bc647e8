"""What the three libraries' listings, uploads and deletions are asked for, and how they answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from api_models.bodies import lower
from api_models.fields import (
    PRINTABLE,
    STRIPPED,
    FolderName,
    From,
    ListedFileNames,
    SomeFileNames,
    Until,
    chosen_folder,
    refuse_two_folders,
)
from api_models.replies import SuccessReply
from utils.text.fold import fold

FARTHEST_PAGE = 10**9  # beyond any library, and short of what a database can count
SEARCH_LENGTH = 200


SortOrder = Annotated[Literal["asc", "desc"], BeforeValidator(lower)]
GenerationType = Annotated[Literal["tts", "vc", "concat"], BeforeValidator(lower)]


class Asked(BaseModel):
    """A form or query. What it does not know it refuses: a misspelt criterion must never widen a deletion."""

    model_config = ConfigDict(extra="forbid")


class InFolder(Asked):
    """What names a folder, under names that mean the same."""

    @model_validator(mode="after")
    def _one_folder(self) -> Self:
        refuse_two_folders(self)
        return self

    @property
    def chosen_folder(self) -> str | None:
        return chosen_folder(self)


SEARCH = Field(None, description="words that must occur, whatever their case and accents")


def _searchable(text: str | None) -> str | None:
    """Raise PydanticCustomError for a text that nothing can be found by: in a deletion it would mean every file."""
    if text and not fold(text).split():
        raise PydanticCustomError("names_nothing", "there is nothing in it that could be searched for", {})
    return text or None


Search = Annotated[
    Annotated[str, StringConstraints(max_length=SEARCH_LENGTH), STRIPPED, PRINTABLE] | None, AfterValidator(_searchable)
]
FOLDER = Field(None, description="only what lies in this folder or below it", examples=["book/chapter-1"])
PROJECT = Field(None, description="the same as `folder`")
FILENAMES: Any = Field(
    default_factory=list,
    description="only these files: with their folder one file, without it all of that name; "
    "comma-separated, repeated, or a JSON array",
)


# Listings


class Listing(InFolder):
    """Which files, and which part of what was found. Every criterion must be met."""

    page: int = Field(1, ge=1, le=FARTHEST_PAGE, description="a page past the end is empty")
    page_size: int = Field(50, ge=1, le=100)
    search: Search = SEARCH
    folder: FolderName | None = FOLDER
    project: FolderName | None = PROJECT


class FileListing(Listing):
    """As `Listing`, for what is listed by its files."""

    filenames: ListedFileNames = FILENAMES
    date_from: From = Field(None, description="ISO 8601, UTC unless it says otherwise; a bare date means its beginning")
    date_to: Until = Field(None, description="the same; a bare date means its end")
    sort_order: SortOrder = "desc"


class PageReply(SuccessReply):
    """One page, and where it stands among the others."""

    count: int = Field(description="files on this page")
    page: int
    page_size: int
    total_pages: int = Field(description="at least 1")
    has_next: bool
    has_previous: bool
    total_files: int = Field(description="files that meet the criteria")


class FolderReply(BaseModel):
    path: str = Field(description="`root` is the library itself", examples=["root", "book/chapter-1"])
    voice_count: int = Field(description="the same as `file_count`")
    file_count: int = Field(description="files directly in it")
    subfolders: list[str] = Field(description="the names of the folders directly in it")


class FoldersReply(SuccessReply):
    folders: list[FolderReply]
    total_folders: int
    total_voices: int = Field(description="the same as `total_files`")
    total_files: int


# Uploads


class Upload(InFolder):
    """The fields that every upload has."""

    folder_path: FolderName | None = Field(
        None, description="folder of the library, made if absent", examples=["narrators"]
    )
    project: FolderName | None = Field(None, description="the same as `folder_path`")
    folder: FolderName | None = Field(None, description="the same as `folder_path`")
    overwrite: bool = Field(False, description="replace a file of the same name, instead of 409")


# Deletions


class Confirmation(Asked):
    confirm: bool = Field(False, description="must be true, else nothing is deleted and the answer is 400")


class Deletion(Confirmation, InFolder):
    """Which files: those that meet every criterion that is given."""

    all: bool = Field(False, description="true, and no criterion: everything")
    search: Search = SEARCH
    filenames: SomeFileNames = FILENAMES
    folder: FolderName | None = FOLDER
    project: FolderName | None = PROJECT

    @property
    def empty_criteria(self) -> list[str]:
        """The criteria that were given, and say nothing."""
        criteria = self.model_fields_set - Confirmation.model_fields.keys() - {"all"}
        return sorted(name for name in criteria if not getattr(self, name))


class DeletionReply(SuccessReply):
    deleted_files: list[str] = Field(description="audio files, by their paths below the library")
    deleted_count: int
