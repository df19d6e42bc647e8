"""What the audio chain costs, stage by stage: `python -m benchmarks.sound`.

CPU seconds per second of audio that a stage is given, the best of several rounds, on speech of the embedded engine; and
what share that is of what Chatterbox takes to speak as much, at full size with random weights, in the same run. Prints
tables in Markdown, keeps them as `results/sound.md` and draws `results/sound.png`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from engines.base import Cancellation, ChunkRequest, Sampling, VoicePrompt
from engines.embedded.engine import EmbeddedEngine
from utils.audio.leveling import normalized
from utils.audio.silence import shortened
from utils.audio.stretch import stretched
from utils.audio.stretchers import LIBRARIES, available
from utils.audio.trim import trimmed
from utils.audio.waveform import Waveform

RESULTS = Path(__file__).parent / "results"
FACTORS = (0.5, 0.75, 1.25, 1.5, 2.0)
LIMIT = 1 / 20  # of real time, for all stages together
SHARE = 0.03  # of synthesis, likewise
USUAL_FACTOR = 1.25
TEXT = (
    "Three yellow boats were waiting near the bridge when we arrived. Nobody had expected such heavy snow in April. "
    "Please close the window before you turn off all the lights, and remember to save your work often."
)


class Stage(NamedTuple):
    """One row of the table that does not depend on the speed."""

    name: str
    run: Callable[[Waveform], object]


TRIM, LIMITED = "trim", "loudness to -16 LUFS, limited"
STAGES = (
    Stage(TRIM, lambda waveform: trimmed(waveform, threshold_ms=200)),
    Stage("silence", lambda waveform: shortened(waveform, threshold=0.06, margin_s=0.2)),
    Stage("loudness to -24 LUFS", lambda waveform: leveled(waveform, -24.0)),
    Stage(LIMITED, lambda waveform: leveled(waveform, -16.0)),
)


def leveled(waveform: Waveform, level: float) -> object:
    return normalized(waveform, method="ebu", level=level, true_peak_dbtp=-2.0, lra=7.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.sound", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of speech")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=["english", "turbo", "nano"], help="to compare with")
    given = parser.parse_args()
    waveform = speech(given.seconds)
    speeds = {
        library: {
            factor: cost(partial(stretched, factor=factor, library=library), waveform, given.rounds)
            for factor in FACTORS
        }
        for library in LIBRARIES
        if available(library)
    }
    starts_s = {library: first_result_s(library) for library in speeds}
    stages = {stage.name: cost(stage.run, waveform, given.rounds) for stage in STAGES}
    synthesis = {name: synthesis_cost(name) for name in given.variants}
    report = table(speeds, starts_s, stages, waveform) + shares(speeds, stages, synthesis)
    print(report)
    (RESULTS / "sound.md").write_text(report, encoding="utf-8")
    draw(speeds, stages, synthesis)


def speech(duration_s: float) -> Waveform:
    engine = EmbeddedEngine()
    engine.load(lambda _: None)
    chunk = ChunkRequest(TEXT, "en", VoicePrompt("clara"), Sampling(0.5, 0.8, 0.5), seed=1)
    pieces = list(engine.speak(chunk, None, Cancellation()))
    rate = pieces[0].sample_rate
    once = np.concatenate([piece.samples for piece in pieces])
    return Waveform(np.resize(once, round(duration_s * rate)), rate)


def cost(run: Callable[[Waveform], object], waveform: Waveform, rounds: int) -> float:
    """CPU seconds per second of audio, of all threads of this process, once everything is loaded."""
    run(Waveform(waveform.samples[: waveform.sample_rate], waveform.sample_rate))
    took_s = []
    for _ in range(rounds):
        started_s = time.process_time()
        run(waveform)
        took_s.append(time.process_time() - started_s)
    return min(took_s) / waveform.duration_s


def synthesis_cost(name: str) -> float:
    """CPU seconds per second of audio of one utterance of 3 s in a voice that is known, as the server computes it."""
    import torch

    from benchmarks import chatterbox

    compared = chatterbox.Comparison(name, torch.device("cpu"), rounds=1)
    return compared.cpu_s() / (chatterbox.UTTERANCE_TOKENS / 25)


def first_result_s(library: str) -> float:
    """Wall time of the warm-up in a fresh process that has numpy already: what a first request would wait."""
    code = (
        "import sys, time, numpy; from utils.audio.stretch import warm_up; started_s = time.perf_counter();"
        "warm_up(sys.argv[1]); print(time.perf_counter() - started_s)"
    )
    run = subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True, check=True)
    return float(run.stdout)


def table(
    speeds: dict[str, dict[float, float]], starts_s: dict[str, float], stages: dict[str, float], waveform: Waveform
) -> str:
    load = psutil.getloadavg()[0]
    lines = [
        "# What the audio chain costs",
        "",
        f"CPU milliseconds per second of audio, {waveform.duration_s:.0f} s of speech at {waveform.sample_rate} Hz, "
        f"{psutil.cpu_count()} cores, load {load:.1f}, Python {sys.version.split()[0]}.",
        f"The limit of the whole chain is {LIMIT * 1000:.0f}.",
        "",
        "| speed | " + " | ".join(f"{factor:g}" for factor in FACTORS) + " | warm-up, s |",
        "| --- |" + " --- |" * (len(FACTORS) + 1),
    ]
    for library, costs in speeds.items():
        figures = " | ".join(f"{costs[factor] * 1000:.1f}" for factor in FACTORS)
        lines.append(f"| {library} | {figures} | {starts_s[library]:.1f} |")
    lines += ["", "| stage | cost |", "| --- | --- |"]
    lines += [f"| {name} | {stage_cost * 1000:.2f} |" for name, stage_cost in stages.items()]
    return "\n".join([*lines, "", "![The same as a plot](sound.png)", ""])


def shares(speeds: dict[str, dict[float, float]], stages: dict[str, float], synthesis: dict[str, float]) -> str:
    """What speed, trim and loudness together are of the time that the speech itself takes."""
    heads = [f"{name}: {spent * 1000:.0f} ms" for name, spent in synthesis.items()]
    lines = [
        "",
        f"Speed {USUAL_FACTOR:g}, trim and limited loudness together, beside Chatterbox at full size (random weights,",
        "one utterance of 3 s in a known voice; in the head its CPU milliseconds per second of speech).",
        f"The limits are {SHARE:.0%} of synthesis and {LIMIT * 1000:.0f} ms.",
        "",
        f"| | chain, ms | {' | '.join(heads)} |",
        "| --- | --- |" + " --- |" * len(heads),
    ]
    for library, costs in speeds.items():
        chain = costs[USUAL_FACTOR] + stages[TRIM] + stages[LIMITED]
        figures = " | ".join(f"{chain / spent:.2%}" for spent in synthesis.values())
        lines.append(f"| {library} | {chain * 1000:.1f} | {figures} |")
    return "\n".join([*lines, ""])


def draw(speeds: dict[str, dict[float, float]], stages: dict[str, float], synthesis: dict[str, float]) -> None:
    """Cost over the speed, the other stages as dotted lines, a share of each variant's synthesis as a dashed one."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for library, costs in speeds.items():
        axes.plot(FACTORS, [costs[factor] * 1000 for factor in FACTORS], marker="o", label=library)
    for number, (name, stage_cost) in enumerate(stages.items(), start=len(speeds)):
        axes.axhline(stage_cost * 1000, linestyle=":", color=f"C{number}", label=name)
    for number, (name, spent) in enumerate(synthesis.items(), start=len(speeds) + len(stages)):
        axes.axhline(
            spent * SHARE * 1000, linestyle="--", color=f"C{number}", label=f"{SHARE:.0%} of speaking by {name}"
        )
    axes.axhline(LIMIT * 1000, color="black", linewidth=0.8, label="limit of the chain, 1/20 of real time")
    axes.set(
        yscale="log",
        xlabel="speed factor",
        ylabel="CPU ms per second of audio",
        title="What the audio chain costs",
        xticks=FACTORS,
        xticklabels=[f"{factor:g}" for factor in FACTORS],
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(RESULTS / "sound.png", dpi=130)


if __name__ == "__main__":
    main()
