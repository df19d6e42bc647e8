"""Recordings that come with a request, or are fetched for it: files of this machine for as long as it takes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import UploadFile

from management.libraries import Libraries
from planning import Borrowed
from routes.deps import in_heavy_thread, unless_client_leaves
from routes.uploads import MEGABYTE
from security.fetch import Fetcher
from utils.files.paths import MAX_PART_BYTES

WEB = ("http://", "https://")


class Sources:
    """Borrows recordings for one request, until `borrowed` is closed."""

    def __init__(self, request: Request, borrowed: AsyncExitStack) -> None:
        self._request = request
        self._borrowed = borrowed
        self._libraries: Libraries = request.app.state.libraries
        self._fetcher: Fetcher = request.app.state.fetcher
        self._max_bytes = request.app.state.settings.api.max_upload_mb * MEGABYTE

    async def recording(self, named: str | None, upload: UploadFile | None = None) -> Borrowed | None:
        """The uploaded recording, or the one at a web address; None for a name, which a library knows.

        Raises FileTooLarge, DownloadFailed, DownloadRefused, ServiceOverloaded, StorageFull.
        """
        if upload is not None:
            return await self._uploaded(upload)
        if named is not None and named.lower().startswith(WEB):
            return await unless_client_leaves(self._request, self._fetched(named))
        return None

    async def _uploaded(self, upload: UploadFile) -> Borrowed:
        borrowing = self._libraries.vc_inputs.store.borrow(upload.file, self._max_bytes)
        path, content_hash = await in_heavy_thread(self._request, borrowing.__enter__)
        self._borrowed.push_async_callback(partial(asyncio.to_thread, borrowing.__exit__, None, None, None))
        return Borrowed(_name_of(upload), path, content_hash)

    async def _fetched(self, url: str) -> Borrowed:
        folder = self._libraries.vc_inputs.store.root
        fetched = await self._borrowed.enter_async_context(self._fetcher.fetch(url, folder))
        return Borrowed(shown(url), fetched.path, fetched.sha256)


def _name_of(upload: UploadFile) -> str:
    """No longer than files are called: what is joined of it ten thousand times is told of as often."""
    name = (upload.filename or "upload").encode("utf-8", "replace")
    return name[:MAX_PART_BYTES].decode("utf-8", "ignore")


def shown(url: str) -> str:
    """A web address as it may stand in replies and companions: without its query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
