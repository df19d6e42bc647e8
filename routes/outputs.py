"""`/outputs/{path}`: the generated files; `/api/v1/output` and `/api/v1/outputs`: what is known of them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api_models.files import OutputDeletion, OutputListing, OutputMetadata, OutputsReply
from api_models.libraries import Confirmation, DeletionReply, FoldersReply
from management.outputs import url_of
from management.stored import StoredFile
from resilience import errors
from routes.deps import OutputsDep
from routes.errors import documented
from routes.library import (
    BULK_DELETION_FAILURES,
    DELETION_FAILURES,
    LISTING_FAILURES,
    FilePath,
    about_file,
    about_page,
    delete_many,
    delete_one,
    find_page,
    list_folders,
)
from routes.responses import MEDIA_TYPES, library_file

router = APIRouter(tags=["outputs"])


@router.get("/api/v1/outputs", summary="List generated files", responses=documented(*LISTING_FAILURES))
async def list_outputs(asked: Annotated[OutputListing, Query()], outputs: OutputsDep) -> OutputsReply:
    """The files that meet every criterion, one entry a file; `formats` tells what else there is of a generation."""
    found = await find_page(outputs.store, asked)
    return OutputsReply(**about_page(found, asked, "file"), files=[_metadata(file) for file in found.files])


@router.delete(
    "/api/v1/outputs", summary="Delete several generated files", responses=documented(*BULK_DELETION_FAILURES)
)
async def delete_outputs(
    request: Request, asked: Annotated[OutputDeletion, Query()], outputs: OutputsDep
) -> DeletionReply:
    """Delete the files that meet every criterion. A folder that is the only one goes along."""
    return await delete_many(request, outputs.store, asked, with_folder=True)


@router.get("/api/v1/outputs/folders", summary="List the folders of generated files", responses=documented())
async def list_output_folders(outputs: OutputsDep) -> FoldersReply:
    """Every folder below outputs/, and the library itself as `root`."""
    return await list_folders(outputs.store)


@router.delete(
    "/api/v1/output/{path:path}",
    summary="Delete a generated file",
    responses=documented(*DELETION_FAILURES, errors.FileMissing),
)
async def delete_output(path: FilePath, asked: Annotated[Confirmation, Query()], outputs: OutputsDep) -> DeletionReply:
    """Delete the file at exactly this path; its companion goes with the last format of the generation."""
    return await delete_one(outputs.store, path, confirmed=asked.confirm)


@router.head("/outputs/{path:path}", include_in_schema=False)
@router.get(
    "/outputs/{path:path}",
    summary="Fetch a generated file",
    response_class=Response,
    responses={
        200: {
            "description": "the file",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in dict.fromkeys(MEDIA_TYPES.values())
            },
        },
        206: {"description": "the part that the Range header asked for"},
        304: {"description": "unchanged since the ETag in If-None-Match"},
        **documented(errors.InvalidPath, errors.FileMissing, errors.InvalidRequest, errors.RangeNotSatisfiable),
    },
)
async def get_output(path: FilePath, request: Request, outputs: OutputsDep) -> Response:
    """The file at a path below `outputs/`. Ranges are served, and entity tags: what is unchanged is not sent again.

    Deleting it meanwhile does not disturb who is fetching it.
    """
    stored, file = await asyncio.to_thread(outputs.store.open, path)
    return library_file(request, stored, file)


def _metadata(file: StoredFile) -> OutputMetadata:
    return OutputMetadata(
        **{**about_file(file), "url": url_of(file.relative)},
        generation_type=file.generation_type,
        parameters=file.about.get("parameters") or {},
        source_files=file.about.get("source_files") or [],
        formats=[*file.formats],
    )
