"""How long joining files takes, and how much memory: `python -m benchmarks.concatenation [10 100 300 1000]`.

Makes clips of five seconds below a temporary folder, starts a server of its own with the embedded engine, has them
joined through `POST /api/v1/concat`, and lets pydub do the same. Then ten hours at once. All the while it looks every
50 ms at the memory of the server and asks for its health. Prints tables in Markdown and draws
`results/concatenation.png`. It writes some gigabytes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

from benchmarks.long_conversion import memory, watched
from tests.recordings import RATE, vowels
from tests.serving import PROJECT, Server, serving

RESULTS = Path(__file__).parent / "results"
COUNTS = (10, 100, 300, 1000)
CLIP_S = 5.0
PAUSE_MS = 200
HOURS, CLIPS_OF_HOURS = 10.0, 1000
LOOK_EVERY_S = 0.05
PATIENCE_S = 7200
READY = ("serving on", "engine ready", "read library=outputs")
GOAL_MB, GOAL_HEALTH_MS, GOAL_TIMES = 300, 100, 5
PLAIN = {"normalize_levels": False, "export_formats": ["wav"]}
WAYS: dict[str, dict[str, Any]] = {
    "wav": PLAIN,
    "wav, levelled": {"export_formats": ["wav"]},
    "wav, levelled again": {"export_formats": ["wav"]},  # its measures are known by now
    "wav, crossfades": {**PLAIN, "crossfade_ms": 50, "pause_duration_ms": 0},
    "mp3": {"normalize_levels": False, "export_formats": ["mp3"]},
    "wav, flac, mp3, opus, aac": {"normalize_levels": False, "export_formats": ["wav", "flac", "mp3", "opus", "aac"]},
}
WAYS_OF_HOURS = ("wav", "wav, levelled", "mp3")


@dataclass
class Measured:
    took_s: float
    audio_s: float
    peak_mb: float
    health_ms: float  # the slowest answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.concatenation", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=COUNTS)
    parser.add_argument("--way", action="append", choices=WAYS, help="only these; wav is always among them")
    parser.add_argument("--hours", type=float, default=HOURS, help="of the long one; 0 = none")
    parser.add_argument(
        "--pydub", nargs=2, metavar=("FOLDER", "COUNT"), help="only let pydub do it, and say how it was"
    )
    given = parser.parse_args()
    if given.pydub:
        print(json.dumps(by_pydub(Path(given.pydub[0]), int(given.pydub[1]))))
        return
    print(
        f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the start, Python {sys.version.split()[0]}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        clips = make_clips(data / "outputs" / "clips", max(given.counts), CLIP_S)
        long = make_clips(data / "outputs" / "long", CLIPS_OF_HOURS if given.hours else 0, given.hours * 3.6)
        with serving(
            data, "--engine", "embedded", ready=("serving on", "engine ready", "read library=outputs")
        ) as server:
            idle_mb = memory(server)["server"][0]
            ways = [way for way in WAYS if way == "wav" or not given.way or way in given.way]
            ours = {(way, count): join(server, clips[:count], **WAYS[way]) for count in given.counts for way in ways}
            hours = {way: join(server, long, **WAYS[way]) for way in WAYS_OF_HOURS if way in ways and long}
        theirs = {count: pydub_apart(data / "outputs" / "clips", count) for count in given.counts}
    print(report(ours, hours, theirs, idle_mb))
    draw(ours, theirs)


def make_clips(folder: Path, count: int, seconds: float) -> list[str]:
    """Speech-like, each another; as 16 bits, as the engine's own recordings of old. Their paths below outputs/."""
    folder.mkdir(parents=True, exist_ok=True)
    sound = np.tile(vowels(140, 60.0).samples, 1 + int(seconds // 60))
    names = []
    for index in range(count):
        samples = np.roll(sound, 997 * index)[: round(seconds * RATE)] * (0.3 + 0.5 * (index % 7) / 7)
        soundfile.write(folder / f"{index:04}.wav", samples, RATE, "PCM_16")
        names.append(f"{folder.name}/{index:04}.wav")
    return names


def join(server: Server, files: list[str], **options: Any) -> Measured:
    body = {"files": files, "pause_duration_ms": PAUSE_MS, "pause_variation_ms": 0, "project": "joined", **options}
    with server.client() as client, watched(server) as peaks, asked_for_health(server) as answers_ms:
        began_at = time.monotonic()
        reply = client.post("/api/v1/concat", params={"response_mode": "url"}, json=body, timeout=PATIENCE_S)
        took_s = time.monotonic() - began_at
    if reply.status_code != 200:
        raise SystemExit(reply.text)
    with server.client() as client:
        client.delete("/api/v1/outputs", params={"folder": "joined", "confirm": True})
    return Measured(took_s, reply.json()["total_duration_seconds"], peaks["server"], max(answers_ms))


@contextmanager
def asked_for_health(server: Server) -> Iterator[list[float]]:
    """Milliseconds of each answer meanwhile."""
    answers_ms: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        with server.client() as client:
            while True:
                began_at = time.monotonic()
                client.get("/api/v1/health").raise_for_status()
                answers_ms.append((time.monotonic() - began_at) * 1000)
                if ended.wait(LOOK_EVERY_S):
                    return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield answers_ms
    finally:
        ended.set()
        asking.join()


def pydub_apart(folder: Path, count: int) -> Measured:
    """In a process of its own, as it would be in a script."""
    command = [sys.executable, "-m", "benchmarks.concatenation", "--pydub", str(folder), str(count)]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    said = json.loads(run.stdout)
    return Measured(said["took_s"], said["audio_s"], said["peak_mb"], 0.0)


def by_pydub(folder: Path, count: int) -> dict[str, float]:
    """The same join, as its documentation shows it: one segment and the next, with a silence between them."""
    import resource

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydub import AudioSegment  # type: ignore[import-untyped]
    began_at = time.monotonic()
    silence = AudioSegment.silent(PAUSE_MS, frame_rate=RATE)
    names = sorted(folder.glob("*.wav"))[:count]
    whole = AudioSegment.from_wav(names[0])
    for name in names[1:]:
        whole = whole + silence + AudioSegment.from_wav(name)
    with tempfile.TemporaryDirectory(dir=folder.parent) as target:
        whole.export(Path(target) / "whole.wav", format="wav").close()
    took_s = time.monotonic() - began_at
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"took_s": took_s, "audio_s": len(whole) / 1000, "peak_mb": peak_mb}


def report(
    ours: dict[tuple[str, int], Measured], hours: dict[str, Measured], theirs: dict[int, Measured], idle_mb: float
) -> str:
    lines = [f"Server before: {idle_mb:.0f} MB. Seconds until the answer, peak memory of the server process, slowest"]
    lines += [
        "answer of `/api/v1/health` meanwhile:",
        "",
        "| clips of 5 s | what | s | per s of audio | MB | health, ms |",
    ]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for (way, count), one in ours.items():
        lines.append(f"| {count} | {way} | {_row(one)} | {one.health_ms:.0f} |")
    for count, one in theirs.items():
        lines.append(f"| {count} | pydub, wav | {_row(one)} | |")
    for way, one in hours.items():
        lines.append(f"| {one.audio_s / 3600:.1f} h | {way} | {_row(one)} | {one.health_ms:.0f} |")
    most = max(theirs)
    every = [*ours.values(), *hours.values()]
    times = theirs[most].took_s / ours["wav", most].took_s
    goals = {
        f"memory under {GOAL_MB} MB": max(one.peak_mb for one in every) < GOAL_MB,
        f"health within {GOAL_HEALTH_MS} ms": max(one.health_ms for one in every) < GOAL_HEALTH_MS,
        f"{GOAL_TIMES} times faster than pydub at {most} clips ({times:.0f} times)": times >= GOAL_TIMES,
    }
    spread = statistics.median(one.took_s / one.audio_s for (way, _), one in ours.items() if way == "wav")
    lines += ["", f"Plain joins take {spread * 1000:.2f} ms per second of audio (median over the counts)."]
    return "\n".join(
        [*lines, *(f"Goal: {goal}: {'met' if is_met else 'MISSED'}." for goal, is_met in goals.items()), ""]
    )


def _row(one: Measured) -> str:
    return f"{one.took_s:.2f} | {one.took_s / one.audio_s:.5f} | {one.peak_mb:.0f}"


def draw(ours: dict[tuple[str, int], Measured], theirs: dict[int, Measured]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    counts = sorted(theirs)
    for way in dict.fromkeys(way for way, _ in ours):
        axes.plot(counts, [ours[way, count].took_s for count in counts], marker="o", label=way)
    axes.plot(counts, [theirs[count].took_s for count in counts], marker="s", linestyle="--", label="pydub, wav")
    axes.set(xlabel="clips of 5 s", ylabel="seconds", xscale="log", yscale="log", title="Joining files")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(RESULTS / "concatenation.png", dpi=120)


if __name__ == "__main__":
    main()
