"""How listings answer as the library of outputs grows: `python -m benchmarks.libraries [100 1000 10000 100000]`.

Makes libraries below a temporary folder, starts a server of its own on each, and asks it over HTTP while it speaks all
the time. Prints tables in Markdown and draws `results/libraries.png`. It writes some gigabytes.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from tests.serving import PROJECT, free_port, serving
from utils.audio.analysis import facts_of
from utils.audio.encode import write_audio
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform

RESULTS = Path(__file__).parent / "results"
SENTENCES = (PROJECT / "tests" / "data" / "readme_sentences.txt").read_text(encoding="utf-8").split("\n")
SIZES = (100, 1000, 10_000, 100_000)
MOST_FOLDERS = 1000
FOLDERS_OF_A_PROJECT = 25
FORMATS = ("wav", "mp3")  # of each generation, as the server makes them unasked
SORTS = ("created_date", "filename", "duration", "size", "generation_type")
ROUNDS = 30  # of each question
PATIENCE_S = 1800
GOAL_MS = 50
COMMON, RARE = "harbour", "zanzibar"  # words of every other text, and of one in each library
NARRATIVE = (PROJECT / "tests" / "data" / "narrative.txt").read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.libraries", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--folder", type=Path, help="where the libraries are made, for the time of the run")
    given = parser.parse_args()
    print(
        f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the start, Python {sys.version.split()[0]}"
    )
    measured = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        companion = real_companion(Path(folder) / "one")
        for count in given.sizes:
            data_dir = Path(folder) / str(count)
            make_library(data_dir / "outputs", count, companion)
            measured[count] = measure(data_dir, count)
            shutil.rmtree(data_dir)
    print_tables(measured)
    draw({count: medians_ms for count, (_, medians_ms, _) in measured.items()})


# The libraries


def real_companion(data_dir: Path) -> dict[str, Any]:
    """What the server writes beside a generation."""
    with serving(data_dir, "--engine", "embedded") as server, server.client() as client:
        client.post("/api/v1/tts", json={"text": "Hello."}).raise_for_status()
    [companion] = (data_dir / "outputs").glob("*.json")
    content: dict[str, Any] = json.loads(companion.read_text(encoding="utf-8"))
    return content


def make_library(root: Path, count: int, companion: Mapping[str, Any]) -> None:
    """`count` audio files, two of each generation. Nothing is synced, or it would take hours."""
    draw_lots = random.Random(count)
    sounds = [sound(duration_s) for duration_s in np.linspace(0.1, 0.14, 20)]
    generations = count // len(FORMATS)
    folders = [root / folder_name(number) for number in range(min(MOST_FOLDERS, max(1, count // 10)))]
    for folder in folders:
        folder.mkdir(parents=True)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(generations):
        folder = folders[number % len(folders)]
        created = begin + timedelta(seconds=211 * number)
        stem = f"tts_{created:%Y-%m-%d_%H%M%S}_{number:06}_temp0.75"
        text = " ".join(draw_lots.sample(SENTENCES, 2)) + f" Take {number}" + f" in the {COMMON}." * (number % 2)
        text += f" Off to {RARE}." if number == generations // 3 else ""
        listed = []
        for name, (content, facts) in draw_lots.choice(sounds).items():
            path = folder / f"{stem}.{name}"
            path.write_bytes(content)
            listed.append({"filename": path.name, **recorded(path, content), **facts})
        request = {**companion["request"], "text": text, "project": folder.relative_to(root).as_posix()}
        about = {"created_date": created.isoformat(), "seed": number, "request": request, "text": text, "files": listed}
        (folder / f"{stem}.json").write_text(json.dumps({**companion, **about}, indent=2), encoding="utf-8")


def folder_name(number: int) -> str:
    return f"project-{number // FOLDERS_OF_A_PROJECT:03}/chapter-{number % FOLDERS_OF_A_PROJECT:02}"


def sound(duration_s: float) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Format → its bytes and what is heard in it."""
    time_s = np.arange(round(duration_s * 24_000)) / 24_000
    waveform = Waveform((0.1 * np.sin(2 * np.pi * 220 * time_s)).astype(np.float32), 24_000)
    made = {}
    for name in FORMATS:
        file = io.BytesIO()
        write_audio(waveform, file, name, Bitrates())
        made[name] = (file.getvalue(), asdict(facts_of(waveform, name)))
    return made


def recorded(path: Path, content: bytes) -> dict[str, Any]:
    status = path.stat()
    return {
        "size_bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "content_hash": sha256(content).hexdigest(),
    }


# The server


