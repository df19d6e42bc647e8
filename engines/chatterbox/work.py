"""What the model thread is given to do: chunks on their way to sound, and tasks that need a model."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from engines.base import Cancellation, ChunkRequest
from engines.chatterbox.fleet import LoadedModel
from engines.chatterbox.s3gen.rendering import RenderStream
from engines.chatterbox.t3.sequence import EndedBy, SpeechSequence
from engines.chatterbox.voice import PreparedVoice

LOOK_INTERVAL_S = 0.05  # how often one who waits looks at its cancellation
PATIENCE_S = 5.0  # after which a chunk that waits is as urgent as an early one

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
    generator: torch.Generator | None = None
    stream: RenderStream | None = None
    has_sounded: bool = False
    ready_at: float | None = None  # since when it waits for others to be rendered with
    came_at: float = field(default_factory=time.monotonic)

    @property
    def is_urgent(self) -> bool:
        return self.request.early or time.monotonic() - self.came_at > PATIENCE_S

    @property
    def is_spoken(self) -> bool:
        """Whether its last token is there."""
        return self.sequence is not None and self.sequence.is_finished

    @property
    def speech_tokens(self) -> list[int]:
        return self.sequence.speech_tokens if self.sequence is not None else []

    @property
    def steps(self) -> int:
        """Of the flow, once its model is known."""
        assert self.model is not None
        return self.flow_steps or self.model.variant.flow_steps

    @property
    def needs_tokens(self) -> int:
        """How many are missing until there is something to render; of a whole chunk, 1 until it is spoken."""
        if self.is_spoken:
            return 0
        if self.stream is None or self.sequence is None:
            return 1
        missing = self.stream.next_at - len(self.sequence.tokens)
        return missing if missing > 0 else max(0, self.stream.next_at - len(self.speech_tokens))

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


@dataclass(slots=True, eq=False)
class Task(Generic[T]):
    """Something that needs a model in the thread that has the models."""

    model: str
    function: Callable[[LoadedModel], T]
    cancellation: Cancellation
    is_long: bool
    answer: Future[T] = field(default_factory=Future)

    def run(self, model: LoadedModel) -> None:
        try:
            self.answer.set_result(self.function(model))
        except Exception as error:  # noqa: BLE001 - it is the caller's, whatever it is
            self.answer.set_exception(error)
