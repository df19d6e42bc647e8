from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from config.settings import LoggingSettings
from monitoring import context, logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, given back as it was."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def written(root: logging.Logger, settings: LoggingSettings, message: str, *arguments: object) -> str:
    logs.configure(settings)
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream := io.StringIO())
    token = context.request_id.set("id-1")
    logging.getLogger("some.module").warning(message, *arguments)
    context.request_id.reset(token)
    return stream.getvalue()


def test_a_json_line_holds_the_event_and_its_request(root: logging.Logger) -> None:
    line = json.loads(written(root, LoggingSettings(format="json"), "event key=%s", "value"))

    assert line["message"] == "event key=value"
    assert line["level"] == "WARNING"
    assert line["logger"] == "some.module"
    assert line["request_id"] == "id-1"
    assert line["timestamp"].endswith("+0000")


def test_a_line_break_in_a_message_forges_no_second_line(root: logging.Logger) -> None:
    text = written(root, LoggingSettings(), "event name=%s", "a\n2026-01-01 INFO forged\x1b[31m")

    assert text.count("\n") == 1
    assert "\\x0a" in text
    assert "\x1b" not in text
    assert "[id-1]" in text


def test_what_lies_below_the_level_is_not_written(root: logging.Logger) -> None:
    assert written(root, LoggingSettings(level="ERROR"), "event") == ""
