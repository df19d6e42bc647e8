"""How forms are read: from a body to files on the disk of the libraries, without a server."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.types import Message

from config.settings import StorageSettings
from management.libraries import Libraries
from resilience.errors import InvalidRequest, StorageFull
from routes.uploads import IN_MEMORY_BYTES, read_form

NO_ROOM = StorageSettings(min_free_mb=10**9)


def body(*sizes: int) -> bytes:
    """A form with files of these sizes, all zeros."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
    return b"".join(head + bytes(size) + b"\r\n" for size in sizes) + b"--b--\r\n"


async def read(libraries: Libraries, content: bytes, max_files: int = 2) -> FormData:
    pieces = [content[start : start + 50_000] for start in range(0, len(content), 50_000)]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    app = SimpleNamespace(state=SimpleNamespace(libraries=libraries))
    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    request = Request({"type": "http", "method": "POST", "headers": headers, "app": app}, receive)
    return await read_form(request, max_files=max_files)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and "sqlite" not in path.name]


def test_a_large_file_lies_on_the_disk_of_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing here"))  # the system's temporary folder
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path)

    async def reading() -> None:
        form = await read(libraries, body(IN_MEMORY_BYTES, 1_000_000))
        small, large = form.getlist("file")
        assert isinstance(small, UploadFile)
        assert isinstance(large, UploadFile)
        assert (await small.read(), await large.read()) == (bytes(IN_MEMORY_BYTES), bytes(1_000_000))
        assert os.fstat(large.file.fileno()).st_size == 1_000_000
        await form.close()

    asyncio.run(reading())

    assert names(tmp_path) == []


def test_a_form_that_would_touch_the_reserve_is_refused(tmp_path: Path) -> None:
    libraries = Libraries(NO_ROOM, tmp_path)

    async def small() -> None:
        await (await read(libraries, body(IN_MEMORY_BYTES))).close()

    asyncio.run(small())
    with pytest.raises(StorageFull):
        asyncio.run(read(libraries, body(10, IN_MEMORY_BYTES + 1)))

    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("size", [IN_MEMORY_BYTES + 1, 1_000_000])
def test_a_disk_that_is_full_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    def on_a_full_disk(**_: object) -> IO[bytes]:
        return Path("/dev/full").open("r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", on_a_full_disk)
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path)

    with pytest.raises(StorageFull):
        asyncio.run(read(libraries, body(size)))


def test_what_was_read_is_gone_when_the_form_is_refused(tmp_path: Path) -> None:
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path)

    with pytest.raises(InvalidRequest, match="more than 2 files"):
        asyncio.run(read(libraries, body(200_000, 200_000, 1)))

    assert names(tmp_path) == []
