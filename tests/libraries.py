"""The three libraries as a test meets them over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx

from tests.recordings import vowels_wav
from tests.serving import Server

QUALITY = {"rating", "duration", "clipping", "snr_db", "silence_share", "loudness_lufs", "bandwidth_hz", "advice"}


@cache
def recording(fundamental_hz: float = 200) -> bytes:
    """A WAV of four seconds."""
    return vowels_wav(fundamental_hz)


@dataclass(frozen=True)
class Library:
    """`one` names a file of it in addresses, `files` the list in what its listing answers."""

    name: str
    one: str
    files: str

    def __str__(self) -> str:
        return self.name

    @property
    def many_url(self) -> str:
        return f"/api/v1/{self.name}"

    def one_url(self, relative: str) -> str:
        return f"/api/v1/{self.one}/{quote(relative)}"

    def put(self, client: httpx.Client, server: Server, relative: str, content: bytes | None = None) -> None:
        """Have a recording at this path: uploaded, or put there by hand where there are no uploads."""
        content = content or recording()
        folder, _, filename = relative.rpartition("/")
        if self.name == "outputs":
            path = server.data_dir / "outputs" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            reply = client.head(f"/outputs/{quote(relative)}")  # which looks at the disk
        else:
            files = {f"{self.one}_file": (filename, content)}
            reply = client.post(f"/api/v1/{self.one}", files=files, data={"folder_path": folder})
        assert reply.status_code == 200, reply.text

    def listed(self, client: httpx.Client, **criteria: Any) -> list[dict[str, Any]]:
        reply = client.get(self.many_url, params=criteria)
        assert reply.status_code == 200, reply.text
        files: list[dict[str, Any]] = reply.json()[self.files]
        return files

    def names(self, client: httpx.Client, **criteria: Any) -> list[str]:
        return [file["filename"] for file in self.listed(client, **criteria)]


VOICES = Library("voices", "voice", "voices")
VC_INPUTS = Library("vc_inputs", "vc_input", "files")
OUTPUTS = Library("outputs", "output", "files")
LIBRARIES = (VOICES, VC_INPUTS, OUTPUTS)


def upload_voice(client: httpx.Client, filename: str, content: bytes | None = None, **fields: Any) -> httpx.Response:
    files = {"voice_file": (filename, recording() if content is None else content)}
    return client.post("/api/v1/voice", files=files, data=fields)


def metadata(reply: httpx.Response) -> dict[str, Any]:
    """What is said of a voice that was uploaded or changed."""
    assert reply.status_code == 200, reply.text
    described: dict[str, Any] = reply.json()["voice_metadata"]
    return described


def code(reply: httpx.Response) -> tuple[int, str]:
    """Status and code of a failure."""
    body = reply.json()
    assert body["success"] is False
    return reply.status_code, body["error_code"]


def faults(reply: httpx.Response) -> list[list[str | int]]:
    """Where a request is at fault."""
    assert code(reply) == (422, "VALIDATION_ERROR")
    return [fault["loc"] for fault in reply.json()["detail"]]
