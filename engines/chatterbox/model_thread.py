"""The one thread that the models are used from: chunks of all requests advance together in it.

A chunk waits until its model is loaded and there is room, is decoded a token at a time beside the others, and becomes
sound when its tokens are complete, or in growing pieces if it is wanted early.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np

from engines.base import Cancellation, Cancelled, ChunkRequest, LoadProgress, derived_seed
from engines.chatterbox import guard
from engines.chatterbox.chance import chance
from engines.chatterbox.fleet import Fleet, LoadedModel
from engines.chatterbox.s3gen.rendering import Piece, RenderJob
from engines.chatterbox.t3.sampling import Performance
from engines.chatterbox.turns import due
from engines.chatterbox.work import LOOK_INTERVAL_S, Ended, Samples, SpeakingChunk, Task
from resilience.errors import GenerationFailed, SpeechError

logger = logging.getLogger(__name__)

IDLE_INTERVAL_S = 1.0  # how often an idle thread looks for models to unload
NOISE_SALT = 1  # a stream's noise comes from another generator than its tokens, which are still being drawn

EXIT_BROKEN = 70
FAILURES_TO_GIVE_UP = 5  # in a row, without a sound between them
TURNS_BETWEEN_LONG = 25  # a second of speech tokens for those who are spoken
NOTHING = np.zeros(0, np.float32)
SAMPLES_A_TOKEN = 960

T = TypeVar("T")


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
        self._tasks: list[Task[Any]] = []
        self._at_work: list[SpeakingChunk] = []
        self._failures = 0
        self._turns_since_long = 0
        self._tidied_at = time.monotonic()
        self._alive_at = time.monotonic()

    def speak(self, chunk: SpeakingChunk) -> None:
        """Take a chunk in; what comes of it is in `chunk.results()`."""
        self._inbox.put(partial(self._waiting.append, chunk))

    def call(
        self, model: str, function: Callable[[LoadedModel], T], cancellation: Cancellation, *, is_long: bool = False
    ) -> T:
        """The result of `function`, called in this thread between two steps once the model is loaded.

        `is_long` is for what takes as long as speaking does: it takes turns with speech. Raises what `function` raises,
        ModelUnavailable, and Cancelled soon after the cancellation while it waits.
        """
        task = Task(model, function, cancellation, is_long)
        self._inbox.put(partial(self._tasks.append, task))
        while not wait([task.answer], LOOK_INTERVAL_S).done:
            cancellation.check()
        return task.answer.result()

    def check_of(self, cancellation: Cancellation) -> Callable[[], None]:
        """What a function given to `call` calls between its steps: a sign of life, and a way out."""

        def check() -> None:
            self._alive_at = time.monotonic()
            cancellation.check()

        return check

    @property
    def stuck_s(self) -> float:
        """Seconds since the last sign of life, which every turn and every step of a long piece of work gives."""
        return time.monotonic() - self._alive_at

    def run(self) -> None:
        while True:
            self._at_work = []
            try:
                self._turn()
            except (Cancelled, SpeechError) as error:
                self._fail_those_at_work(error)
            except Exception:  # a loop that must survive: the fault is that of the chunks it was working on
                logger.exception("models failed chunks=%d", len(self._at_work))
                self._failures += 1
                if not self._at_work or self._failures >= FAILURES_TO_GIVE_UP:
                    os._exit(EXIT_BROKEN)  # nobody to blame, or a device that is broken: a new process begins afresh
                self._fail_those_at_work(GenerationFailed("the model failed on this text"))

    def _turn(self) -> None:
        self._take_in()
        self._alive_at = time.monotonic()
        self._drop_cancelled()
        self._look_after_models()
        self._run_a_task()
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
            with suppress(queue.Empty):
                self._inbox.get(timeout=IDLE_INTERVAL_S if is_idle else LOOK_INTERVAL_S)()
        while not self._inbox.empty():
            self._inbox.get()()

    def _drop_cancelled(self) -> None:
        for chunk in [*self._waiting, *self._decoding]:
            if chunk.cancellation.is_cancelled:
                self._fail(chunk, Cancelled())
        for task in [task for task in self._tasks if task.cancellation.is_cancelled]:
            self._tasks.remove(task)  # in place: who brings a task holds on to this list

    def _look_after_models(self) -> None:
        """Load what is asked for, tell everybody who waits for a variant that cannot be loaded, let go of the idle."""
        for name, error in self._fleet.settle().items():
            for task in [task for task in self._tasks if task.model == name]:
                self._tasks.remove(task)
                task.answer.set_exception(error)
            for chunk in [chunk for chunk in self._waiting if chunk.request.model == name]:
                self._fail(chunk, error)
        wanted = {chunk.request.model for chunk in self._waiting} | {task.model for task in self._tasks}
        for name in wanted - self._fleet.models.keys():
            self._fleet.begin(name, log_progress, wanted | {self._default_model})
        if time.monotonic() - self._tidied_at > IDLE_INTERVAL_S:
            self._tidied_at = time.monotonic()
            self._fleet.tidy(wanted | {self._default_model})

    def _run_a_task(self) -> None:
        """At most one a turn; a long one only where it holds up no first sound, and others have had turns meanwhile."""
        self._turns_since_long += 1
        lets_long_run = not self._decoding or self._turns_since_long > TURNS_BETWEEN_LONG
        for task in self._tasks:
            if task.is_long and (not lets_long_run or self._owes_a_first_sound):
                continue
            if (model := self._fleet.get(task.model)) is not None:
                self._tasks.remove(task)
                task.run(model)
                if task.is_long:
                    self._turns_since_long = 0
                return

    @property
    def _owes_a_first_sound(self) -> bool:
        return any(chunk.request.early and not chunk.has_sounded for chunk in self._decoding)

    def _admit(self) -> None:
        """One chunk more, the first whose model is in memory. Early ones go first, and wait alone for their sound.

        A chunk that has waited long counts as early: live requests that never end must not starve it.
        """
        if len(self._decoding) >= self._batch:
            return
        waiting = sorted(self._waiting, key=lambda chunk: not chunk.is_urgent)
        if self._owes_a_first_sound:
            waiting = [chunk for chunk in waiting if chunk.is_urgent]
        for chunk in waiting:
            if (model := self._fleet.get(chunk.request.model)) is not None:
                self._at_work = [chunk]
                chunk.model = model
                self._begin(chunk, model)
                return

    def _begin(self, chunk: SpeakingChunk, model: LoadedModel) -> None:
        request = chunk.request
        chunk.voice = chunk.voice or model.own_voice
        if chunk.voice is None:
            raise GenerationFailed(f"the model {model.variant.name} has no voice of its own")
        chunk.generator = chance(request.seed, model.device)
        chunk.sequence = model.decoder.admit(
            model.reader.tokens(request.text, request.language),
            chunk.voice,
            performance(request, model),
            chunk.generator,
            guard.most_tokens(request.text),
        )
        if request.early:
            noise = chance(derived_seed(request.seed, NOISE_SALT), model.device)
            chunk.stream = model.renderer.stream(chunk.voice, noise, chunk.steps)
        self._waiting.remove(chunk)
        self._decoding.append(chunk)

    def _render(self) -> None:
        """Make sound of the tokens that are ready for it."""
        for chunks in due(self._decoding, self._renders_together):
            self._at_work = chunks
            model = chunks[0].model
            assert model is not None
            if not chunks[0].speech_tokens:
                rendered: Sequence[Samples] = [NOTHING]
            elif chunks[0].stream is None:
                rendered = self._rendered_whole(model, chunks)
            else:
                rendered = self._rendered_piece(model, chunks)
            for chunk, samples in zip(chunks, rendered, strict=True):
                self._sound(chunk, samples)

    def _rendered_whole(self, model: LoadedModel, chunks: list[SpeakingChunk]) -> Sequence[Samples]:
        jobs = [
            RenderJob(chunk.speech_tokens, chunk.voice, chunk.generator)
            for chunk in chunks
            if chunk.voice is not None and chunk.generator is not None
        ]
        return model.renderer.render(jobs, chunks[0].steps, partial(self._check, chunks))

    def _rendered_piece(self, model: LoadedModel, chunks: list[SpeakingChunk]) -> Sequence[Samples]:
        pieces = [
            Piece(chunk.stream, chunk.speech_tokens, chunk.is_spoken) for chunk in chunks if chunk.stream is not None
        ]
        return model.renderer.feed(pieces, chunks[0].steps, partial(self._check, chunks))

    def _check(self, chunks: Sequence[SpeakingChunk]) -> None:
        """A sign of life between the steps of a piece of work, which nobody may wait for any more."""
        self._alive_at = time.monotonic()
        if all(chunk.cancellation.is_cancelled for chunk in chunks):
            raise Cancelled

    def _sound(self, chunk: SpeakingChunk, samples: Samples) -> None:
        """Hand out samples; those of a finished sequence are its last."""
        sequence, model = chunk.sequence, chunk.model
        if sequence is None or model is None:
            return
        tokens = len(sequence.speech_tokens)
        if sequence.is_finished and model.variant.drops_last_token and tokens > 1:
            samples = samples[:-SAMPLES_A_TOKEN]
        self._failures = 0
        chunk.ready_at = None
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
