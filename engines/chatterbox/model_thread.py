"""The one thread that the models are used from: chunks of all requests advance together in it.

A chunk waits until its model is loaded and there is room, is decoded a token at a time beside the others, and becomes
sound when its tokens are complete, or in growing pieces if it is wanted early.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from engines.base import Cancellation, Cancelled, ChunkRequest, LoadProgress, derived_seed
from engines.chatterbox import guard
from engines.chatterbox.fleet import Fleet, LoadedModel
from engines.chatterbox.s3gen.rendering import RenderJob, RenderStream
from engines.chatterbox.t3.sampling import Performance
from engines.chatterbox.t3.sequence import EndedBy, SpeechSequence
from engines.chatterbox.voice import PreparedVoice
from resilience.errors import GenerationFailed, SpeechError

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.05  # how often one who waits looks at its cancellation, and the thread at a model being loaded
IDLE_INTERVAL_S = 1.0  # how often an idle thread looks for models to unload
NOISE_SALT = 1  # a stream's noise comes from another generator than its tokens, which are still being drawn

EXIT_BROKEN = 70
SAMPLES_A_TOKEN = 960

T = TypeVar("T")
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing that comes of a chunk: how its tokens ended, and how many there were."""

    by: EndedBy
    tokens: int


Event = Samples | Ended | BaseException


@dataclass(slots=True, eq=False)
class SpeakingChunk:
    """A chunk on its way through the thread. `voice` None is the model's own."""

    request: ChunkRequest
    voice: PreparedVoice | None
    flow_steps: int | None
    cancellation: Cancellation
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    model: LoadedModel | None = None
    sequence: SpeechSequence | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)
    stream: RenderStream | None = None
    has_sounded: bool = False

    def results(self) -> Iterator[Samples | Ended]:
        """What comes of it, in another thread. Raises what stopped it, Cancelled soon after the cancellation."""
        while True:
            self.cancellation.check()
            try:
                event = self.events.get(timeout=LOOK_INTERVAL_S)
            except queue.Empty:
                continue
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Ended):
                return


