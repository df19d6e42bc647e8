"""How fast the server starts and speaks on the embedded engine: `python -m benchmarks.server`.

Starts servers of its own on loopback ports and prints a table in Markdown. Figures of one run belong together: the
machine's mood changes from run to run.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests.recordings import vowels_wav
from tests.serving import PROJECT, Server, free_port, serving

NARRATIVE = (PROJECT / "tests" / "data" / "narrative.txt").read_text(encoding="utf-8")
PITCHES_HZ = (85, 105, 130, 155, 185, 220, 255, 300)
CLIENTS = 40
STARTS = 5


def main() -> None:
    memory_gib = psutil.virtual_memory().total / 2**30
    print(f"{psutil.cpu_count()} cores, {memory_gib:.0f} GiB, load {psutil.getloadavg()[0]:.1f} at the start")
    print(f"Python {sys.version.split()[0]}, {platform.system()}\n\n| what | figure |\n| --- | --- |")
    row("import main_api (median of 5)", f"{median(import_s() for _ in range(STARTS)):.2f} s")
    starts = [start() for _ in range(STARTS)]
    row("start to `/health/live` (median of 5)", f"{median(live_s for live_s, _, _ in starts):.2f} s")
    row("start to `/health/ready` (median of 5)", f"{median(ready_s for _, ready_s, _ in starts):.2f} s")
    row("memory of the server process, just started", f"{max(rss_mb for _, _, rss_mb in starts):.0f} MB")
    with voices() as server, server.client() as client:
        long_text(client)
        crowd(server, client)
    overload()


def row(what: str, figure: str) -> None:
    print(f"| {what} | {figure} |", flush=True)


def median(values: Iterator[float]) -> float:
    return statistics.median(values)


def import_s() -> float:
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import main_api"], cwd=PROJECT, check=True)
    return time.perf_counter() - started_at


def start() -> tuple[float, float, float]:
    """Seconds until the server is alive, until it can speak, and the megabytes that it holds then."""
    port = free_port()
    started_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "main_api.py", "--engine", "embedded", "--port", str(port), "--data-dir", folder],
            cwd=PROJECT,
            stderr=subprocess.DEVNULL,
        )
        live_s = wait_for(f"http://127.0.0.1:{port}/api/v1/health/live") - started_at
        ready_s = wait_for(f"http://127.0.0.1:{port}/api/v1/health/ready") - started_at
        rss_mb = psutil.Process(process.pid).memory_info().rss / 1e6
        process.terminate()
        process.wait()
    return live_s, ready_s, rss_mb


def wait_for(url: str) -> float:
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return time.perf_counter()
        except httpx.TransportError:
            pass
        time.sleep(0.01)


@contextmanager
def voices() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "voices").mkdir()
        for pitch_hz in PITCHES_HZ:
            (Path(folder) / "voices" / f"v{pitch_hz}.wav").write_bytes(vowels_wav(pitch_hz))
        with serving(Path(folder), "--engine", "embedded") as server:
            yield server


def long_text(client: httpx.Client) -> None:
    for name, extra in (("own voice", {}), ("a reference voice", {"reference_audio_filename": "v185"})):
        took: list[float] = []
        for _ in range(3):
            body = {"text": NARRATIVE, "response_mode": "url", **extra}
            reply = client.post("/api/v1/tts", json=body).json()
            took.append(reply["processing_time_seconds"] / reply["audio_duration_seconds"])
        what = f"{len(NARRATIVE)} characters, {reply['audio_duration_seconds']:.0f} s of speech, {name}, wav and mp3"
        row(f"{what}: time per second of speech", f"{statistics.median(took):.4f}")


def crowd(server: Server, client: httpx.Client) -> None:
    def say(number: int) -> float:
        voice = f"v{PITCHES_HZ[number % len(PITCHES_HZ)]}"
        body = {"text": f"Client number {number} has something to say.", "reference_audio_filename": voice, "seed": 1}
        started_at = time.perf_counter()
        reply = client.post("/api/v1/tts", json=body)
        assert reply.status_code == httpx.codes.OK
        return time.perf_counter() - started_at

    alive_s: list[float] = []
    with ThreadPoolExecutor(CLIENTS) as threads, server.client() as probe:
        started_at = time.perf_counter()
        replies = [threads.submit(say, number) for number in range(CLIENTS)]
        while not all(reply.done() for reply in replies):
            asked_at = time.perf_counter()
            probe.get("/api/v1/health/live")
            alive_s.append(time.perf_counter() - asked_at)
            time.sleep(0.01)
    took_s = time.perf_counter() - started_at
    row(f"{CLIENTS} clients at once with {len(PITCHES_HZ)} reference voices, all answered", f"{took_s:.1f} s")
    row("`/health/live` meanwhile: median", f"{1000 * statistics.median(alive_s):.0f} ms")
    row("`/health/live` meanwhile: slowest", f"{1000 * max(alive_s):.0f} ms of {len(alive_s)}")
    memory_mb = psutil.Process(server.process.pid).memory_info().rss / 1e6
    row("memory of the server process afterwards", f"{memory_mb:.0f} MB")


def overload() -> None:
    """How soon a full line refuses, while every core speaks."""
    environment = {"CHATTERBOX_ENGINE__MAX_WAITING": "4"}
    body = {"text": NARRATIVE, "export_formats": ["wav"]}
    refusals_s: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), "--engine", "embedded", environment=environment) as server,
        server.client() as client,
        ThreadPoolExecutor(4) as threads,
    ):
        spoken = [threads.submit(client.post, "/api/v1/tts", json=body) for _ in range(4)]
        while client.get("/api/v1/health").json()["metrics"]["requests_in_line"] < 4:
            pass
        while not any(reply.done() for reply in spoken):
            asked_at = time.perf_counter()
            if client.post("/api/v1/tts", json=body).status_code == httpx.codes.SERVICE_UNAVAILABLE:
                refusals_s.append(time.perf_counter() - asked_at)
    row("refusal by a full line: median", f"{1000 * statistics.median(refusals_s):.0f} ms")
    row("refusal by a full line: slowest", f"{1000 * max(refusals_s):.0f} ms of {len(refusals_s)}")


if __name__ == "__main__":
    main()
