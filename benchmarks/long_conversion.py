"""How much memory the conversion of a long recording takes: `python -m benchmarks.long_conversion [minutes]`.

Makes a recording of so many minutes (60), starts a server of its own with the embedded engine, has it converted through
`POST /api/v1/vc`, sent in the form and answered as a file, and looks every 50 ms at the memory of the server and of all
processes below it. Prints a table in Markdown. Takes some minutes and 3 GB below a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tests.recordings import RATE, vowels, vowels_wav
from tests.serving import Server, serving

GOAL_MB = 1500
LOOK_EVERY_S = 0.05
PATIENCE_S = 7200


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.long_conversion", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=int, default=60)
    parser.add_argument("--option", action="append", default=[], help="more of the form, for example speed_factor=1.2")
    given = parser.parse_args()
    load, cores = psutil.getloadavg()[0], psutil.cpu_count()
    environment = {
        "CHATTERBOX_ENGINE__REQUEST_TIMEOUT_S": str(PATIENCE_S),
        "CHATTERBOX_API__MAX_UPLOAD_MB": "1000",
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = make_recording(folder / "long.flac", given.minutes)
        with serving(folder / "data", "--engine", "embedded", environment=environment) as server:
            idle = {kind: peak_mb for kind, (peak_mb, _) in memory(server).items()}
            with watched(server) as peaks:
                began_at = time.monotonic()
                converted_s = convert(server, recording, folder, given.option)
                took_s = time.monotonic() - began_at
            left = [path.name for path in (folder / "data").rglob(".tmp-*")]
    print(f"{cores} cores, load {load:.1f} at the start, Python {sys.version.split()[0]}; {given.minutes} minutes,")
    print(f"{converted_s:.2f} s came back after {took_s:.0f} s (rtf {took_s / converted_s:.3f}); left behind: {left}\n")
    print("| process | before, MB | peak, MB |\n| --- | --- | --- |")
    for kind in sorted(peaks):
        print(f"| {kind} | {idle.get(kind, 0):.0f} | {peaks[kind]:.0f} |")
    print(f"\nGoal: under {GOAL_MB} MB together, which is {'met' if peaks['together'] < GOAL_MB else 'MISSED'}.")


def make_recording(path: Path, minutes: int) -> Path:
    """Minutes of vowels, as FLAC: what a browser would send is smaller still."""
    piece = np.tile(vowels(110).samples, 15)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(minutes):
            file.write(piece)
    return path


def convert(server: Server, recording: Path, folder: Path, options: list[str]) -> float:
    """Seconds of what came back."""
    files = {"input_audio": recording.open("rb"), "target_voice": ("high.wav", vowels_wav(220))}
    fields = dict(option.split("=", 1) for option in options)
    with server.client() as client, (folder / "converted.wav").open("wb") as file:
        request = {"files": files, "data": fields, "timeout": PATIENCE_S}
        with client.stream("POST", "/api/v1/vc", **request) as reply:  # type: ignore[arg-type]
            if reply.status_code != 200:
                raise SystemExit(f"{reply.status_code}: {reply.read().decode()}")
            for block in reply.iter_raw():
                file.write(block)
    with soundfile.SoundFile(folder / "converted.wav") as opened:
        return float(opened.frames / opened.samplerate)


def memory(server: Server) -> dict[str, tuple[float, int]]:
    """Megabytes that each kind of process holds now (RSS), and how many there are of it."""
    held: defaultdict[str, list[float]] = defaultdict(list)
    top = psutil.Process(server.process.pid)
    for process in (top, *top.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            kind = "server" if process == top else "engine" if "engines.worker" in process.cmdline() else "others"
            held[kind].append(process.memory_info().rss / 1e6)
    summed = {kind: (sum(sizes), len(sizes)) for kind, sizes in held.items()}
    return {**summed, "together": (sum(map(sum, held.values())), sum(map(len, held.values())))}


@contextmanager
def watched(server: Server) -> Iterator[dict[str, float]]:
    """The most that each kind of process held meanwhile, and all of them at one moment; filled at the end."""
    peaks: dict[str, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(LOOK_EVERY_S):
            for kind, (size_mb, _) in memory(server).items():
                peaks[kind] = max(peaks.get(kind, 0), size_mb)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    main()
