"""Answers that carry audio."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from core_engine import SavedFile, SpeechResult

MAX_HEADER_CHARACTERS = 1000
AUDIO_HEADERS = (
    "X-Alternative-Formats",
    "X-Audio-Duration",
    "X-Engine",
    "X-Generation-Seed",
    "X-Processing-Time",
    "X-Warnings",
)


def generated_file(result: SpeechResult, format_name: str) -> Response:
    """The finished file of a generation, with what is known of it in the headers."""
    chosen = next(file for file in result.files if file.format.name == format_name)
    headers = {
        "X-Generation-Seed": str(result.seed),
        "X-Processing-Time": f"{result.took_s:.4f}",
        "X-Audio-Duration": f"{result.duration_s:.4f}",
        "X-Engine": result.engine,
        "X-Alternative-Formats": "|".join(
            f"{file.format.name}:{file.url}" for file in result.files if file is not chosen
        ),
    }
    if result.warnings:
        headers["X-Warnings"] = _header_text(result.warnings)
    return FileResponse(chosen.path, media_type=chosen.format.media_type, filename=chosen.path.name, headers=headers)


def library_file(request: Request, file: SavedFile) -> Response:
    """A file of the library: ranges and entity tags are served, an unchanged file is not sent again."""
    response = FileResponse(
        file.path, media_type=file.format.media_type, filename=file.path.name, stat_result=file.path.stat()
    )
    offered = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if response.headers["etag"] in offered or "*" in offered:
        kept = {name: response.headers[name] for name in ("etag", "last-modified")}
        return Response(status_code=304, headers=kept)
    return response


def _header_text(sentences: Sequence[str]) -> str:
    return " | ".join(sentences).encode("ascii", "replace").decode("ascii")[:MAX_HEADER_CHARACTERS]
