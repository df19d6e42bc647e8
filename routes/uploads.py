"""What uploads have in common: how their forms are read, how large they may be, and how they reach a library.

The framework would hold the first megabyte of each of a thousand files in memory, and the rest in the system's
temporary folder, which often is memory too. Here a form has as many parts as its address takes, and files go to the
disk of the libraries, which keeps its reserve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from fastapi import Request, UploadFile
from fastapi.routing import APIRoute
from starlette.datastructures import FormData, Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from config.settings import ApiSettings
from management.store import AudioStore
from management.stored import StoredFile
from resilience import errors
from resilience.errors import InvalidRequest, StorageFull, UnsupportedFormat
from routes.deps import in_heavy_thread
from utils.files.atomic import NO_SPACE, TEMPORARY_PREFIX
from utils.media_types import FORM, media_type

MEGABYTE = 1_000_000
SAMPLE_BYTES = 10 << 20  # of a recording that comes through OpenAI's API, which names this limit
FIELDS_BYTES = MEGABYTE  # of a form, beside its files
MOST_FILES = 100  # of a form that takes several
MOST_FIELDS = 100  # beside the files: a list of fifty tags may come one by one
FIELD_BYTES = 128_000
IN_MEMORY_BYTES = 64_000  # of each file
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
        ("POST", "/v1/audio/voices"): SAMPLE_BYTES + FIELDS_BYTES,
        ("POST", "/v1/audio/voice_consents"): SAMPLE_BYTES + FIELDS_BYTES,
        ("POST", "/api/v1/voice"): upload,
        ("POST", "/api/v1/vc_input"): upload,
        ("POST", "/api/v1/vc"): 2 * upload,  # the recording and the voice
        ("POST", "/api/v1/voices"): api.max_bulk_upload_mb * MEGABYTE + FIELDS_BYTES,
        ("POST", "/api/v1/voices/restore"): restore,
        ("POST", "/api/v1/voices/backup"): restore,
    }


class UploadRoute(APIRoute):
    """A route whose form, if it has `form_limits`, is read here; the framework finds it read.

    Its own reading would answer whatever goes wrong meanwhile, a full disk too, as a fault of the client.
    """

    hint = "send them one by one"  # to who sends too many files

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        limits = self.form_limits
        if "max_files" not in limits:
            return handle

        async def read_first(request: Request) -> Response:
            request._form = await read_form(request, **limits, hint=self.hint)
            return await handle(request)

        return read_first


async def read_form(
    request: Request,
    *,
    max_files: int,
    max_fields: int = MOST_FIELDS,
    max_part_size: int = FIELD_BYTES,
    hint: str = UploadRoute.hint,
) -> FormData:
    """The form that a request brings; its files are gone when it is closed. `max_part_size` is of fields, in bytes.

    Raises UnsupportedFormat for any other body, InvalidRequest for too many parts, StorageFull, and HTTPException
    for what is no form or too large.
    """
    if media_type(request.headers.get("content-type", "")) != FORM:
        raise UnsupportedFormat(f"the body must be {FORM}")
    store: AudioStore = request.app.state.libraries.vc_inputs.store
    async with aclosing(request.stream()) as stream:
        parser = _Parser(request.headers, stream, store, hint)
        parser.max_files, parser.max_fields, parser.max_part_size = max_files, max_fields, max_part_size
        try:
            return await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400) from error
        except OSError as error:
            if error.errno in NO_SPACE:
                raise StorageFull("the disk is full; nothing was saved") from error
            raise


if TYPE_CHECKING:
    _BytesFile = SpooledTemporaryFile[bytes]
else:
    _BytesFile = SpooledTemporaryFile


class _Spooled(_BytesFile):
    """A file in memory, and once it is larger on the disk of a library, while that keeps its reserve.

    It has no name there. Where a system insists on one, that is one of a temporary file, for whoever cleans up after
    a crash.
    """

    def __init__(self, store: AudioStore) -> None:
        super().__init__(max_size=IN_MEMORY_BYTES, dir=str(store.root), prefix=TEMPORARY_PREFIX)
        self._store = store
        self._is_on_disk = False

    def rollover(self) -> None:
        self._store.check_room()
        super().rollover()
        self._is_on_disk = True

    def write(self, data: Any) -> int:
        if self._is_on_disk:
            self._store.check_room(len(data))
        return super().write(data)


class _Parser(MultiPartParser):
    """As its base, which writes files in threads, but for where they go and how a fault is told."""

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], store: AudioStore, hint: str) -> None:
        super().__init__(headers, stream)
        self._store = store
        self._hint = hint
        self._spooled: list[_Spooled] = []

    def on_headers_finished(self) -> None:
        try:
            super().on_headers_finished()
        except MultiPartException as error:
            if self._current_files > self.max_files:
                sentence = f"the form holds more than {_several(self.max_files, 'file')}: {self._hint}"
            elif self._current_fields > self.max_fields:
                sentence = f"the form holds more than {_several(self.max_fields, 'field')} beside its files"
            else:
                raise
            raise InvalidRequest(sentence, field=self._current_part.field_name, kind="too_many") from error
        part = self._current_part
        if part.file is not None:
            part.file.file.close()
            self._spooled.append(_Spooled(self._store))
            part.file = UploadFile(
                cast(BinaryIO, self._spooled[-1]), size=0, filename=part.file.filename, headers=part.file.headers
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        try:
            super().on_part_data(data, start, end)
        except MultiPartException as error:
            sentence = f"more than {int(self.max_part_size):,} bytes"
            raise InvalidRequest(sentence, field=self._current_part.field_name, kind="string_too_long") from error

    async def parse(self) -> FormData:
        try:
            return await super().parse()
        except BaseException:
            await asyncio.to_thread(self._close)
            raise

    def _close(self) -> None:
        for file in self._spooled:
            with suppress(OSError):  # what was still to be written finds no room either
                file.close()


def _several(count: float, what: str) -> str:
    return f"{int(count)} {what}{'s'[: count != 1]}"


async def take_in(
    request: Request, add: Callable[..., StoredFile], upload: UploadFile, api: ApiSettings, **said: Any
) -> StoredFile:
    """Hand an uploaded file to a library's `add`. Raises what that raises."""
    return await in_heavy_thread(
        request, add, upload.file, upload.filename or "", max_bytes=api.max_upload_mb * MEGABYTE, **said
    )
