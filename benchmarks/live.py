"""When live audio comes, on the embedded engine: `python -m benchmarks.live [plot.png]`.

For 1,500 characters, in every format, at 1, 4 and 16 clients: the time to the first audio byte, of the whole live
answer (nothing is kept, so that it ends with the last audio) and of the finished file, and the gaps between arrivals.
Starts a server of its own and prints a table in Markdown. Figures of one run belong together.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.serving import PROJECT, Server, serving

TTS = "/api/v1/tts"
NARRATIVE = (PROJECT / "tests" / "data" / "narrative.txt").read_text(encoding="utf-8")
TEXT = NARRATIVE[:1500]
FORMATS = ("wav", "mp3", "flac", "opus", "aac", "pcm")
CLIENTS = (1, 4, 16)
ROUNDS = {1: 7, 4: 2, 16: 1}
GOAL_S, GOAL_SHARE = 0.3, 1 / 8


@dataclass(frozen=True)
class Answer:
    """Seconds from the request on: the first byte, the end, and every arrival."""

    first_s: float
    whole_s: float
    arrivals_s: tuple[float, ...]

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)]


@dataclass(frozen=True)
class Figures:
    """Of one format at so many clients at once."""

    format: str
    clients: int
    first_s: list[float]
    whole_s: list[float]
    finished_s: list[float]
    gaps_s: list[float]

    @property
    def share(self) -> float:
        return statistics.median(self.first_s) / statistics.median(self.whole_s)


def main() -> None:
    memory_gib = psutil.virtual_memory().total / 2**30
    print(f"{psutil.cpu_count()} cores, {memory_gib:.0f} GiB, load {os.getloadavg()[0]:.1f} at the start")
    print(f"Python {sys.version.split()[0]}, {platform.system()}; {len(TEXT)} characters\n")
    print(
        "| format | clients | first byte, median (slowest) | whole live answer | finished file | first / whole |",
        end="",
    )
    print(" gaps, median (slowest) |\n| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), "--engine", "embedded") as server:
        measured = [row(figures) for figures in all_figures(server)]
    if len(sys.argv) > 1:
        plot(measured, Path(sys.argv[1]))


def all_figures(server: Server) -> Iterator[Figures]:
    for clients in CLIENTS:
        for name in FORMATS:
            yield figures_of(server, name, clients)


def figures_of(server: Server, name: str, clients: int) -> Figures:
    with ThreadPoolExecutor(clients) as threads:
        live = [
            answer
            for _ in range(ROUNDS[clients])
            for answer in threads.map(lambda _: listen(server, name, "live"), range(clients))
        ]
        finished = [*threads.map(lambda _: listen(server, name, "stream"), range(clients))]
    return Figures(
        name,
        clients,
        [answer.first_s for answer in live],
        [answer.whole_s for answer in live],
        [answer.whole_s for answer in finished],
        [gap_s for answer in live for gap_s in answer.gaps_s],
    )


def listen(server: Server, name: str, mode: str) -> Answer:
    body = {"text": TEXT, "seed": 3, "export_formats": [name], "save": mode != "live"}
    arrivals_s: list[float] = []
    with httpx.Client(base_url=server.url, timeout=600, trust_env=False) as client:
        began_at = time.perf_counter()
        with client.stream("POST", TTS, params={"response_mode": mode}, json=body) as reply:
            reply.raise_for_status()
            for _ in reply.iter_raw():
                arrivals_s.append(time.perf_counter() - began_at)
        return Answer(arrivals_s[0], time.perf_counter() - began_at, tuple(arrivals_s))


def row(figures: Figures) -> Figures:
    first_ms, gaps_ms = ([1000 * value for value in values] for values in (figures.first_s, figures.gaps_s))
    cells = (
        figures.format,
        figures.clients,
        f"{statistics.median(first_ms):.0f} ms ({max(first_ms):.0f})",
        f"{statistics.median(figures.whole_s):.2f} s",
        f"{statistics.median(figures.finished_s):.2f} s",
        f"1/{1 / figures.share:.0f}",
        f"{statistics.median(gaps_ms):.1f} ms ({max(gaps_ms):.0f})",
    )
    print("|", " | ".join(map(str, cells)), "|", flush=True)
    return figures


def plot(measured: Sequence[Figures], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    width = 0.8 / len(FORMATS)
    for index, name in enumerate(FORMATS):
        mine = [figures for figures in measured if figures.format == name]
        places = [place + (index - len(FORMATS) / 2 + 0.5) * width for place in range(len(mine))]
        axes[0].bar(places, [statistics.median(figures.first_s) for figures in mine], width, label=name)
        eighths_s = [GOAL_SHARE * statistics.median(figures.whole_s) for figures in mine]
        axes[0].plot(places, eighths_s, "k_", label="1/8 of the whole" if name == FORMATS[0] else None)
        gaps_s = [sorted(figures.gaps_s) for figures in mine]
        axes[1].bar(places, [gaps[int(0.99 * (len(gaps) - 1))] for gaps in gaps_s], width, label=name)
    axes[0].axhline(GOAL_S, color="gray", linestyle="dotted", label="300 ms")
    axes[0].set(title="time to the first audio byte, median", yscale="log", ylabel="seconds")
    axes[1].set(title="gap between two arrivals, 99th percentile", yscale="log", ylabel="seconds")
    for axis in axes:
        axis.set_xticks(range(len(CLIENTS)), [f"{clients} client{'s'[: clients > 1]}" for clients in CLIENTS])
        axis.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
