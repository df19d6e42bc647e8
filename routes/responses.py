"""Answers that carry audio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from generations import Generation, SavedFile
from resilience import errors
from resilience.errors import RangeNotSatisfiable
from utils.audio.formats import FORMATS

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


def generated_file(result: Generation, format_name: str, more: Mapping[str, str] | None = None) -> Response:
    """The finished file of a generation, with what is known of it in the headers, and more of them if there are."""
    chosen = next(file for file in result.files if file.format.name == format_name)
    headers = {
        **(more or {}),
        "X-Processing-Time": f"{result.took_s:.4f}",
        "X-Audio-Duration": f"{result.duration_s:.4f}",
        "X-Engine": result.engine,
        "X-Alternative-Formats": "|".join(
            f"{file.format.name}:{file.url}" for file in result.files if file is not chosen
        ),
    }
    headers.update(warning_header(result.warnings))
    return FileResponse(chosen.path, media_type=chosen.format.media_type, filename=chosen.path.name, headers=headers)


def library_file(request: Request, file: SavedFile) -> Response:
    """A file of the library: ranges and entity tags are served, an unchanged file is not sent again."""
    size = file.path.stat().st_size
    if not _is_satisfiable(request.headers.get("range", ""), size):
        raise RangeNotSatisfiable(f"the file has {size} bytes; the Range header asks for none of them")
    response = FileResponse(
        file.path, media_type=file.format.media_type, filename=file.path.name, stat_result=file.path.stat()
    )
    offered = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if response.headers["etag"] in offered or "*" in offered:
        kept = {name: response.headers[name] for name in ("etag", "last-modified")}
        return Response(status_code=304, headers=kept)
    return response


def _is_satisfiable(header: str, size: int) -> bool:
    """False for a Range that Starlette would refuse with a body that is not ours (RFC 9110, section 14)."""
    if not header:
        return True
    unit, _, ranges = header.partition("=")
    bounds = [RANGE.fullmatch(part) for part in ranges.split(",")]
    return unit.strip().lower() == "bytes" and all(
        bound is not None
        and (int(bound[1]) < size and int(bound[2] or size) >= int(bound[1]) if bound[1] else int(bound[2] or 0) > 0)
        for bound in bounds
    )


def warning_header(warnings: Sequence[str]) -> dict[str, str]:
    """`X-Warnings`, if there are any."""
    text = " | ".join(warnings).encode("ascii", "replace").decode("ascii")[:MAX_HEADER_CHARACTERS]
    return {"X-Warnings": text} if text else {}
