"""Chatterbox as an engine of this server: every variant, any number of voices, chunks of all requests in one batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from engines.base import (
    Cancellation,
    ChunkRequest,
    Conditionals,
    EngineInfo,
    EngineStatus,
    LoadProgress,
    ModelInfo,
    Remark,
    VoicePrompt,
    WindowRequest,
)
from engines.chatterbox import conditioning, guard
from engines.chatterbox.chance import chance
from engines.chatterbox.conditioning import VoiceStore
from engines.chatterbox.device import device_of
from engines.chatterbox.fleet import Fleet, LoadedModel
from engines.chatterbox.model_thread import SAMPLES_A_TOKEN, ModelThread
from engines.chatterbox.options import ChatterboxOptions
from engines.chatterbox.s3gen.rendering import RenderJob, speech_tokens_of
from engines.chatterbox.variants import VARIANTS, Variant
from engines.chatterbox.voice import PreparedVoice
from engines.chatterbox.watermark import Watermark
from engines.chatterbox.work import Ended, SpeakingChunk
from resilience.errors import GenerationFailed, InvalidAudio
from utils.audio.crossfade import crossfade
from utils.audio.resample import resample
from utils.audio.waveform import Waveform

logger = logging.getLogger(__name__)

SAMPLE_RATE = 24_000
TOKENIZER_RATE = 16_000
OWN_VOICE = "default"
BATCH_ON_CPU, BATCH_ON_GPU = 8, 32
RENDERS_ON_CUDA = 8  # elsewhere chunks are rendered one by one: together they would take as long
STRETCH_TOKENS = 500  # 20 s of a recording that is converted
OVERLAP_TOKENS = 8  # 0.32 s, over which one stretch fades into the next
LONGEST_CHUNK = 300  # characters, some 20 s: longer ones lose words, and the cost of attention grows with the square


class ChatterboxEngine:
    """`SpeechEngine` by Chatterbox: the threads that call it wait for the one that has the models.

    Raises ModelUnavailable if the device that the settings name is not there.
    """

    def __init__(self, options: ChatterboxOptions) -> None:
        self._options = options
        self._device = device_of(options.device)
        is_cpu = self._device.type == "cpu"
        self._batch = options.batch or (BATCH_ON_CPU if is_cpu else BATCH_ON_GPU)
        self._fleet = Fleet(options, self._device, self._batch)
        self._default = self._fleet.default()
        self._thread = ModelThread(
            self._fleet,
            self._default.name,
            self._batch,
            renders_together=RENDERS_ON_CUDA if self._device.type == "cuda" else 1,
        )
        self._watermark = Watermark()
        self._voices: VoiceStore | None = None
        if options.voice_folder and options.voice_disk_mb:
            self._voices = VoiceStore(Path(options.voice_folder), options.voice_disk_mb * 1_000_000)
        if options.threads:  # else as many as torch finds cores, or OMP_NUM_THREADS says
            torch.set_num_threads(options.threads)

    def load(self, on_progress: Callable[[LoadProgress], None]) -> EngineInfo:
        """Load the default variant, fetching it if need be. Raises ModelUnavailable naming what is missing."""
        self._fleet.load(self._default.name, on_progress)
        self._thread.start()
        others = [variant for variant in VARIANTS.values() if variant is not self._default]
        models = tuple(self._info(variant) for variant in (self._default, *others))
        return EngineInfo("chatterbox", str(self._device), models, concurrency=self._batch)

    def status(self) -> EngineStatus:
        stuck_s = self._thread.stuck_s if self._thread.is_alive() else 0.0
        return EngineStatus((*self._fleet.models,), self._fleet.problems, stuck_s)

    def prepare(self, model: str, voice: VoicePrompt, recording: BinaryIO, cancellation: Cancellation) -> PreparedVoice:
        """From the voices kept on disk, or by listening. Raises InvalidAudio, ModelUnavailable, Cancelled."""

        def listen(loaded: LoadedModel) -> PreparedVoice:
            key = f"{loaded.variant.name}-{loaded.revision}-{voice.content_hash}"
            kept = self._voices.get(key) if self._voices else None
            if kept is None:
                kept = conditioning.prepare(loaded, recording, key, self._thread.check_of(cancellation))
                if self._voices:
                    self._voices.put(kept)
            return kept

        return self._thread.call(model, listen, cancellation)

    def speak(
        self, chunk: ChunkRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform | Remark]:
        """Begin to speak; the samples come whole, or in growing pieces if the chunk is wanted early."""
        speaking = SpeakingChunk(chunk, _own(conditionals), self._flow_steps(chunk.model), cancellation)
        self._thread.speak(speaking)
        return self._spoken(speaking)

    def _spoken(self, speaking: SpeakingChunk) -> Iterator[Waveform | Remark]:
        request = speaking.request
        held: list[Waveform] = []
        for result in speaking.results():
            if isinstance(result, Ended):
                problem = _problem(request.text, result)
                if problem and not (request.early or request.is_last_attempt):
                    raise GenerationFailed(problem)
                if not result.tokens:
                    raise GenerationFailed("the model made no sound of this text")
                yield from held
                if problem:
                    yield Remark(problem)
                yield from self._unread(speaking)
            else:
                samples = self._watermark.apply(result, SAMPLE_RATE) if request.watermark else result
                waveform = Waveform(samples, SAMPLE_RATE)
                if request.early:
                    yield waveform
                else:
                    held.append(waveform)

    @staticmethod
    def _unread(speaking: SpeakingChunk) -> Iterator[Remark]:
        """What the vocabulary has no token for: the model never saw it."""
        assert speaking.model is not None
        if unknown := speaking.model.reader.unknown(speaking.request.text, speaking.request.language):
            yield Remark(f"not read, for the model does not know these characters: {' '.join(unknown)}")

    def convert(
        self, window: WindowRequest, conditionals: Conditionals | None, cancellation: Cancellation
    ) -> Iterator[Waveform]:
        """S3Gen says what the window says with the other voice. Raises InvalidAudio for a window without a token.

        It is done in stretches of `STRETCH_TOKENS`, between which others get their turn: the cost of attention grows
        with the square of what is rendered at once.
        """
        source = resample(window.audio, TOKENIZER_RATE).samples
        tokens = self._thread.call(window.model, lambda loaded: speech_tokens_of(loaded.s3gen, source), cancellation)
        if not tokens:
            raise InvalidAudio("the recording is too short to be converted")
        generator = chance(window.seed, self._device)
        joined: Waveform | None = None
        for stretch in stretches(tokens):
            rendered = self._rendered(window, stretch, _own(conditionals), generator, cancellation)
            joined = rendered if joined is None else crossfade(joined, rendered, OVERLAP_TOKENS * SAMPLES_A_TOKEN)
        assert joined is not None
        if window.watermark:
            joined = Waveform(self._watermark.apply(joined.samples, SAMPLE_RATE), SAMPLE_RATE)
        yield joined

    def _rendered(
        self,
        window: WindowRequest,
        tokens: Sequence[int],
        voice: PreparedVoice | None,
        generator: torch.Generator,
        cancellation: Cancellation,
    ) -> Waveform:
        def render(loaded: LoadedModel) -> Waveform:
            target = voice or loaded.own_voice
            if target is None:
                raise GenerationFailed(f"the model {loaded.variant.name} has no voice of its own")
            steps = self._flow_steps(window.model) or loaded.variant.flow_steps
            job = RenderJob(tokens, target, generator)
            [samples] = loaded.renderer.render([job], steps, self._thread.check_of(cancellation))
            return Waveform(samples[: len(tokens) * SAMPLES_A_TOKEN], SAMPLE_RATE)

        return self._thread.call(window.model, render, cancellation, is_long=True)

    def _flow_steps(self, model: str) -> int | None:
        """None leaves it to the variant: Turbo and Nano are made for two steps."""
        return self._options.flow_steps if VARIANTS[model].family == "llama" else None

    def _info(self, variant: Variant) -> ModelInfo:
        return ModelInfo(
            name=variant.name,
            sample_rate=SAMPLE_RATE,
            voices=(OWN_VOICE,) if self._fleet.has_own_voice(variant) else (),
            languages=variant.languages,
            takes=variant.takes,
            same_when_early=False,
            clones_voices=True,
            converts=True,
            watermarks=Watermark.is_available(),
            chunk_characters=LONGEST_CHUNK,
            needs_listening=True,
        )


def stretches(tokens: Sequence[int]) -> Iterator[Sequence[int]]:
    """The tokens in pieces that overlap by `OVERLAP_TOKENS`, none longer than `STRETCH_TOKENS`, none a mere scrap."""
    count = max(1, math.ceil((len(tokens) - OVERLAP_TOKENS) / (STRETCH_TOKENS - OVERLAP_TOKENS)))
    step = (len(tokens) - OVERLAP_TOKENS) / count
    for number in range(count):
        yield tokens[round(number * step) : round((number + 1) * step) + OVERLAP_TOKENS]


def _own(conditionals: Conditionals | None) -> PreparedVoice | None:
    if conditionals is None or isinstance(conditionals, PreparedVoice):
        return conditionals
    raise TypeError(f"{type(conditionals).__name__} was prepared by another engine")


def _problem(text: str, ended: Ended) -> str | None:
    """What is doubtful of speech that ended so, as a sentence."""
    if ended.by != "stop":
        return f"the model ran on after the text and was stopped ({ended.by})"
    if guard.is_too_short(text, ended.tokens):
        return f"the model stopped after {ended.tokens / guard.TOKENS_A_SECOND:.1f} s: words may be missing"
    return None
