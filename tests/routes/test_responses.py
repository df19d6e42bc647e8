from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from routes.responses import OpenedFile

CONTENT = bytes(range(256)) * 1000


def opened(path: Path) -> OpenedFile:
    path.write_bytes(CONTENT)
    return OpenedFile(path.open("rb"), path, media_type="audio/wav")


async def sent(response: OpenedFile, method: str = "GET", stop_at: int = -1, **headers: str) -> list[Message]:
    """What the response sends, until the message at `stop_at`, where the connection breaks."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        if len(messages) == stop_at:
            raise ConnectionResetError
        messages.append(message)

    async def receive() -> Message:
        return await asyncio.Future()

    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    await response({"type": "http", "method": method, "headers": lines}, receive, send)
    return messages


def body(messages: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in messages)


def test_a_file_is_sent_though_its_name_is_gone(tmp_path: Path) -> None:
    response = opened(tmp_path / "gone.wav")
    (tmp_path / "gone.wav").unlink()

    assert body(asyncio.run(sent(response))) == CONTENT
    assert response.file.closed


def test_the_file_that_took_its_name_is_not_sent_in_its_place(tmp_path: Path) -> None:
    response = opened(tmp_path / "same.wav")
    (tmp_path / "other.wav").write_bytes(b"other")
    (tmp_path / "other.wav").replace(tmp_path / "same.wav")

    assert body(asyncio.run(sent(response, range="bytes=10-19"))) == CONTENT[10:20]


@pytest.mark.parametrize("asked", [{}, {"range": "bytes=0-9"}, {"range": "bytes=0-9,20-29"}, {"method": "HEAD"}])
def test_the_file_is_closed_after_every_kind_of_answer(tmp_path: Path, asked: dict[str, Any]) -> None:
    response = opened(tmp_path / "one.wav")

    asyncio.run(sent(response, **asked))

    assert response.file.closed


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_the_file_is_closed_when_the_client_leaves(tmp_path: Path, stop_at: int) -> None:
    response = opened(tmp_path / "one.wav")

    with pytest.raises(ConnectionResetError):
        asyncio.run(sent(response, stop_at=stop_at))

    assert response.file.closed
