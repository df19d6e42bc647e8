"""A Hugging Face hub on loopback: small files of one commit, and the faults that real ones have."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass
class LoopbackHub:
    """`files` are what it has. `requests` are what it was asked: (method, file name, Range header)."""

    files: dict[str, bytes]
    refuses_with: int | None = None
    is_gated: bool = False
    cuts: dict[str, list[int]] = field(default_factory=dict)  # bytes after which each next connection breaks
    falls_silent: set[str] = field(default_factory=set)  # half of the file comes, and the connection stays open
    damages: set[str] = field(default_factory=set)
    ignores_ranges: bool = False
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def fetched(self, name: str) -> list[str | None]:
        """The Range headers of the downloads of a file."""
        return [span for method, asked, span in self.requests if method == "GET" and asked == name]


@contextmanager
def running(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            if "/resolve/" not in self.path:
                return self._refuse(200)
            name = self.path.rsplit("/", 1)[1]
            hub.requests.append((self.command, name, self.headers["Range"]))
            if hub.is_gated:
                return self._refuse(401, "GatedRepo")
            if hub.refuses_with is not None:
                return self._refuse(hub.refuses_with)
            if name not in hub.files:
                return self._refuse(404, "EntryNotFound")
            return self._send(name)

        def _refuse(self, status: int, code: str | None = None) -> None:
            self.send_response(status)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            if code is not None:
                self.send_header("X-Error-Code", code)
            self.end_headers()

        def _send(self, name: str) -> None:
            content = hub.files[name]
            span = self.headers["Range"]
            start = int(span.removeprefix("bytes=").rstrip("-")) if span and not hub.ignores_ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                self._body(name, bytes(len(content)) if name in hub.damages else content, start)

        def _body(self, name: str, content: bytes, start: int) -> None:
            end = len(content)
            if hub.cuts.get(name):
                end = min(end, start + hub.cuts[name].pop(0))
            if name in hub.falls_silent:
                end = len(content) // 2
            self.wfile.write(content[start:end])
            if end < len(content):
                self.wfile.flush()
                self.close_connection = True
            if name in hub.falls_silent:
                hub.closing.wait(30)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
