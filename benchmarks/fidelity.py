"""Are our tokens and samples the package's, at full size? `python -m benchmarks.fidelity english turbo`.

For each variant the samples that each makes of the same tokens and noise, alone and in a padded batch; what becomes of
the chances of the next token in each precision; and for each seed 200 tokens of upstream's loop, and of ours in each
precision. Random weights. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time

import torch

from benchmarks import full_size
from benchmarks.chatterbox import TEXT, describe_machine, never, performance, prepared, upstream_tokens, upstream_wave
from benchmarks.full_size import FullSize
from engines.chatterbox.s3gen.rendering import Renderer, RenderJob
from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.t3.linear import Precision
from engines.chatterbox.t3.prefixes import PrefixCache
from engines.chatterbox.t3.reading import Reader
from engines.chatterbox.t3.sampling import Settings, guided
from engines.chatterbox.t3.sequence import SPEECH_TOKENS
from engines.chatterbox.t3.transformer import Transformer
from engines.chatterbox.voice import PreparedVoice

TOKENS = 200
CPU = torch.device("cpu")
HALVED: tuple[Precision, ...] = ("fp16", "bf16", "int8")
SPREAD = 3.0  # the standard deviation that logits are brought to: those of random weights are all alike
TEMPERATURE = 0.8
BATCH = (75, 40, 20, 9)  # tokens of four utterances that are rendered together


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.fidelity", description=__doc__)
    parser.add_argument("variants", nargs="*", default=["english", "multilingual", "turbo", "nano"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--precisions", nargs="*", default=["fp32", "fp16"])
    parser.add_argument("--flow-steps", type=int, help="of the comparison of samples; as the variant has them")
    given = parser.parse_args()
    describe_machine(CPU)
    for name in given.variants:
        full = full_size.make(name)
        voice = prepared(full, full_size.recording(10.0))
        print(f"\n## {name}\n", flush=True)
        compare_samples(full, given.flow_steps or full.variant.flow_steps)
        compare_chances(full, voice)
        compare_tokens(full, voice, given.seeds, given.precisions)
        gc.collect()


def compare_tokens(full: FullSize, voice: PreparedVoice, seeds: list[int], precisions: list[Precision]) -> None:
    print("\n| seed | precision | tokens equal from the start | of | seconds, upstream | ours |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    wanted = {}
    for seed in seeds:
        started_at = time.perf_counter()
        tokens = upstream_tokens(full, voice, TOKENS, seed)[0].tolist()
        wanted[seed] = tokens, time.perf_counter() - started_at
    for precision in precisions:
        t3 = copy.deepcopy(full.t3) if precision != precisions[-1] else full.t3
        decoder = Decoder(t3, full.variant, precision, CPU, 1)
        for seed, (tokens, upstream_s) in wanted.items():
            started_at = time.perf_counter()
            ours = spoken(decoder, full, voice, seed)
            took_s = time.perf_counter() - started_at
            differs = (one != other for one, other in zip(tokens, ours, strict=False))
            same = next((place for place, is_other in enumerate(differs) if is_other), min(len(tokens), len(ours)))
            print(f"| {seed} | {precision} | {same} | {len(tokens)} | {upstream_s:.0f} | {took_s:.0f} |", flush=True)
        del decoder, t3
        gc.collect()


def compare_chances(full: FullSize, voice: PreparedVoice) -> None:
    """How far the chances of the next token are from those of float32, and how often the same chance draws the same."""
    with torch.inference_mode():
        exact, *others = [logits_of(full, voice, precision) for precision in ("fp32", *HALVED)]
    scale = SPREAD / exact.std()
    wanted = (exact * scale / TEMPERATURE).softmax(-1)
    noise = torch.empty_like(wanted).exponential_(generator=seeded(1))
    print("\n| numbers | KL | same draw |\n| --- | --- | --- |", flush=True)
    for precision, other in zip(HALVED, others, strict=True):
        chances = (other * scale / TEMPERATURE).softmax(-1)
        divergence = (wanted * (wanted / chances).log()).sum(-1).mean()
        agrees = ((wanted / noise).argmax(-1) == (chances / noise).argmax(-1)).float().mean()
        print(f"| {precision} | {divergence:.1e} | {agrees:.3f} |", flush=True)


def logits_of(full: FullSize, voice: PreparedVoice, precision: Precision) -> torch.Tensor:
    """What the model answers of all speech tokens (TOKENS, SPEECH_TOKENS), guided, after the same arbitrary tokens."""
    is_llama, hp = full.variant.family == "llama", full.t3.hp
    how = performance(full)
    transformer = Transformer(
        copy.deepcopy(full.t3), precision, CPU, most_rows=2, watches_alignment=False, records=False
    )
    reader = Reader(transformer, PrefixCache(1 << 30), has_emotion=hp.emotion_adv, keeps_unread=True)
    text = [hp.start_text_token, *TEXT, hp.stop_text_token] if is_llama else list(TEXT)
    reader.read(text, reader.prefix(voice, how.exaggeration), is_guided=is_llama)
    rows, answers = transformer.cache.rows, []
    settings = Settings.of([how], CPU)
    for number, token in enumerate(torch.randint(0, SPEECH_TOKENS, (TOKENS,), generator=seeded(2)).tolist()):
        answers.append(guided(transformer.logits[:1], transformer.logits[rows - 1 : rows], settings))
        transformer.advance([token] * rows, [number + 1] * rows)
    return torch.cat(answers)[:, :SPEECH_TOKENS]


def spoken(decoder: Decoder, full: FullSize, voice: PreparedVoice, seed: int) -> list[int]:
    most = TOKENS if full.variant.family == "llama" else TOKENS - 1  # inference_turbo counts those after the first
    sequence = decoder.admit(TEXT, voice, performance(full), torch.Generator().manual_seed(seed), most)
    while not sequence.is_finished:
        decoder.step()
    return list(sequence.tokens)


def compare_samples(full: FullSize, flow_steps: int) -> None:
    """Upstream's S3Gen alone, ours alone and ours in a batch of four lengths and voices: the greatest difference."""
    voices = [prepared(full, full_size.recording(seconds)) for seconds in (10.0, 7.0, 8.5, 5.5)]
    chance = torch.Generator().manual_seed(4)
    texts = [torch.randint(0, 6561, (count,), generator=chance) for count in BATCH]
    theirs = []
    for number, (voice, tokens) in enumerate(zip(voices, texts, strict=True)):
        torch.manual_seed(number)
        theirs.append(upstream_wave(full, voice, tokens, flow_steps))
    renderer = Renderer(full.s3gen, "fp32")
    print(f"| tokens | greatest sample | greatest difference alone | in a batch of {len(BATCH)} |")
    print("| --- | --- | --- | --- |", flush=True)
    alone = [
        renderer.render([RenderJob(tokens.tolist(), voice, seeded(number))], flow_steps, never)[0]
        for number, (voice, tokens) in enumerate(zip(voices, texts, strict=True))
    ]
    jobs = [
        RenderJob(tokens.tolist(), voice, seeded(number))
        for number, (voice, tokens) in enumerate(zip(voices, texts, strict=True))
    ]
    together = renderer.render_together(jobs, flow_steps, never)
    for count, upstream, one, many in zip(BATCH, theirs, alone, together, strict=True):
        peak, off, off_together = (abs(samples).max() for samples in (upstream, one - upstream, many - upstream))
        print(f"| {count} | {peak:.3f} | {off:.1e} | {off_together:.1e} |", flush=True)


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


if __name__ == "__main__":
    main()
