"""`/api/v1/vc_input` and `/api/v1/vc_inputs`: recordings to convert."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request

from api_models.files import VcInputListing, VcInputMetadata, VcInputReply, VcInputsReply, VcInputUpload
from api_models.libraries import Confirmation, Deletion, DeletionReply, FoldersReply
from management.stored import StoredFile
from resilience import errors
from routes.deps import SettingsDep, VcInputsDep
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
from routes.uploads import MOST_FIELDS, UPLOAD_FAILURES, UploadRoute, take_in

TRANSCRIPT_BYTES = 400_000  # the longest that is taken, whatever its script

router = APIRouter(prefix="/api/v1", tags=["recordings"], route_class=UploadRoute)


@router.get("/vc_inputs", summary="List recordings to convert", responses=documented(*LISTING_FAILURES))
async def list_vc_inputs(asked: Annotated[VcInputListing, Query()], vc_inputs: VcInputsDep) -> VcInputsReply:
    """The recordings that meet every criterion."""
    found = await find_page(vc_inputs.store, asked)
    return VcInputsReply(**about_page(found, asked, "file"), files=[_metadata(file) for file in found.files])


@router.post(
    "/vc_input",
    summary="Upload a recording to convert",
    form_limits={"max_files": 1, "max_fields": MOST_FIELDS, "max_part_size": TRANSCRIPT_BYTES},
    responses=documented(*UPLOAD_FAILURES),
)
async def upload_vc_input(
    request: Request,
    form: Annotated[VcInputUpload, Form(media_type="multipart/form-data")],
    vc_inputs: VcInputsDep,
    settings: SettingsDep,
) -> VcInputReply:
    """Keep a recording, with the bytes that were sent, and the words that are said in it."""
    file = await take_in(
        request,
        vc_inputs.add,
        form.vc_input_file,
        settings.api,
        folder=form.chosen_folder,
        overwrite=form.overwrite,
        text=form.text or "",
    )
    return VcInputReply(message="uploaded", metadata=_metadata(file), filename=file.filename)


@router.delete(
    "/vc_inputs", summary="Delete several recordings to convert", responses=documented(*BULK_DELETION_FAILURES)
)
async def delete_vc_inputs(
    request: Request, asked: Annotated[Deletion, Query()], vc_inputs: VcInputsDep
) -> DeletionReply:
    """Delete the recordings that meet every criterion. A folder that is the only one goes along."""
    return await delete_many(request, vc_inputs.store, asked, with_folder=True)


@router.get("/vc_inputs/folders", summary="List the folders of recordings", responses=documented())
async def list_vc_input_folders(vc_inputs: VcInputsDep) -> FoldersReply:
    """Every folder below vc_inputs/, and the library itself as `root`."""
    return await list_folders(vc_inputs.store)


@router.delete(
    "/vc_input/{path:path}",
    summary="Delete a recording to convert",
    responses=documented(*DELETION_FAILURES, errors.FileMissing),
)
async def delete_vc_input(
    path: FilePath, asked: Annotated[Confirmation, Query()], vc_inputs: VcInputsDep
) -> DeletionReply:
    """Delete the recording at exactly this path, and what is said of it."""
    return await delete_one(vc_inputs.store, path, confirmed=asked.confirm)


def _metadata(file: StoredFile) -> VcInputMetadata:
    return VcInputMetadata(
        **about_file(file),
        text=file.about.get("text") or None,
        upload_date=file.about.get("upload_date") or file.created,
    )
