"""A real server of our own on a loopback port, with a data folder of its own."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

PROJECT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 180  # importing Chatterbox takes 7 s on a machine that is idle, and over a minute on a busy one


@dataclass
class Server:
    url: str
    data_dir: Path
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)
    _lines: queue.Queue[str] = field(default_factory=queue.Queue)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def engine_process(self) -> psutil.Process:
        """The child process that owns the model."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "engines.worker" in child.cmdline())

    def wait_for_log(self, words: str) -> str:
        """The first log line from now on that has these words."""
        while True:
            line = self._lines.get(timeout=START_TIMEOUT_S)
            if words in line:
                return line

    def wait_for_logs(self, *words: str) -> None:
        """As `wait_for_log` for each of the words, in whatever order they come."""
        missing = set(words)
        while missing:
            line = self.wait_for_log("")
            assert self.process.poll() is None, self.log
            missing -= {word for word in missing if word in line}

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            self._lines.put(line)
        self._lines.put("(the server has ended)")


@contextmanager
def serving(
    data_dir: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    ready: Sequence[str] = ("serving on", "engine ready"),
) -> Iterator[Server]:
    """Start `main_api.py` on a free port, wait until it can speak (until its log says `ready`), stop it at the end."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "main_api.py", "--port", str(port), "--data-dir", str(data_dir), *arguments],
        cwd=PROJECT,
        env={**os.environ, **(environment or {})},
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that a test may signal the whole group, as systemd and `timeout` do
        text=True,
        encoding="utf-8",
    )
    server = Server(f"http://127.0.0.1:{port}", data_dir, process)
    reader = threading.Thread(target=server.read_log, daemon=True)
    reader.start()
    try:
        server.wait_for_logs(*ready)
        yield server
    finally:
        process.terminate()
        process.wait(30)
        reader.join(5)
        assert process.stderr is not None
        process.stderr.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
