"""Asking for speech as OpenAI's clients do, and reading the one body of failures."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

SPEECH = "/v1/audio/speech"
JSON = {"Content-Type": "application/json"}


def say(client: httpx.Client, text: str = "Hello there.", **fields: Any) -> httpx.Response:
    return client.post(SPEECH, json={"model": "tts-1", "input": text, "voice": "alloy", **fields})


def heard(reply: httpx.Response) -> bytes:
    """The audio of an answer."""
    assert reply.status_code == 200, reply.text
    return reply.content


def failure(reply: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, param and code of a failure in OpenAI's envelope."""
    body = reply.json()
    assert set(body) == {"error"}, body
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["type"] in ("invalid_request_error", "server_error", "service_unavailable_error")
    assert (error["type"] == "invalid_request_error") == (reply.status_code < 500)
    assert all(error[key] is None or isinstance(error[key], str) for key in ("param", "code"))
    assert reply.headers["x-request-id"]
    return reply.status_code, error["param"], error["code"]


def message(reply: httpx.Response) -> str:
    told: str = reply.json()["error"]["message"]
    return told


def events(content: bytes) -> list[Any]:
    """The data of server-sent events, which is JSON but for the last word."""
    blocks = content.decode().split("\r\n\r\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(data) if data != "[DONE]" else data for data in (block[6:] for block in blocks)]


def audio_in(found: list[Any]) -> bytes:
    """The file that the deltas among events add up to."""
    deltas = [event for event in found if isinstance(event, dict) and event["type"] == "speech.audio.delta"]
    assert all(set(delta) == {"type", "audio"} for delta in deltas)
    parts = [base64.b64decode(delta["audio"], validate=True) for delta in deltas]
    assert all(0 < len(part) <= 4096 for part in parts)
    return b"".join(parts)
