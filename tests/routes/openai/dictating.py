"""A client of `/v1/audio/speech/stream` for the tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.serving import Server

PATH = "/v1/audio/speech/stream"
START = {"type": "start", "model": "tts-1", "voice": "alloy", "response_format": "pcm", "seed": 7}


class Dictation:
    """What the server has said so far: `events` in their order with "audio" for each run of binary frames, `audio`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.events: list[dict[str, Any]] = []
        self.audio = b""

    def tell(self, kind: str, **fields: Any) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def write(self, text: str, *, letters: int = 7) -> None:
        """As a model writes it: a few letters at a time."""
        for start in range(0, len(text), letters):
            self.tell("text", text=text[start : start + letters])

    def hear(self) -> dict[str, Any] | None:
        """The next event, None for audio."""
        message = self._socket.recv(timeout=60)
        if isinstance(message, bytes):
            self.audio += message
            return None
        event: dict[str, Any] = json.loads(message)
        if event["type"] == "audio":
            self.audio += base64.b64decode(event["audio"])
        self.events.append(event)
        return event

    def hear_until(self, kind: str) -> dict[str, Any]:
        while (event := self.hear()) is None or event["type"] != kind:
            pass
        return event

    def hear_out(self) -> int:
        """All until the connection is closed, and the code that it is closed with."""
        with suppress(ConnectionClosed):
            while True:
                self.hear()
        assert self._socket.close_code is not None
        return self._socket.close_code

    @property
    def request_id(self) -> str:
        assert self._socket.response is not None
        return self._socket.response.headers["x-request-id"]

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def sentences(self) -> list[str]:
        return [event["text"] for event in self.events if event["type"] == "sentence"]

    def sentences_after(self, kind: str) -> list[str]:
        """Those after the last event of that kind."""
        last = max(index for index, event in enumerate(self.events) if event["type"] == kind)
        return [event["text"] for event in self.events[last:] if event["type"] == "sentence"]


@contextmanager
def dictating(server: Server, *, origin: Any = None, query: str = "", **start: Any) -> Iterator[Dictation]:
    """Connected and begun, with these fields of `start` beside or instead of the usual ones."""
    with connected(server, origin=origin, query=query) as dictation:
        dictation.tell(**{"kind" if name == "type" else name: value for name, value in {**START, **start}.items()})
        yield dictation


@contextmanager
def connected(server: Server, *, origin: Any = None, query: str = "") -> Iterator[Dictation]:
    with connect(server.url.replace("http", "ws") + PATH + query, origin=origin, proxy=None) as socket:
        yield Dictation(socket)
