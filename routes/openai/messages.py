"""Reads what a client sends over a WebSocket: message by message, in which a text may be cut anywhere."""

from __future__ import annotations

import json
import re

from pydantic import ValidationError

from api_models.dictation import MESSAGES, Cancel, End, Flush, Message
from resilience.errors import InvalidRequest
from routes.openai.envelope import sentence_of

ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # of a character beyond the 65,536 that one escape of JSON can tell
HALF, FIRST_HALF = re.compile("[\ud800-\udfff]"), re.compile("[\ud800-\udbff]$")


class Messages:
    """The messages of one connection, in their order.

    Languages whose texts are UTF-16 cut between the two halves of an emoji as between two letters. The first one waits
    here for the message that begins with the second.
    """

    def __init__(self) -> None:
        self._half = ""

    def read(self, content: str) -> Message:
        """Raises InvalidRequest."""
        if self._half or ESCAPED_HALF.search(content):
            content = self._joined(content)
        try:
            message = MESSAGES.validate_json(content)
        except ValidationError as error:
            raise _refusal(error) from error
        if self._half and isinstance(message, Flush | End):
            raise InvalidRequest("the text ends in half of a character, whose other half never came", field="text")
        if isinstance(message, Cancel):
            self._half = ""
        return message

    def _joined(self, content: str) -> str:
        """The message with the half that waits before its text, and without the one that its text ends in."""
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            return content
        if not isinstance(body, dict) or body.get("type") != "text" or not isinstance(body.get("text"), str):
            return content
        text = (self._half + body["text"]).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        end = FIRST_HALF.search(text)
        self._half, text = (end[0], text[: end.start()]) if end else ("", text)
        if HALF.search(text):
            raise InvalidRequest("the text holds half of a character without its other half", field="text")
        return json.dumps({**body, "text": text})


def _refusal(error: ValidationError) -> InvalidRequest:
    """What is wrong with a message. Its location begins with the type of the message, as that of a body with `body`."""
    fault = error.errors()[0]
    kind, location = fault["type"], [part for part in fault["loc"][1:] if isinstance(part, str)]
    if kind == "json_invalid":
        refusal = InvalidRequest("the message is no JSON", field="", kind=kind)
        refusal.detail[0]["loc"] = ["body"]
        return refusal
    if not location:
        known = "start, text, flush, cancel, end"
        return InvalidRequest(f"a message is an object whose type is one of: {known}", field="type")
    return InvalidRequest(sentence_of(fault, names={}), field=location[0], kind=kind)
