"""The log: one line an event on standard error, for people or as JSON, each with the id of its request."""

from __future__ import annotations

import logging
import sys
import time

from pythonjsonlogger.json import JsonFormatter

from config.settings import LoggingSettings
from monitoring.context import request_id

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")}


class RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def is_no_handshake(record: logging.LogRecord) -> bool:
    """False for uvicorn's own line about a WebSocket: it holds the path as the client wrote it."""
    return '"WebSocket %s"' not in str(record.msg)


class TextFormatter(logging.Formatter):
    """One line an event: a line break in a message is written out, so that no input can forge a second line."""

    def __init__(self) -> None:
        self.converter = time.gmtime
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s [%(request_id)s] %(message)s", "%Y-%m-%dT%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        line, *traceback = super().format(record).split("\nTraceback", 1)
        return line.translate(CONTROL_CHARACTERS) + "".join("\nTraceback" + rest for rest in traceback)


def configure(settings: LoggingSettings) -> None:
    """Send everything, uvicorn's own lines included, through one handler."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RequestId())
    if settings.format == "json":
        names = {"asctime": "timestamp", "levelname": "level", "name": "logger"}
        fields = "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s"
        formatter = JsonFormatter(fields, rename_fields=names, datefmt="%Y-%m-%dT%H:%M:%S%z")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    else:
        handler.setFormatter(TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.error").addFilter(is_no_handshake)
