"""What uploads have in common: their content type, how large they may be, and how they reach a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request, UploadFile

from config.settings import ApiSettings
from management.stored import StoredFile
from resilience import errors
from resilience.errors import InvalidRequest, UnsupportedFormat
from routes.deps import in_heavy_thread

MEGABYTE = 1_000_000
FIELDS_BYTES = MEGABYTE  # of a form, beside its files
UPLOAD_FAILURES = (
    errors.InvalidRequest,
    errors.InvalidPath,
    errors.InvalidAudio,
    errors.UnsupportedAudio,
    errors.NameTaken,
    errors.FileTooLarge,
    errors.UnsupportedFormat,
    errors.StorageFull,
)


def body_limits(api: ApiSettings) -> Mapping[tuple[str, str], int]:
    """The addresses that take more than a JSON body, by method and path, with the bytes of theirs."""
    upload = api.max_upload_mb * MEGABYTE + FIELDS_BYTES
    restore = api.max_restore_mb * MEGABYTE + FIELDS_BYTES
    return {
        ("POST", "/api/v1/voice"): upload,
        ("POST", "/api/v1/vc_input"): upload,
        ("POST", "/api/v1/vc"): 2 * upload,  # the recording and the voice
        ("POST", "/api/v1/voices"): api.max_bulk_upload_mb * MEGABYTE + FIELDS_BYTES,
        ("POST", "/api/v1/voices/restore"): restore,
        ("POST", "/api/v1/voices/backup"): restore,
    }


def multipart_only(request: Request) -> None:
    """Raise UnsupportedFormat unless the body calls itself a form with files."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise UnsupportedFormat("the body must be multipart/form-data")


class OneFile:
    """A dependency that raises InvalidRequest for a field that holds several files: all but one would be ignored."""

    def __init__(self, field: str, instead: str = "send them one by one") -> None:
        self._field = field
        self._instead = instead

    async def __call__(self, request: Request) -> None:
        form = await request.form()  # which has been read by now
        if (count := len(form.getlist(self._field))) > 1:
            raise InvalidRequest(f"{self._field} holds {count} files: {self._instead}", field=self._field)


async def take_in(
    request: Request, add: Callable[..., StoredFile], upload: UploadFile, api: ApiSettings, **said: Any
) -> StoredFile:
    """Hand an uploaded file to a library's `add`. Raises what that raises."""
    return await in_heavy_thread(
        request, add, upload.file, upload.filename or "", max_bytes=api.max_upload_mb * MEGABYTE, **said
    )