def questions(count: int) -> dict[str, dict[str, Any]]:
    """What is asked, by name: the parameters of a listing, {} for the folders."""
    last = -(-count // 50)
    asked: dict[str, dict[str, Any]] = {
        "first page": {"page": 1},
        "middle page": {"page": max(1, last // 2)},
        "last page": {"page": last},
    }
    for sort in SORTS[1:]:
        asked[f"first page by {sort}"] = {"sort_by": sort, "sort_order": "asc"}
        asked[f"last page by {sort}"] = {"sort_by": sort, "sort_order": "asc", "page": last}
    return asked | {
        "a folder of a project": {"folder": folder_name(3)},
        "a project": {"folder": "project-000"},
        "one type": {"generation_type": "tts"},
        "one month": {"date_from": "2026-02-01", "date_to": "2026-02-28"},
        "search, rare word": {"search": RARE},
        "search, common word": {"search": COMMON},
        "search, common word, last page": {"search": COMMON, "page": max(1, last // 2)},
        "search, two words": {"search": f"{COMMON} take"},
        "search, two letters": {"search": "ou"},
        "search, nothing found": {"search": "qqqxyz"},
        "search in a project": {"search": COMMON, "folder": "project-000"},
        "folders": {},
    }


def measure(data_dir: Path, count: int) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Seconds and megabytes of the server by name; median and worst milliseconds of each question."""
    whole: dict[str, float] = {}
    with started(data_dir) as (client, process, _):
        whole["indexed from scratch (s)"] = until(client, count)
        whole["memory after indexing (MB)"] = process.memory_info().rss / 1e6
    with started(data_dir) as (client, process, times):
        whole |= times
        with speaking(client) as spoken:
            took_ms = {name: ask(client, parameters, name) for name, parameters in questions(count).items()}
        whole["generations meanwhile"] = len(spoken)
        whole["memory afterwards (MB)"] = process.memory_info().rss / 1e6
    whole["index (MB)"] = sum(path.stat().st_size for path in data_dir.glob("library.sqlite*")) / 1e6
    medians_ms = {name: statistics.median(each) for name, each in took_ms.items()}
    print(f"<!-- {count} files: done, load {psutil.getloadavg()[0]:.1f} -->", flush=True)
    return whole, medians_ms, {name: max(each) for name, each in took_ms.items()}


@contextmanager
def started(data_dir: Path) -> Iterator[tuple[httpx.Client, psutil.Process, dict[str, float]]]:
    """A server, and the seconds until it is ready and until it has answered its first listing."""
    port = free_port()
    began_at = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "main_api.py", "--engine", "embedded", "--port", str(port), "--data-dir", str(data_dir)],
        cwd=PROJECT,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            times = {}
            for what, path in (("ready", "/api/v1/health/ready"), ("first listing", "/api/v1/outputs")):
                while not answers(client, path):
                    time.sleep(0.01)
                times[f"start to {what} (s)"] = time.perf_counter() - began_at
            times["memory, just started (MB)"] = psutil.Process(process.pid).memory_info().rss / 1e6
            yield client, psutil.Process(process.pid), times
    finally:
        process.terminate()
        process.wait()


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def until(client: httpx.Client, count: int) -> float:
    """Seconds from now until the listing knows that many files."""
    began_at = time.perf_counter()
    while client.get("/api/v1/outputs", params={"page_size": 1}).json()["total_files"] < count:
        if time.perf_counter() - began_at > PATIENCE_S:
            raise TimeoutError(f"{count} files were not indexed in {PATIENCE_S} s")
        time.sleep(0.05)
    return time.perf_counter() - began_at


@contextmanager
def speaking(client: httpx.Client) -> Iterator[list[float]]:
    """One long text after the other is spoken meanwhile; the seconds that each took."""
    spoken: list[float] = []
    is_over = threading.Event()

    def speak() -> None:
        with httpx.Client(base_url=client.base_url, timeout=600, trust_env=False) as speaker:
            while not is_over.is_set():
                body = {"text": NARRATIVE, "response_mode": "url", "folder": "spoken-meanwhile"}
                spoken.append(speaker.post("/api/v1/tts", json=body).raise_for_status().elapsed.total_seconds())

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield spoken
    finally:
        is_over.set()
        thread.join()


def ask(client: httpx.Client, parameters: Mapping[str, Any], name: str) -> list[float]:
    path = "/api/v1/outputs/folders" if name == "folders" else "/api/v1/outputs"
    took_ms = []
    for _ in range(ROUNDS):
        began_at = time.perf_counter()
        client.get(path, params=parameters).raise_for_status()
        took_ms.append(1000 * (time.perf_counter() - began_at))
    return took_ms


# The results


def print_tables(measured: Mapping[int, tuple[dict[str, float], dict[str, float], dict[str, float]]]) -> None:
    sizes = [*measured]
    print(f"\n| {'server':<32} |" + "".join(f" {size:,} files |" for size in sizes))
    print("| --- |" + " ---: |" * len(sizes))
    for what in measured[sizes[0]][0]:
        print(f"| {what} |" + "".join(f" {measured[size][0][what]:.4g} |" for size in sizes))
    print("\n| answer, median (worst) in ms |" + "".join(f" {size:,} files |" for size in sizes))
    print("| --- |" + " ---: |" * len(sizes))
    for name in measured[sizes[0]][1]:
        print(
            f"| {name} |"
            + "".join(f" {measured[size][1][name]:.1f} ({measured[size][2][name]:.0f}) |" for size in sizes)
        )


def draw(medians_ms: Mapping[int, Mapping[str, float]]) -> None:
    """Median answers over the size of the library."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    sizes = sorted(medians_ms)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    shown = ["first page", "middle page", "last page", "a folder of a project", "search, rare word"]
    shown += ["search, common word", "search, two words", "folders"]
    for name in shown:
        axes.plot(sizes, [medians_ms[size][name] for size in sizes], marker="o", label=name)
    axes.axhline(GOAL_MS, linestyle=":", color="black", label="goal")
    axes.set(
        xscale="log",
        ylim=(0, None),
        xlabel="files in the library",
        ylabel="median answer, ms",
        title="Listings over HTTP while the server speaks",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(RESULTS / "libraries.png", dpi=130)


if __name__ == "__main__":
    main()
