"""OpenAI's SDKs, each in a process of its own, told what to do by the tests: one line of JSON there, one back."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
CLIENTS = Path(sys.prefix) / "clients"  # where `start.py test` puts them
PYTHON = ("openai-1", "openai-3")
JAVASCRIPT = ("openai-4", "openai-6")


class SdkError(Exception):
    """What the SDK raised. `kind` is the name of its class, the rest what that offers a program."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told['class']}: {told['message']}")
        self.kind: str = told["class"]
        self.status: int | None = told["status_code"]
        self.code: str | None = told["code"]
        self.param: str | None = told["param"]
        self.type: str | None = told["type"]
        self.request_id: str | None = told["request_id"]
        self.message: str = told["message"]


@dataclass(frozen=True)
class Sdk:
    name: str
    process: subprocess.Popen[str]

    @property
    def has_voices(self) -> bool:
        """Whether it knows OpenAI's calls for voices of one's own."""
        return self.name == "openai-3"

    def do(self, action: str, base_url: str, *, max_retries: int = 0, **wanted: Any) -> dict[str, Any]:
        """The answer to one of the driver's actions. Raises SdkError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        client = {"base_url": f"{base_url}/v1", "max_retries": max_retries}
        self.process.stdin.write(json.dumps({"do": action, "client": client, "with": wanted}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the driver of {self.name} has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise SdkError(answer["error"])
        if "audio" in answer["value"]:
            answer["value"]["audio"] = base64.b64decode(answer["value"]["audio"])
        value: dict[str, Any] = answer["value"]
        return value


@contextmanager
def running(name: str) -> Iterator[Sdk]:
    """The SDK of that name, ready to be told what to do."""
    process = subprocess.Popen(
        command(name),
        env={**os.environ, "PYTHONPATH": str(CLIENTS / name), "NO_PROXY": "127.0.0.1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        yield Sdk(name, process)


def installed(name: str) -> Path:
    """The folder that it lies in; skips the test where it does not."""
    folder = CLIENTS / ("js" if name in JAVASCRIPT else name)
    if not (folder / "installed-from").exists():
        pytest.skip(f"{name} is not installed; `start.py test` does so, for JavaScript where there is npm")
    return folder


def command(name: str) -> list[str]:
    folder = installed(name)
    if name in PYTHON:
        return [sys.executable, "-S", str(HERE / "driver.py")]  # -S: it sees no packages but its own
    return [shutil.which("node") or "node", str(HERE / "driver.mjs"), str(folder), name]
