"""Which of several spoken candidates says the text: they are written down by a listener and compared with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines.base import ValidationWish, derived_seed
from engines.transcription.base import Check, Transcriber
from engines.transcription.score import score
from engines.transcription.words import words_of
from resilience.errors import GenerationFailed
from utils.audio.waveform import Waveform

INAUDIBLE_RMS = 0.001
"""-60 dBFS: a sound is silent whose loudest 50 ms are below."""

_BLOCK_S = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk as it was spoken with a seed."""

    waveform: Waveform
    seed: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best of some candidates by its place among them. `passed` is false if it was taken for want of a better."""

    index: int
    score: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to send, and what it took: `attempts` rounds, `spoken` candidates, `cost_s` seconds of listening."""

    waveform: Waveform
    seed: int
    attempts: int
    spoken: int
    score: float
    passed: bool
    transcript: str
    cost_s: float


Speak = Callable[[Sequence[int]], Sequence[Waveform | None]]
"""Speaks a chunk once with each seed, all together; None for one that failed."""


def validated(
    speak: Speak, text: str, language: str, seed: int, wish: ValidationWish, listener: Transcriber, check: Check
) -> Chosen:
    """Speak and listen until a candidate is understood, at most `wish.attempts` rounds of `wish.candidates`.

    The first candidate has the request's own seed, every other one derived from it: the same call chooses the same.
    If none passes, all rounds' candidates are compared as `choose` says. Raises GenerationFailed if no candidate was
    spoken or all of them are silent, ModelUnavailable if the listener cannot listen, and what `check` raises.
    """
    candidates: list[Candidate] = []
    transcripts: list[str] = []
    cost_s = 0.0
    for attempt in range(1, wish.attempts + 1):
        check()
        seeds = _seeds(seed, (attempt - 1) * wish.candidates, wish.candidates)
        spoken = [Candidate(sound, own) for own, sound in zip(seeds, speak(seeds), strict=True) if sound is not None]
        started_s = time.perf_counter()
        candidates += spoken
        transcripts += _listen(listener, spoken, text, language, check)
        cost_s += time.perf_counter() - started_s
        if any(verdict.passed for verdict in _verdicts(candidates, transcripts, text, language, listener.threshold)):
            break
    verdict = choose(candidates, transcripts, text, language, listener.threshold, longest_on_fail=wish.longest_on_fail)
    taken = candidates[verdict.index]
    return Chosen(
        waveform=taken.waveform,
        seed=taken.seed,
        attempts=attempt,
        spoken=len(candidates),
        score=verdict.score,
        passed=verdict.passed,
        transcript=transcripts[verdict.index],
        cost_s=cost_s,
    )


def choose(
    candidates: Sequence[Candidate],
    transcripts: Sequence[str],
    text: str,
    language: str,
    threshold: float,
    *,
    longest_on_fail: bool,
) -> Verdict:
    """The candidate that is understood best, the earlier of equals.

    If none reaches the threshold, `longest_on_fail` takes the one with the longest transcript instead. One that is
    silent, or in which nothing was heard though the text has words, is never taken. Raises GenerationFailed if that
    leaves none.
    """
    verdicts = _verdicts(candidates, transcripts, text, language, threshold)
    if not verdicts:
        raise GenerationFailed("the engine made no speech of this text that could be heard")
    best = max(verdicts, key=lambda verdict: verdict.score)
    if best.passed or not longest_on_fail:
        return best
    return max(verdicts, key=lambda verdict: (len(words_of(transcripts[verdict.index], language)), verdict.score))


def is_silent(waveform: Waveform) -> bool:
    """True if nobody would hear it, whatever it holds."""
    import numpy as np

    block = round(_BLOCK_S * waveform.sample_rate)
    power = np.square(waveform.samples, dtype=np.float64)
    whole = np.pad(power, (0, -len(power) % block)).reshape(-1, block)
    return bool(np.sqrt(whole.mean(axis=1).max(initial=0.0)) < INAUDIBLE_RMS)


def _verdicts(
    candidates: Sequence[Candidate], transcripts: Sequence[str], text: str, language: str, threshold: float
) -> list[Verdict]:
    """One for each candidate that is not silent."""
    has_words = bool(words_of(text, language))
    verdicts = []
    for index, (candidate, transcript) in enumerate(zip(candidates, transcripts, strict=True)):
        is_heard = bool(words_of(transcript, language)) and not is_silent(candidate.waveform)
        if is_heard or not has_words:
            worth = score(transcript, text, language)
            verdicts.append(Verdict(index, worth, passed=worth >= threshold))
    return verdicts


def _listen(
    listener: Transcriber, candidates: Sequence[Candidate], text: str, language: str, check: Check
) -> list[str]:
    """Transcripts of all candidates, those that are not silent heard in one batch."""
    audible = [candidate.waveform for candidate in candidates if not is_silent(candidate.waveform)]
    heard = iter(listener.transcribe(audible, language, text, check) if audible else [])
    return ["" if is_silent(candidate.waveform) else next(heard) for candidate in candidates]


def _seeds(seed: int, first: int, count: int) -> list[int]:
    """The request's own seed is number 0; number n is the seed of what the worker would call attempt n + 1."""
    return [derived_seed(seed, number + 1) if number else seed for number in range(first, first + count)]
