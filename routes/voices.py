"""`/api/v1/voice` and `/api/v1/voices`: the recordings that can be spoken with."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Query, Request, UploadFile

from api_models.libraries import Confirmation, DeletionReply, FoldersReply
from api_models.voices import (
    QualityReply,
    UploadResult,
    UploadsReply,
    VoiceChanges,
    VoiceDeletion,
    VoiceListing,
    VoiceMetadata,
    VoiceReply,
    VoicesReply,
    VoicesUpload,
    VoiceUpload,
)
from management.stored import StoredFile
from resilience import errors
from resilience.errors import FileMissing, InvalidRequest, SpeechError
from routes.deps import SettingsDep, VoicesDep, in_heavy_thread, json_only
from routes.errors import documented
from routes.library import (
    BULK_DELETION_FAILURES,
    DELETION_FAILURES,
    LISTING_FAILURES,
    about_file,
    about_page,
    counted,
    delete_many,
    delete_one,
    find_page,
    list_folders,
)
from routes.uploads import FIELD_BYTES, MOST_FIELDS, MOST_FILES, UPLOAD_FAILURES, UploadRoute, take_in

FINDING_FAILURES = (errors.InvalidRequest, errors.InvalidPath, errors.VoiceNotFound)


class VoiceUploadRoute(UploadRoute):
    hint = f"POST /api/v1/voices takes up to {MOST_FILES} at a time"


router = APIRouter(prefix="/api/v1", tags=["voices"], route_class=VoiceUploadRoute)

VoiceName = Annotated[
    str,
    Path(
        description="path below voices/, the extension may be left out; or a name or alias of the voice",
        examples=["narrators/anna.wav"],
    ),
]
VoicePath = Annotated[str, Path(description="path below voices/, with its extension", examples=["narrators/anna.wav"])]


@router.get("/voices", summary="List voices", responses=documented(*LISTING_FAILURES))
async def list_voices(asked: Annotated[VoiceListing, Query()], voices: VoicesDep) -> VoicesReply:
    """The voices that meet every criterion. Nothing is decoded for it: what is shown was found out as they came in."""
    found = await find_page(voices.store, asked)
    return VoicesReply(
        **about_page(found, asked, "voice"),
        voices=[_metadata(file) for file in found.files],
        total_voices=found.total,
    )


@router.post(
    "/voice",
    summary="Upload a voice",
    form_limits={"max_files": 1, "max_fields": MOST_FIELDS, "max_part_size": FIELD_BYTES},
    responses=documented(*UPLOAD_FAILURES),
)
async def upload_voice(
    request: Request,
    form: Annotated[VoiceUpload, Form(media_type="multipart/form-data")],
    voices: VoicesDep,
    settings: SettingsDep,
) -> VoiceReply:
    """Keep a recording, with the bytes that were sent, and what is said of it. Its quality is judged right away."""
    file = await take_in(
        request,
        voices.add,
        form.voice_file,
        settings.api,
        folder=form.chosen_folder,
        overwrite=form.overwrite,
        details=form.details(),
    )
    return _described("uploaded", file)


@router.post(
    "/voices",
    summary="Upload several voices",
    form_limits={"max_files": MOST_FILES, "max_fields": MOST_FIELDS, "max_part_size": FIELD_BYTES},
    responses=documented(*UPLOAD_FAILURES),
)
async def upload_voices(
    request: Request,
    form: Annotated[VoicesUpload, Form(media_type="multipart/form-data")],
    voices: VoicesDep,
    settings: SettingsDep,
) -> UploadsReply:
    """Keep what can be kept, and tell of each file what became of it.

    If nothing could be kept, the answer is the first file's failure, with all of them in `detail`.
    """
    if not form.recordings:
        raise InvalidRequest("there is no file in the form", field="voice_files", kind="missing")
    results: list[UploadResult] = []
    failures: list[SpeechError] = []
    for upload in form.recordings:
        try:
            file = await take_in(
                request,
                voices.add,
                upload,
                settings.api,
                folder=form.chosen_folder,
                overwrite=form.overwrite,
                details=form.details(),
            )
        except SpeechError as error:
            failures.append(error)
            results.append(_result(upload, error=error))
        else:
            results.append(_result(upload, file=file))
    if len(failures) == len(results):
        failures[0].detail = [result.model_dump(mode="json") for result in results]
        raise failures[0]
    kept = len(results) - len(failures)
    return UploadsReply(
        message=f"{kept} of {counted(len(results), 'file')} uploaded",
        results=results,
        uploaded_count=kept,
        failed_count=len(failures),
    )


@router.delete("/voices", summary="Delete several voices", responses=documented(*BULK_DELETION_FAILURES))
async def delete_voices(request: Request, asked: Annotated[VoiceDeletion, Query()], voices: VoicesDep) -> DeletionReply:
    """Delete the voices that meet every criterion. Their folders stay, even when empty: they are categories."""
    return await delete_many(request, voices.store, asked, with_folder=False)


@router.get("/voices/folders", summary="List the folders of voices", responses=documented())
async def list_voice_folders(voices: VoicesDep) -> FoldersReply:
    """Every folder below voices/, empty ones too, and the library itself as `root`."""
    return await list_folders(voices.store)


@router.put(
    "/voice/{path:path}/metadata",
    summary="Change what is said of a voice",
    dependencies=[Depends(json_only)],
    responses=documented(
        *FINDING_FAILURES, errors.NameTaken, errors.FileTooLarge, errors.UnsupportedFormat, errors.StorageFull
    ),
)
async def change_voice(path: VoiceName, body: VoiceChanges, voices: VoicesDep) -> VoiceReply:
    """Change the fields that are given, clear those that are `null`, leave the others.

    A folder moves the recording there. 409 if it is taken, or if an alias means another voice.
    """
    return _described("changed", await asyncio.to_thread(voices.change, path, body.changes()))


@router.get(
    "/voice/{path:path}/quality",
    summary="Tell how good a voice is",
    responses=documented(*FINDING_FAILURES),
)
async def get_quality(path: VoiceName, voices: VoicesDep) -> QualityReply:
    """How well the recording is fit for cloning, as it was measured last: when it came in, or since by POST."""
    return _quality("found", await asyncio.to_thread(voices.get, path))


@router.post(
    "/voice/{path:path}/quality",
    summary="Judge a voice anew",
    responses=documented(*FINDING_FAILURES, errors.InvalidAudio, errors.StorageFull),
)
async def judge_voice(request: Request, path: VoiceName, voices: VoicesDep) -> QualityReply:
    """Measure how well the recording is fit for cloning, and keep the result."""
    return _quality("judged", await in_heavy_thread(request, voices.judge, path))


@router.get("/voice/{path:path}", summary="Tell of a voice", responses=documented(*FINDING_FAILURES))
async def get_voice(path: VoiceName, voices: VoicesDep) -> VoiceReply:
    """The voice that goes by this name, as a request for speech would find it."""
    return _described("found", await asyncio.to_thread(voices.get, path))


@router.delete(
    "/voice/{path:path}", summary="Delete a voice", responses=documented(*DELETION_FAILURES, errors.VoiceNotFound)
)
async def delete_voice(path: VoicePath, asked: Annotated[Confirmation, Query()], voices: VoicesDep) -> DeletionReply:
    """Delete the recording at exactly this path, and what is said of it."""
    try:
        return await delete_one(voices.store, path, confirmed=asked.confirm)
    except FileMissing:
        raise await asyncio.to_thread(voices.not_found, path) from None


def _described(message: str, file: StoredFile) -> VoiceReply:
    return VoiceReply(message=message, voice_metadata=_metadata(file), filename=file.filename)


def _quality(message: str, file: StoredFile) -> QualityReply:
    return QualityReply(message=message, filename=file.filename, quality=file.about.get("quality") or {})


def _metadata(file: StoredFile) -> VoiceMetadata:
    said = file.description
    return VoiceMetadata(
        **about_file(file),
        name=said.name or file.stem,
        description=file.about.get("description") or None,
        default_parameters=file.about.get("default_parameters") or {},
        tags=[*said.tags],
        last_used=file.last_used,
        usage_count=file.usage_count,
        aliases=[*said.aliases],
        quality=file.about.get("quality") or {},
    )


def _result(upload: UploadFile, file: StoredFile | None = None, error: SpeechError | None = None) -> UploadResult:
    return UploadResult(
        filename=file.filename if file else upload.filename or "",
        success=error is None,
        voice_metadata=_metadata(file) if file else None,
        error=error.message if error else None,
        error_code=error.code if error else None,
    )
