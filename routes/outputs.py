"""`GET /outputs/{path}`: the generated files."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from resilience import errors
from routes.deps import OutputsDep
from routes.errors import documented
from routes.responses import library_file
from utils.audio.formats import FORMATS

router = APIRouter(tags=["outputs"])


@router.head("/outputs/{path:path}", include_in_schema=False)
@router.get(
    "/outputs/{path:path}",
    summary="Fetch a generated file",
    response_class=Response,
    responses={
        200: {
            "description": "the file",
            "content": {
                audio_format.media_type: {"schema": {"type": "string", "format": "binary"}}
                for audio_format in FORMATS.values()
            },
        },
        206: {"description": "the part that the Range header asked for"},
        304: {"description": "unchanged since the ETag in If-None-Match"},
        **documented(errors.InvalidPath, errors.FileMissing, errors.InvalidRequest, errors.RangeNotSatisfiable),
    },
)
async def get_output(path: str, request: Request, outputs: OutputsDep) -> Response:
    """The file at a path below `outputs/`. Ranges are served, and entity tags: what is unchanged is not sent again."""
    file = await asyncio.to_thread(outputs.find, path)
    return library_file(request, file)