class ModelThread(threading.Thread):
    """Decodes and renders chunks, and runs whatever else needs the models."""

    def __init__(self, fleet: Fleet, default_model: str, batch: int, renders_together: int) -> None:
        super().__init__(daemon=True, name="models")
        self._fleet = fleet
        self._default_model = default_model
        self._batch = batch
        self._renders_together = renders_together
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: list[SpeakingChunk] = []
        self._decoding: list[SpeakingChunk] = []
        self._tasks: list[tuple[str, Callable[[LoadedModel], None], Callable[[SpeechError], None]]] = []

    def speak(self, chunk: SpeakingChunk) -> None:
        """Take a chunk in; what comes of it is in `chunk.results()`."""
        self._inbox.put(partial(self._waiting.append, chunk))

    def call(self, model: str, function: Callable[[LoadedModel], T], cancellation: Cancellation) -> T:
        """The result of `function`, called in this thread between two steps once the model is loaded.

        Raises what it raises, ModelUnavailable, and Cancelled soon after the cancellation while it waits.
        """
        answer: Future[T] = Future()

        def run(loaded: LoadedModel) -> None:
            try:
                cancellation.check()
                answer.set_result(function(loaded))
            except Exception as error:  # noqa: BLE001 - it is the caller's, whatever it is
                answer.set_exception(error)

        self._inbox.put(lambda: self._tasks.append((model, run, answer.set_exception)))
        while True:
            cancellation.check()
            try:
                return answer.result(LOOK_INTERVAL_S)
            except TimeoutError:
                if answer.done():
                    raise

    def run(self) -> None:
        while True:
            self._at_work: list[SpeakingChunk] = []
            try:
                self._turn()
            except (Cancelled, SpeechError) as error:
                self._fail_those_at_work(error)
            except Exception:  # a loop that must survive: the fault is that of the chunks it was working on
                logger.exception("models failed chunks=%d", len(self._at_work))
                if not self._at_work:
                    os._exit(EXIT_BROKEN)  # nobody to blame: a new process begins afresh
                self._fail_those_at_work(GenerationFailed("the model failed on this text"))

    def _turn(self) -> None:
        self._take_in()
        self._drop_cancelled()
        self._run_tasks()
        self._admit()
        for model in self._fleet.models.values():
            self._at_work = [chunk for chunk in self._decoding if chunk.model is model]
            model.decoder.step()
        self._render()

    def _fail_those_at_work(self, error: BaseException) -> None:
        for chunk in self._at_work:
            self._fail(chunk, error)

    def _take_in(self) -> None:
        """What has come meanwhile; waits if there is nothing to go on with."""
        if not self._decoding:
            is_idle = not (self._waiting or self._tasks)
            try:
                self._inbox.get(timeout=IDLE_INTERVAL_S if is_idle else LOOK_INTERVAL_S)()
            except queue.Empty:
                if is_idle:
                    self._fleet.unload_idle(self._default_model)
        while not self._inbox.empty():
            self._inbox.get()()

    def _drop_cancelled(self) -> None:
        for chunk in [*self._waiting, *self._decoding]:
            if chunk.cancellation.is_cancelled:
                self._fail(chunk, Cancelled())

    def _run_tasks(self) -> None:
        for task in [*self._tasks]:
            name, run, fail = task
            try:
                model = self._fleet.get(name, log_progress)
            except SpeechError as error:
                self._tasks.remove(task)
                fail(error)
                continue
            if model is not None:
                self._tasks.remove(task)
                run(model)

    def _admit(self) -> None:
        """One chunk more, the first whose model is in memory. Early ones go first, and wait alone for their sound."""
        if len(self._decoding) >= self._batch:
            return
        if any(chunk.request.early and not chunk.has_sounded for chunk in self._decoding):
            candidates = [chunk for chunk in self._waiting if chunk.request.early]
        else:
            candidates = sorted(self._waiting, key=lambda chunk: not chunk.request.early)
        for chunk in candidates:
            self._at_work = [chunk]
            chunk.model = self._fleet.get(chunk.request.model, log_progress)
            if chunk.model is not None:
                self._begin(chunk, chunk.model)
                return

    def _begin(self, chunk: SpeakingChunk, model: LoadedModel) -> None:
        request = chunk.request
        chunk.voice = chunk.voice or model.own_voice
        if chunk.voice is None:
            raise GenerationFailed(f"the model {model.variant.name} has no voice of its own")
        chunk.generator.manual_seed(request.seed)
        chunk.sequence = model.decoder.admit(
            model.reader.tokens(request.text, request.language),
            chunk.voice,
            performance(request, model),
            chunk.generator,
            guard.most_tokens(request.text),
        )
        if request.early:
            noise = torch.Generator().manual_seed(derived_seed(request.seed, NOISE_SALT))
            chunk.stream = model.renderer.stream(chunk.voice, noise, chunk.flow_steps or model.variant.flow_steps)
        self._waiting.remove(chunk)
        self._decoding.append(chunk)

    def _render(self) -> None:
        """Make sound of the tokens that are ready for it: pieces that are wanted early first, then whole chunks."""
        for chunk in [*self._decoding]:
            self._feed(chunk)
        whole = [chunk for chunk in self._decoding if chunk.stream is None and _is_spoken(chunk)]
        for model in {id(chunk.model): chunk.model for chunk in whole}.values():
            together = [chunk for chunk in whole if chunk.model is model]
            if model is not None:
                self._render_whole(model, together[: self._renders_together])

    def _feed(self, chunk: SpeakingChunk) -> None:
        """Give a stream its tokens if they are enough for the next piece, or all."""
        sequence, stream = chunk.sequence, chunk.stream
        if sequence is None or stream is None:
            return
        tokens = sequence.speech_tokens
        if not sequence.is_finished and len(tokens) < stream.next_at:
            return
        self._at_work = [chunk]
        samples = stream.feed(tokens, chunk.cancellation.check, is_last=sequence.is_finished)
        self._sound(chunk, samples)

    def _render_whole(self, model: LoadedModel, chunks: list[SpeakingChunk]) -> None:
        """The sound of chunks that have the same model and as many steps of the flow."""
        steps = chunks[0].flow_steps or model.variant.flow_steps
        jobs = [
            RenderJob(chunk.sequence.speech_tokens, chunk.voice, chunk.generator)
            for chunk in chunks
            if chunk.sequence is not None and chunk.voice is not None
        ]

        def check() -> None:
            if all(chunk.cancellation.is_cancelled for chunk in chunks):
                raise Cancelled

        self._at_work = chunks
        rendered = model.renderer.render(jobs, steps, check)
        for chunk, samples in zip(chunks, rendered, strict=True):
            self._sound(chunk, samples)

    def _sound(self, chunk: SpeakingChunk, samples: Samples) -> None:
        """Hand out samples; those of a finished sequence are its last."""
        sequence, model = chunk.sequence, chunk.model
        if sequence is None or model is None:
            return
        tokens = len(sequence.speech_tokens)
        if sequence.is_finished and model.variant.drops_last_token and tokens > 1:
            samples = samples[:-SAMPLES_A_TOKEN]
        if len(samples):
            chunk.has_sounded = True
            chunk.events.put(samples)
        if sequence.ended_by is not None:
            self._decoding.remove(chunk)
            chunk.events.put(Ended(sequence.ended_by, tokens))

    def _fail(self, chunk: SpeakingChunk, error: BaseException) -> None:
        if chunk.sequence is not None and chunk.model is not None:
            chunk.model.decoder.drop(chunk.sequence)
        for chunks in (self._waiting, self._decoding):
            if chunk in chunks:
                chunks.remove(chunk)
        chunk.events.put(error)


def performance(request: ChunkRequest, model: LoadedModel) -> Performance:
    """The request's sampling, with the variant's own numbers where it says nothing."""
    sampling, variant = request.sampling, model.variant
    return Performance(
        exaggeration=sampling.exaggeration,
        cfg_weight=sampling.cfg_weight,
        temperature=sampling.temperature,
        min_p=variant.min_p if sampling.min_p is None else sampling.min_p,
        top_p=variant.top_p if sampling.top_p is None else sampling.top_p,
        top_k=variant.top_k,
        repetition_penalty=(
            variant.repetition_penalty if sampling.repetition_penalty is None else sampling.repetition_penalty
        ),
    )


def log_progress(progress: LoadProgress) -> None:
    """What a variant that is loaded on demand has to say of it."""
    if not progress.bytes_total or progress.bytes_done in (0, progress.bytes_total):
        logger.info("model loading doing=%s", progress.doing)


def _is_spoken(chunk: SpeakingChunk) -> bool:
    return chunk.sequence is not None and chunk.sequence.is_finished
