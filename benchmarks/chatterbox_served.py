"""A server with full-size English and many clients: `python -m benchmarks.chatterbox_served`.

Makes a checkpoint with random weights in a temporary folder (3 GB), starts a server on it, and prints tables in
Markdown: seconds of speech a second for finished files, and the time to the first sample of live audio, by the number
of clients at once. Each asks for one sentence, which random weights speak until they are stopped, 8 to 11 s.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors.torch import save_file

from benchmarks import full_size
from benchmarks.chatterbox import describe_machine
from tests.engines.chatterbox.checkpoints import ENGLISH_CHARACTERS, grapheme_tokenizer, save_own_voice
from tests.serving import Server, serving

CLIENTS = (1, 8, 32)
TEXT = "The quick brown fox jumps over the lazy dogs."
ASKED = {
    "text": TEXT,
    "reference_audio_filename": "default",
    "export_formats": ["pcm"],  # no header, no encoder: the first byte is sound
    "bypass_whisper_checking": True,
    "max_attempts_per_candidate": 1,  # a model that is stopped is thought to have run on
}
BYTES_A_SECOND = 2 * 24_000


@dataclass(frozen=True)
class Answer:
    first_s: float
    speech_s: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.chatterbox_served", description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clients", type=int, nargs="*", default=CLIENTS)
    given = parser.parse_args()
    describe_machine(torch.device(given.device))
    with tempfile.TemporaryDirectory() as folder:
        weights = make_checkpoint(Path(folder) / "weights")
        settings = {
            "CHATTERBOX_ENGINE__NAME": "chatterbox",
            "CHATTERBOX_CHATTERBOX__MODEL": "english",
            "CHATTERBOX_CHATTERBOX__WEIGHTS": str(weights),
            "CHATTERBOX_CHATTERBOX__DEVICE": given.device,
        }
        with serving(Path(folder) / "data", environment=settings) as server:
            compare(server, given.clients)


def make_checkpoint(folder: Path) -> Path:
    """The files of English, as they are published; its own voice has a reference of 10 s."""
    full = full_size.make("english")
    folder.mkdir()
    for module, name in ((full.t3, "t3_cfg"), (full.s3gen, "s3gen"), (full.voice_encoder, "ve")):
        state = {key: tensor.contiguous() for key, tensor in module.state_dict().items()}
        save_file(state, folder / f"{name}.safetensors")
    grapheme_tokenizer(704, (), [ENGLISH_CHARACTERS]).save(str(folder / "tokenizer.json"))
    save_own_voice(folder / "conds.pt", prompt_tokens=150, reference_tokens=250)
    return folder


def compare(server: Server, counts: list[int]) -> None:
    for mode in ("stream", "live", "live", "live"):  # what is made on first use is made
        ask(server, mode, seed=1)
    print("\n| clients | finished: all, seconds | speech, seconds | times real time |", end="")
    print(" live: first sound, median | 95 % | all, seconds | times real time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for clients in counts:
        cells: list[str] = []
        for mode in ("stream", "live"):
            started_at = time.perf_counter()
            answers = [*crowd(server, mode, clients)]
            took_s = time.perf_counter() - started_at
            speech_s = sum(answer.speech_s for answer in answers)
            firsts_ms = sorted(1000 * answer.first_s for answer in answers)
            if mode == "live":
                late = firsts_ms[min(len(firsts_ms) - 1, int(0.95 * len(firsts_ms)))]
                cells += [f"{statistics.median(firsts_ms):.0f} ms", f"{late:.0f} ms"]
            cells += [f"{took_s:.2f}", *([f"{speech_s:.1f}"] if mode == "stream" else []), f"{speech_s / took_s:.1f}"]
        print(f"| {clients} | {' | '.join(cells)} |", flush=True)


def crowd(server: Server, mode: str, clients: int) -> Iterator[Answer]:
    with ThreadPoolExecutor(clients) as threads:
        yield from threads.map(lambda seed: ask(server, mode, seed + 1), range(clients))


def ask(server: Server, mode: str, seed: int) -> Answer:
    body: dict[str, Any] = {**ASKED, "seed": seed, "save": mode != "live"}
    first_s, received = 0.0, 0
    with httpx.Client(base_url=server.url, timeout=600, trust_env=False) as client:
        started_at = time.perf_counter()
        with client.stream("POST", "/api/v1/tts", params={"response_mode": mode}, json=body) as reply:
            reply.raise_for_status()
            for piece in reply.iter_raw():
                first_s = first_s or time.perf_counter() - started_at
                received += len(piece)
    return Answer(first_s, received / BYTES_A_SECOND)


if __name__ == "__main__":
    main()
