"""What the routes of the three libraries have in common: criteria, pages, folders, deletions."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Annotated, Any

from fastapi import Path, Request

from api_models.files import OutputListing, VcInputListing
from api_models.libraries import Deletion, DeletionReply, FolderReply, FoldersReply, Listing
from api_models.voices import VoiceListing
from management.store import AudioStore
from management.stored import Page, Selection, StoredFile
from resilience import errors
from resilience.errors import ConfirmationRequired, CriteriaRequired, InvalidRequest
from routes.deps import in_heavy_thread
from utils.files.paths import relative_parts

ROOT = "root"  # what the API calls the library itself, among its folders
LISTING_FAILURES = (errors.InvalidRequest, errors.InvalidPath)
DELETION_FAILURES = (*LISTING_FAILURES, errors.ConfirmationRequired)
BULK_DELETION_FAILURES = (*DELETION_FAILURES, errors.CriteriaRequired)

FilePath = Annotated[str, Path(description="path below the library; it may hold slashes", examples=["book/one.wav"])]
AnyListing = VoiceListing | OutputListing | VcInputListing


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s'[: count != 1]}"


def selection(asked: Listing | Deletion) -> Selection:
    """The criteria of a query, with its paths in the spelling of the libraries. Raises InvalidPath."""
    folder = asked.chosen_folder
    return Selection(
        folder="/".join(relative_parts(folder)) if folder else None,
        search=asked.search,
        filenames=tuple("/".join(relative_parts(name)) for name in getattr(asked, "filenames", ())),
        tag=getattr(asked, "tag", None) or None,
        generation_type=getattr(asked, "generation_type", None),
        date_from=getattr(asked, "date_from", None),
        date_to=getattr(asked, "date_to", None),
    )


async def find_page(store: AudioStore, asked: AnyListing) -> Page:
    """Raises InvalidPath."""
    return await asyncio.to_thread(
        store.page,
        selection(asked),
        sort_by=asked.sort_by,
        descending=asked.sort_order == "desc",
        page=asked.page,
        page_size=asked.page_size,
    )


def about_page(found: Page, asked: Listing, what: str) -> dict[str, Any]:
    """The members of PageReply."""
    pages = max(1, -(-found.total // asked.page_size))
    return {
        "message": f"{counted(found.total, what)} found",
        "count": len(found.files),
        "page": asked.page,
        "page_size": asked.page_size,
        "total_pages": pages,
        "has_next": asked.page < pages,
        "has_previous": asked.page > 1,
        "total_files": found.total,
    }


def about_file(file: StoredFile) -> dict[str, Any]:
    """What every library's metadata says of a file."""
    return {
        "filename": file.filename,
        "url": file.relative,
        "created_date": file.created,
        "file_size_bytes": file.size_bytes,
        "duration_seconds": round(file.facts.duration_s, 4),
        "sample_rate": file.facts.sample_rate,
        "format": file.facts.format,
        "folder_path": file.folder or None,
    }


async def list_folders(store: AudioStore) -> FoldersReply:
    folders = await asyncio.to_thread(store.folders)
    total = sum(folder.count for folder in folders)
    return FoldersReply(
        message=counted(len(folders), "folder"),
        folders=[
            FolderReply(
                path=folder.path or ROOT,
                voice_count=folder.count,
                file_count=folder.count,
                subfolders=folder.subfolders,
            )
            for folder in folders
        ],
        total_folders=len(folders),
        total_voices=total,
        total_files=total,
    )


async def delete_one(store: AudioStore, path: str, *, confirmed: bool) -> DeletionReply:
    """Raises ConfirmationRequired, InvalidPath, FileMissing."""
    _require(confirmed)
    return _deleted(await asyncio.to_thread(store.delete, path))


async def delete_many(request: Request, store: AudioStore, asked: Deletion, *, with_folder: bool) -> DeletionReply:
    """Raises ConfirmationRequired, CriteriaRequired, InvalidPath, and InvalidRequest for an empty criterion.

    A script whose variable was empty means less than all of what the other criteria name.
    """
    _require(asked.confirm)
    criteria = selection(asked)
    if not any(getattr(criteria, field.name) for field in fields(criteria)) and not asked.all:
        raise CriteriaRequired("say which files to delete, or all=true to delete every one of them")
    for name in asked.empty_criteria:
        raise InvalidRequest(
            f"{name} is empty; leave it out if it is not meant to limit the deletion",
            field=name,
            where="query",
            kind="names_nothing",
        )
    return _deleted(await in_heavy_thread(request, store.delete_matching, criteria, with_folder=with_folder))


def _require(confirmed: bool) -> None:
    if not confirmed:
        raise ConfirmationRequired("nothing was deleted: a deletion needs confirm=true")


def _deleted(paths: list[str]) -> DeletionReply:
    return DeletionReply(
        message=f"{counted(len(paths), 'file')} deleted", deleted_files=paths, deleted_count=len(paths)
    )
