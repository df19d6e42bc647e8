"""Answers that carry audio."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from generations import Generation, Kept
from management.stored import StoredFile
from resilience import errors
from resilience.errors import FileMissing, RangeNotSatisfiable
from utils.audio.formats import FORMATS

MEDIA_TYPES = {  # of the files in the libraries, by what they hold
    **{audio_format.name: audio_format.media_type for audio_format in FORMATS.values()},
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "m4a": "audio/mp4",
    "webm": "audio/webm",
    "aiff": "audio/aiff",
}
MAX_HEADER_CHARACTERS = 1000
RANGE = re.compile(r"\s*(\d{0,18})-(\d{0,18})\s*")
AUDIO_HEADERS = (
    "X-Alternative-Formats",
    "X-Audio-Duration",
    "X-Engine",
    "X-Generation-Seed",
    "X-Processing-Time",
    "X-Warnings",
)


# What every request that makes audio can meet, for its documentation.
GENERATION_FAILURES = (
    errors.InvalidRequest,
    errors.UnreadableText,
    errors.InvalidPath,
    errors.InvalidAudio,
    errors.VoiceNotFound,
    errors.FileTooLarge,
    errors.UnsupportedFormat,
    errors.GenerationFailed,
    errors.GenerationTimeout,
    errors.ModelUnavailable,
    errors.ServiceOverloaded,
    errors.StorageFull,
)


# What a recording that is named by its web address can meet besides.
DOWNLOAD_FAILURES = (errors.DownloadFailed, errors.DownloadRefused)


def audio_answers(description: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route that makes audio, for OpenAPI: the audio itself, or the JSON that describes its files."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        200: {
            "description": "the audio (`response_mode=stream` or `live`), or a description of the files (`url`)",
            "model": description,
            "content": {audio_format.media_type: binary for audio_format in FORMATS.values()},
            "headers": {name: {"schema": {"type": "string"}} for name in AUDIO_HEADERS},
        }
    }


async def generated_file(result: Kept, format_name: str, more: Mapping[str, str] | None = None) -> Response:
    """The finished file of what is kept, with what is known of it in the headers, and more of them if there are."""
    # A voice's own formats may have changed since they were looked up: then the first of those that were made.
    chosen = next((file for file in result.files if file.format.name == format_name), result.files[0])
    headers = {
        **(more or {}),
        "X-Processing-Time": f"{result.took_s:.4f}",
        "X-Audio-Duration": f"{result.duration_s:.4f}",
        **({"X-Engine": result.engine} if isinstance(result, Generation) else {}),
        "X-Alternative-Formats": "|".join(
            f"{file.format.name}:{file.url}" for file in result.files if file is not chosen
        ),
    }
    headers.update(warning_header(result.warnings))
    try:
        file = await asyncio.to_thread(chosen.path.open, "rb")
    except FileNotFoundError:
        raise FileMissing(f"{chosen.relative} was deleted before it could be sent") from None
    return OpenedFile(file, chosen.path, media_type=chosen.format.media_type, headers=headers)


def library_file(request: Request, stored: StoredFile, file: BinaryIO) -> Response:
    """A file of the library: ranges and entity tags are served, an unchanged file is not sent again.

    Takes the opened file over.
    """
    media_type = MEDIA_TYPES.get(stored.facts.format, "application/octet-stream")
    response = OpenedFile(file, stored.path, media_type=media_type)
    size = response.stat_result.st_size
    if not _is_satisfiable(request.headers.get("range", ""), size):
        file.close()
        raise RangeNotSatisfiable(f"the file has {size} bytes; the Range header asks for none of them", size_bytes=size)
    if not request.headers.get("range", "bytes").lower().lstrip().startswith("bytes"):  # a unit that we do not know
        request.scope["headers"] = [header for header in request.scope["headers"] if header[0] != b"range"]
    offered = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if response.headers["etag"] in offered or "*" in offered:
        file.close()
        kept = {name: response.headers[name] for name in ("etag", "last-modified")}
        return Response(status_code=304, headers=kept)
    return response


class OpenedFile(FileResponse):
    """Sends a file that is open already, whatever becomes of its name, and closes it in every case."""

    stat_result: os.stat_result

    def __init__(
        self, file: BinaryIO, path: Path, *, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            path, media_type=media_type, filename=path.name, headers=headers, stat_result=os.fstat(file.fileno())
        )
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.to_thread(self.file.close)

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[anyio.AsyncFile[bytes]]:
        """What the framework reads from, in place of the path that it would open."""
        yield anyio.wrap_file(self.file)


def _is_satisfiable(header: str, size: int) -> bool:
    """False for a Range that Starlette would refuse with a body that is not ours (RFC 9110, section 14)."""
    unit, _, ranges = header.partition("=")
    if unit.strip().lower() != "bytes":
        return True
    bounds = [RANGE.fullmatch(part) for part in ranges.split(",")]
    return all(
        bound is not None
        and (int(bound[1]) < size and int(bound[2] or size) >= int(bound[1]) if bound[1] else int(bound[2] or 0) > 0)
        for bound in bounds
    )


def warning_header(warnings: Sequence[str]) -> dict[str, str]:
    """`X-Warnings`, if there are any."""
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in " | ".join(warnings)[:MAX_HEADER_CHARACTERS])
    return {"X-Warnings": text} if text else {}
