"""Chatterbox at full size, upstream's package and this server in turn: `python -m benchmarks.chatterbox english turbo`.

Random weights, so the speech is noise and the speed is real. Prints tables in Markdown and draws
`results/chatterbox-<device>.png`. Figures of one run belong together; compare ratios.
"""

from __future__ import annotations

import argparse
import copy
import gc
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
import torch
from chatterbox.models.s3gen.const import S3GEN_SIL
from numpy.typing import NDArray

from benchmarks import full_size
from benchmarks.full_size import FullSize
from engines.chatterbox import conditioning
from engines.chatterbox.chance import chance
from engines.chatterbox.device import device_of
from engines.chatterbox.fleet import default_precision
from engines.chatterbox.s3gen.estimator import best_precision
from engines.chatterbox.s3gen.rendering import Renderer, RenderJob, RenderStream
from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.t3.linear import Precision
from engines.chatterbox.t3.sampling import Performance
from engines.chatterbox.voice import PreparedVoice

RESULTS = Path(__file__).parent / "results"
SEQUENCES = (1, 2, 4, 8, 16, 32)
STEPS = 24  # of the decoder for each figure; the first quartile counts, on both sides: others use the machine too
UTTERANCE_TOKENS = 75  # 3 s
UTTERANCES = {"cpu": (UTTERANCE_TOKENS,), "cuda": (UTTERANCE_TOKENS, 250)}  # 10 s where that does not take minutes
REFERENCE_S = 10.0
TEXT = tuple(range(20, 80))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.chatterbox", description=__doc__)
    parser.add_argument("variants", nargs="*", default=["english", "turbo", "nano"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sequences", type=int, nargs="*", default=SEQUENCES)
    parser.add_argument("--precision", choices=get_args(Precision), help="of T3; that of the setting auto")
    given = parser.parse_args()
    device = device_of(given.device)
    describe_machine(device)
    curves = {}
    for name in given.variants:
        print(f"\n## {name}\n", flush=True)
        curves[name] = Comparison(name, device, given.rounds, given.precision).run(given.sequences)
        gc.collect()
    draw(curves, device)


def describe_machine(device: torch.device) -> None:
    memory_gib = psutil.virtual_memory().total / 2**30
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    print(f"{processor}, {psutil.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, {memory_gib:.0f} GiB")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {psutil.getloadavg()[0]:.1f}")
    if device.type == "cuda":
        print(torch.cuda.get_device_name(device))


class Comparison:
    """One variant, loaded twice: upstream's modules, and ours over a second set of the same weights."""

    def __init__(self, name: str, device: torch.device, rounds: int, precision: Precision | None = None) -> None:
        self._device, self._rounds = device, rounds
        self._upstream = full_size.make(name)
        for part in (self._upstream.t3, self._upstream.s3gen, self._upstream.voice_encoder):
            part.to(device)
        ours = copy.deepcopy(self._upstream.t3)
        numbers = precision or default_precision(device)
        self._decoder = Decoder(ours, self._upstream.variant, numbers, device, max(SEQUENCES))
        self._renderer = Renderer(self._upstream.s3gen)
        self._renders_in = best_precision(device)
        self._recording = full_size.recording(REFERENCE_S)

    def run(self, sequences: Sequence[int]) -> dict[int, float]:
        """Print the figures; tokens per second by the number of sequences, 0 being upstream's."""
        print(f"T3 in {self._decoder.precision}, S3Gen in {self._renders_in}\n")
        voice = prepared(self._upstream, self._recording)
        curve = self._decoding(voice, sequences)
        for tokens in UTTERANCES.get(self._device.type, UTTERANCES["cpu"]):
            self._utterance(voice, tokens)
        self._first_audio(voice)
        process = psutil.Process()
        print(f"\nmemory of the process with both: {process.memory_info().rss / 1e9:.1f} GB", flush=True)
        if self._device.type == "cuda":
            print(f"of the device, at most: {torch.cuda.max_memory_allocated(self._device) / 1e9:.1f} GB", flush=True)
        return curve

    def _decoding(self, voice: PreparedVoice, sequences: Sequence[int]) -> dict[int, float]:
        best: dict[int, float] = {}
        for _ in range(self._rounds):
            best[0] = max(best.get(0, 0.0), 1 / self._upstream_step_s(voice))
            for count in sequences:
                best[count] = max(best.get(count, 0.0), count / self._our_step_s(voice, count))
        print("| sequences at once | tokens/s | times upstream | times real time |\n| --- | --- | --- | --- |")
        print(f"| upstream, 1 | {best[0]:.1f} | 1.0 | {best[0] / 25:.2f} |")
        for count in sequences:
            print(f"| {count} | {best[count]:.1f} | {best[count] / best[0]:.1f} | {best[count] / 25:.2f} |", flush=True)
        return best

    def _upstream_step_s(self, voice: PreparedVoice) -> float:
        """From the moments at which upstream's loop asks for its next turn."""
        from chatterbox.models.t3 import t3 as upstream_module

        moments: list[float] = []

        def clocked(turns: Iterable[int], **_: object) -> Iterator[int]:
            for turn in turns:
                moments.append(time.perf_counter())
                yield turn

        plain, upstream_module.tqdm = upstream_module.tqdm, clocked
        try:
            upstream_tokens(self._upstream, voice, STEPS + 2)
        finally:
            upstream_module.tqdm = plain
        took = sorted(after - before for before, after in pairwise(moments))
        return took[len(took) // 4]

    def _our_step_s(self, voice: PreparedVoice, count: int) -> float:
        for seed in range(count):
            self._decoder.admit(TEXT, voice, performance(self._upstream), chance(seed, self._device), 1000)
        took = sorted(timed(self._device, self._decoder.step) for _ in range(STEPS))
        for sequence in list(self._decoder.active):
            self._decoder.drop(sequence)
        return took[len(took) // 4]

    def _utterance(self, voice: PreparedVoice, count: int) -> None:
        """So much speech from a recording to samples, by each in turn; for ours a second time with the voice known."""
        self._spoken(voice, count)  # whatever is made on first use is made
        theirs = Stages(self._device)
        with theirs("conditioning"):
            upstream_voice = prepared(self._upstream, self._recording)
        with theirs("T3"):
            tokens = upstream_tokens(self._upstream, upstream_voice, count)
        with theirs("S3Gen"):
            upstream_wave(self._upstream, upstream_voice, tokens)
        ours = Stages(self._device)
        with ours("conditioning"):
            voice = prepared(self._upstream, self._recording)
        with ours("T3"):
            speech, generator = self._spoken(voice, count)
        with ours("S3Gen"):
            self._renderer.render([RenderJob(speech, voice, generator)], self._upstream.variant.flow_steps, never)
        duration_s = count / 25
        print(f"\n| {duration_s:g} s utterance, seconds | upstream | ours | times |\n| --- | --- | --- | --- |")
        for stage, took_s in theirs.took_s.items():
            mine = ours.took_s[stage]
            print(f"| {stage} | {took_s:.3f} | {mine:.3f} | {took_s / mine:.2f} |")
        whole, mine = sum(theirs.took_s.values()), sum(ours.took_s.values())
        print(f"| a new voice | {whole:.3f} | {mine:.3f} | {whole / mine:.2f} |")
        known = mine - ours.took_s["conditioning"]
        print(f"| a voice that is known | {whole:.3f} | {known:.3f} | {whole / known:.2f} |")
        print(f"\nreal-time factor with a known voice: {known / duration_s:.3f}", flush=True)

    def cpu_s(self) -> float:
        """Of all cores, for the same utterance in a voice that is known, ours."""
        voice = prepared(self._upstream, self._recording)
        started_s = time.process_time()
        speech, generator = self._spoken(voice, UTTERANCE_TOKENS)
        self._renderer.render([RenderJob(speech, voice, generator)], self._upstream.variant.flow_steps, never)
        return time.process_time() - started_s

    def _spoken(self, voice: PreparedVoice, count: int) -> tuple[list[int], torch.Generator]:
        generator = chance(1, self._device)
        sequence = self._decoder.admit(TEXT, voice, performance(self._upstream), generator, count)
        while not sequence.is_finished:
            self._decoder.step()
        return sequence.speech_tokens, generator

    def _first_audio(self, voice: PreparedVoice) -> None:
        """From a request with a known voice to the first samples; on a GPU the fifth time, when all is recorded."""
        for _ in range(1 if self._device.type == "cpu" else 5):
            started_at = time.perf_counter()
            samples, stream = self._begun(voice)
            took_s = time.perf_counter() - started_at
        print(f"\nfirst audio after {took_s:.3f} s ({len(samples) / 24_000:.2f} s of it, {stream.next_at} tokens next)")

    def _begun(self, voice: PreparedVoice) -> tuple[NDArray[np.float32], RenderStream]:
        generator = chance(1, self._device)
        sequence = self._decoder.admit(TEXT, voice, performance(self._upstream), generator, UTTERANCE_TOKENS)
        stream = self._renderer.stream(voice, chance(2, self._device), self._upstream.variant.flow_steps)
        while len(sequence.speech_tokens) < stream.next_at:
            self._decoder.step()
        samples = stream.feed(sequence.speech_tokens, never, is_last=False)
        self._decoder.drop(sequence)
        return samples, stream


def performance(full: FullSize) -> Performance:
    variant = full.variant
    return Performance(0.5, 0.5, 0.8, variant.min_p, variant.top_p, variant.top_k, variant.repetition_penalty)


def prepared(full: FullSize, recording: Path) -> PreparedVoice:
    with recording.open("rb") as file:
        return conditioning.prepare(full, file, "benchmark", never)


def upstream_tokens(full: FullSize, voice: PreparedVoice, count: int, seed: int = 1) -> torch.Tensor:
    """So many tokens of the package's own loop."""
    from chatterbox.models.t3.modules.cond_enc import T3Cond

    torch.manual_seed(seed)
    condition = T3Cond(
        speaker_emb=voice.speaker,
        cond_prompt_speech_tokens=voice.prompt_tokens,
        emotion_adv=0.5 * torch.ones(1, 1, 1),
    ).to(device=full.t3.device)
    how = performance(full)
    text = torch.tensor([TEXT], device=full.t3.device)
    sampling = {"temperature": how.temperature, "top_p": how.top_p, "repetition_penalty": how.repetition_penalty}
    if full.variant.family == "gpt2":
        return full.t3.inference_turbo(condition, text, top_k=how.top_k, max_gen_len=count - 1, **sampling)
    text = torch.nn.functional.pad(text, (1, 0), value=full.t3.hp.start_text_token)
    text = torch.nn.functional.pad(text, (0, 1), value=full.t3.hp.stop_text_token)
    return full.t3.inference(
        t3_cond=condition,
        text_tokens=torch.cat([text, text]),
        max_new_tokens=count,
        min_p=how.min_p,
        cfg_weight=how.cfg_weight,
        **sampling,
    )


def upstream_wave(
    full: FullSize, voice: PreparedVoice, tokens: torch.Tensor, flow_steps: int | None = None
) -> NDArray[np.float32]:
    """The samples of the package's own S3Gen, with the silence that its Turbo ends on."""
    reference = {
        "prompt_token": voice.reference_tokens,
        "prompt_token_len": torch.tensor([voice.reference_tokens.shape[1]]),
        "prompt_feat": voice.reference_mel,
        "prompt_feat_len": None,
        "embedding": voice.reference_speaker,
    }
    speech = tokens[tokens < 6561]
    if full.variant.family == "gpt2":
        speech = torch.cat([speech, torch.full((3,), S3GEN_SIL)])
    waveform, _ = full.s3gen.inference(
        speech_tokens=speech, ref_dict=reference, n_cfm_timesteps=flow_steps or full.variant.flow_steps
    )
    return np.asarray(waveform[0].cpu(), np.float32)


class Stages:
    """Named spans of time: `with spent("T3"): ...` on an instance, then `took_s`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.took_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started_at = time.perf_counter()
        yield
        finish(self._device)
        self.took_s[name] = time.perf_counter() - started_at


def timed(device: torch.device, work: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - started_at


def finish(device: torch.device) -> None:
    """Wait for what the device has been given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def never() -> None:
    """Nobody cancels a benchmark."""


def draw(curves: dict[str, dict[int, float]], device: torch.device) -> None:
    """Speed over the number of sequences, in times of real time, upstream as a dotted line."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, curve in curves.items():
        counts = sorted(count for count in curve if count)
        [line] = axes.plot(counts, [curve[count] / 25 for count in counts], marker="o", label=name)
        axes.axhline(curve[0] / 25, linestyle=":", color=line.get_color(), label=f"{name}, upstream package")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="sequences at once",
        ylabel="seconds of speech tokens a second",
        title=f"Speech tokens, full size, {device}",
        xticks=SEQUENCES,
        xticklabels=[str(count) for count in SEQUENCES],
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(RESULTS / f"chatterbox-{device.type}.png", dpi=130)


if __name__ == "__main__":
    main()
