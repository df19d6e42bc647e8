"""`/api/v1/voices/backup` and `/restore`: the voice library as one zip."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response, StreamingResponse

from api_models.housekeeping import BackupQuery, RestoreQuery, RestoreReply
from management.backup import restore, stream_backup
from management.store import AudioStore
from resilience import errors
from resilience.errors import InvalidRequest, UnsupportedFormat
from routes.deps import SettingsDep, VoicesDep, in_heavy_thread
from routes.errors import documented
from routes.library import LISTING_FAILURES, counted
from routes.uploads import MEGABYTE, read_form
from utils.files.atomic import temporary
from utils.media_types import FORM, media_type

ZIP = "application/zip"
RAW = (ZIP, "application/x-zip-compressed", "application/octet-stream")
WRITTEN_AT_ONCE = 1 << 20
FILE_SCHEMA = {"type": "string", "format": "binary"}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "a backup: as the body itself, or as the one file of a form, whatever its field is called",
        "content": {
            ZIP: {"schema": FILE_SCHEMA},
            FORM: {"schema": {"type": "object", "properties": {"file": FILE_SCHEMA}, "required": ["file"]}},
        },
    }
}

router = APIRouter(prefix="/api/v1/voices", tags=["voices"])


@router.get(
    "/backup",
    summary="Back the voices up",
    response_class=Response,
    responses={
        200: {"description": "a zip of recordings and companions", "content": {ZIP: {"schema": FILE_SCHEMA}}},
        **documented(*LISTING_FAILURES, errors.FileMissing),
    },
)
async def back_up(request: Request, asked: Annotated[BackupQuery, Query()], voices: VoicesDep) -> Response:
    """All voices, or those of one folder, with all that is said of them, as a zip that is made while it is sent."""
    pieces = _Pieces(stream_backup(voices, asked.chosen_folder), request.app.state.heavy)
    await pieces.begin()
    name = f"voices_{datetime.now(UTC):%Y-%m-%d}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces.sent(), media_type=ZIP, headers=headers)


@router.post("/backup", include_in_schema=False)
@router.post(
    "/restore",
    summary="Restore voices",
    openapi_extra=BODY,
    responses=documented(
        errors.InvalidRequest,
        errors.InvalidPath,
        errors.InvalidArchive,
        errors.FileTooLarge,
        errors.UnsupportedFormat,
        errors.StorageFull,
    ),
)
async def restore_voices(
    request: Request, asked: Annotated[RestoreQuery, Query()], voices: VoicesDep, settings: SettingsDep
) -> RestoreReply:
    """Put the voices of a backup into the library, or on any fault none of them.

    The archive is checked and every recording in it decoded before the first one is written.
    """
    max_bytes = settings.api.max_restore_mb * MEGABYTE
    async with _archive_of(request, voices.store) as file:
        done = await in_heavy_thread(request, restore, voices, file, asked.mode, max_bytes)
    return RestoreReply(
        message=f"{counted(len(done.restored), 'voice')} restored, {len(done.skipped)} left out",
        mode=asked.mode,
        restored=done.restored,
        restored_count=len(done.restored),
        skipped=done.skipped,
        skipped_count=len(done.skipped),
        renamed=done.renamed,
        warnings=done.warnings,
    )


class _Pieces:
    """What a generator that blocks yields, each piece fetched in a thread.

    A client may leave while a piece is being fetched: the lock lets the generator be closed only after that.
    """

    def __init__(self, generator: Iterator[bytes], threads: Executor) -> None:
        self._generator = generator
        self._threads = threads
        self._lock = threading.Lock()
        self._first = b""

    async def begin(self) -> None:
        """Fetch the first piece: what fails before it gets a status of its own."""
        self._first = await self._next()

    async def sent(self) -> AsyncIterator[bytes]:
        try:
            piece = self._first
            while piece:
                yield piece
                piece = await self._next()
        finally:
            with suppress(RuntimeError):  # the server stops, and its threads take nothing more
                self._threads.submit(self._close)

    async def _next(self) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch)

    def _fetch(self) -> bytes:
        with self._lock:
            return next(self._generator, b"")

    def _close(self) -> None:
        with self._lock:
            self._generator.close()  # type: ignore[attr-defined]


@asynccontextmanager
async def _archive_of(request: Request, store: AudioStore) -> AsyncIterator[BinaryIO]:
    """The archive that a request brings, in a file. Raises InvalidRequest, UnsupportedFormat, StorageFull."""
    kind = media_type(request.headers.get("content-type", ""))
    if kind == FORM:
        form = await read_form(request, max_files=1)
        try:
            yield _only_file(form).file
        finally:
            await form.close()
    elif kind in RAW:
        async with _received(request, store) as file:
            yield file
    else:
        raise UnsupportedFormat(f"the body must be {ZIP}, or {FORM} with the archive as its file")


def _only_file(form: FormData) -> UploadFile:
    found = None
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise InvalidRequest("options such as `mode` belong into the query", field=name, kind="extra_forbidden")
        found = value
    if found is None:
        raise InvalidRequest("there is no file in the form", field="file", kind="missing")
    return found


@asynccontextmanager
async def _received(request: Request, store: AudioStore) -> AsyncIterator[BinaryIO]:
    """The body in a hidden file of the library, where there is room for what it holds; gone afterwards."""
    kept = ExitStack()
    file, _ = await asyncio.to_thread(kept.enter_context, temporary(store.root))

    def write(piece: bytes) -> None:
        store.check_room(len(piece))
        file.write(piece)

    try:
        held = bytearray()
        async for chunk in request.stream():
            held += chunk
            if len(held) >= WRITTEN_AT_ONCE:
                await asyncio.to_thread(write, bytes(held))
                held.clear()
        await asyncio.to_thread(write, bytes(held))
        yield file
    except BaseException as error:
        await asyncio.to_thread(kept.__exit__, type(error), error, error.__traceback__)  # which may tell of a full disk
        raise
    else:
        await asyncio.to_thread(kept.close)
