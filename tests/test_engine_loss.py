"""What clients see when the engine process dies, hangs, or works for somebody who has left."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.serving import Server, serving

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stops and kills processes by POSIX signals")

LONG_TEXT = ("and so it goes on and on without an end in sight " * 200).strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    environment = {"CHATTERBOX_ENGINE__HEARTBEAT_TIMEOUT_S": "3", "CHATTERBOX_SPEECH__CHUNK_CHARACTERS": "2000"}
    with serving(tmp_path, "--engine", "embedded", environment=environment) as running:
        yield running


def say(server: Server, text: str) -> httpx.Response:
    with server.client() as client:
        return client.post("/api/v1/tts", json={"text": text, "export_formats": ["wav"]})


def speaking(server: Server, threads: ThreadPoolExecutor) -> Future[httpx.Response]:
    """A long request that the engine is in the middle of."""
    reply = threads.submit(say, server, LONG_TEXT)
    while not server.engine_process().children():
        assert not reply.done()
    return reply


@pytest.mark.parametrize(
    ("signal_name", "status", "code"),
    [("SIGKILL", 503, "MODEL_UNAVAILABLE"), ("SIGSTOP", 504, "GENERATION_TIMEOUT")],
)
def test_a_lost_engine_fails_its_request_and_speaks_the_next(
    server: Server, signal_name: str, status: int, code: str
) -> None:
    with ThreadPoolExecutor(1) as threads:
        doomed = speaking(server, threads)
        server.engine_process().send_signal(getattr(signal, signal_name))
        reply = doomed.result()

    assert reply.status_code == status, reply.text
    assert reply.json()["error_code"] == code
    assert say(server, "I am back.").status_code == 200
    assert server.process.poll() is None


def test_a_client_that_hangs_up_frees_the_engine(server: Server) -> None:
    address = urlsplit(server.url)
    body = b'{"text": "' + LONG_TEXT.encode() + b'"}'
    head = (
        f"POST /api/v1/tts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(head.encode() + body)
        while not server.engine_process().children():
            pass

    server.wait_for_log("status=499")
    _, alive = psutil.wait_procs(server.engine_process().children(), timeout=2)
    assert not alive
    assert say(server, "Now it is my turn.").status_code == 200


def test_readiness_follows_the_engine(server: Server) -> None:
    with server.client() as client:
        assert client.get("/api/v1/health/ready").status_code == 200
        server.engine_process().kill()
        server.wait_for_log("engine lost")
        between = client.get("/api/v1/health/ready")
        server.wait_for_log("engine ready")
        after = client.get("/api/v1/health")

    assert between.status_code == 503
    assert after.json()["status"] == "healthy"
    assert after.json()["metrics"]["engine_restarts"] == 1


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_stop_signal_to_the_whole_group_lets_the_request_in_progress_finish(server: Server, signal_name: str) -> None:
    engine = server.engine_process()
    with ThreadPoolExecutor(1) as threads:
        reply = speaking(server, threads)
        os.killpg(server.process.pid, getattr(signal, signal_name))
        assert reply.result().status_code == 200

    assert server.process.wait(20) in (0, -getattr(signal, signal_name))
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


def test_no_engine_is_left_behind_by_a_killed_server(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "embedded") as server:
        engine = server.engine_process()
        server.process.kill()
        psutil.wait_procs([engine], timeout=10)

        assert not engine.is_running()
