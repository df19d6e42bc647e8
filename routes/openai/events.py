"""Speech in server-sent events, as OpenAI sends it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from resilience.errors import SpeechError
from routes.openai.envelope import envelope
from utils.text.tokens import count_tokens

DELTA_BYTES = 4096  # of audio in one event at most
OUTPUT_TOKENS_A_SECOND = 25  # the rate of Chatterbox's speech tokens; OpenAI's own figure is near it
DONE = b"data: [DONE]\r\n\r\n"


class SpeechEvents:
    """The framing of `stream_format=sse`: deltas, which joined are one file, then what it came to."""

    media_type = "text/event-stream"

    def __init__(self, text: str) -> None:
        self._text = text

    def add(self, content: bytes) -> bytes:
        parts = (content[start : start + DELTA_BYTES] for start in range(0, len(content), DELTA_BYTES))
        return b"".join(
            event({"type": "speech.audio.delta", "audio": base64.b64encode(part).decode()}) for part in parts
        )

    def end(self, duration_s: float) -> bytes:
        return event({"type": "speech.audio.done", "usage": usage(count_tokens(self._text), duration_s)}) + DONE

    def failure(self, error: SpeechError) -> bytes:
        """No `done` and no `[DONE]`: OpenAI's decoders raise an error at this event."""
        body = envelope(500, error.code, error.message, error.detail)
        return event({"type": "error", **body.model_dump()})


def usage(spoken: int, duration_s: float) -> dict[str, int]:
    """What was said and what was heard, in tokens."""
    heard = round(duration_s * OUTPUT_TOKENS_A_SECOND)
    return {"input_tokens": spoken, "output_tokens": heard, "total_tokens": spoken + heard}


def event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\r\n\r\n"
