"""Speaks a text that is still being written: sentence after sentence, in one place in line, as one sound."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.base import Cancellation, ChunkOutcome
from generations import pause_ms, pauses_ms
from mastering import Mastering
from monitoring.metrics import Metrics
from planning import Manner, Planner, SpeechPlan
from resilience.errors import NothingToSay, TextTooLong
from utils.audio.waveform import Waveform
from utils.text.incremental import GrowingText
from utils.text.normalize import refuse_control_characters
from utils.text.split import Chunk

if TYPE_CHECKING:
    from utils.audio.join import Samples


Events = AsyncIterator[tuple[int, Waveform | ChunkOutcome]]  # what comes of a plan's work, with the index of its chunk


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is spoken next: a chunk of the text after its clean-up, numbered from 0 through the whole dictation."""

    index: int
    text: str


class Script:
    """What was written and nobody has spoken yet: whole sentences, cut into utterances by who writes.

    All of one event loop. `longest` is the most characters that may wait here; the end of an utterance counts as one.
    """

    def __init__(self, language: str, longest: int) -> None:
        self._growing = GrowingText(language)
        self._longest = longest
        self._lines: deque[Chunk | None] = deque()  # None: an utterance ends here
        self._weight = 0  # of the lines
        self._has_ended = False
        self._changed = asyncio.Event()
        self.is_waited_for = False

    async def add(self, text: str) -> None:
        """The text goes on. Raises TextTooLong if too much of it waits, InvalidRequest for control characters.

        Nothing else may be written meanwhile.
        """
        refuse_control_characters(text)
        self._put(*await asyncio.to_thread(self._growing.add, text))  # thousands of marks take 0.1 s

    def flush(self) -> None:
        """The utterance ends here; its last sentence is whole. Raises TextTooLong."""
        self._put(*self._growing.flush(), None)

    def end(self) -> None:
        """As `flush`, and nothing more comes."""
        self._has_ended = True
        self.flush()

    def drop(self) -> None:
        """Forget all that waits."""
        self._growing.clear()
        self._lines.clear()
        self._weight = 0

    async def has_more(self) -> bool:
        """True once there is an utterance to begin, False once there can be none any more."""
        while not self._lines and not self._has_ended:
            await self._change()
        return bool(self._lines)

    async def passages(self) -> AsyncGenerator[Chunk]:
        """The next utterance: whenever the last passage was spoken, all sentences that are whole by then as one."""
        while True:
            sentences: list[Chunk] = []
            while self._lines and (line := self._lines[0]):
                sentences.append(line)
                self._take()
            if sentences:
                yield Chunk("".join(sentence.text for sentence in sentences), sentences[-1].pause)
            elif self._lines:
                self._take()
                return
            else:
                await self._change()

    def _put(self, *lines: Chunk | None) -> None:
        self._lines += lines
        self._weight += sum(map(_weight, lines))
        waiting = len(self._growing) + self._weight
        if waiting > self._longest:
            raise TextTooLong(
                f"{waiting} characters wait to be spoken; at most {self._longest} may",
                field="text",
                kind="string_too_long",
            )
        self._changed.set()

    def _take(self) -> None:
        self._weight -= _weight(self._lines.popleft())

    async def _change(self) -> None:
        self._changed.clear()
        self.is_waited_for = True
        try:
            await self._changed.wait()
        finally:
            self.is_waited_for = False


def _weight(line: Chunk | None) -> int:
    return len(line.text) if line else 1


class Dictation:
    """Speaks in one manner, one utterance at a time.

    An utterance has the samples of the same text in one request, with the same seed and the same chunks, but for its
    last milliseconds, which are faded out.
    """

    def __init__(
        self,
        planner: Planner,
        manner: Manner,
        at_work: Callable[[SpeechPlan], AbstractAsyncContextManager[Events]],
        characters_a_second: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._planner = planner
        self.manner = manner
        self._at_work = at_work
        self._characters_a_second = characters_a_second
        self._metrics = metrics
        self._count = 0  # of the chunks so far
        self._is_pause_due = False

    @property
    def sample_rate(self) -> int:
        return self.manner.model.sample_rate

    async def utter(self, passages: AsyncIterator[Chunk]) -> AsyncGenerator[Sentence | Waveform]:
        """Say whole sentences as they come; it ends when `passages` has ended and all of them were said.

        Closing the generator stops the work that was begun. Where the utterance before was not stopped, a pause comes
        first. Raises what `CoreEngine.speak` raises.
        """
        leaving, began_at = Cancellation(), time.perf_counter()
        mastering = Mastering(self.manner.options, self.sample_rate, leaving.check)
        pause, self._is_pause_due = self._pause() if self._is_pause_due else None, False
        duration_s = 0.0
        try:
            async with aclosing(self._joined(passages)) as spoken:
                async for event in spoken:
                    if isinstance(event, Sentence):
                        yield event
                    elif len(samples := await asyncio.to_thread(mastering.add, event)):
                        if pause:
                            yield pause
                            pause = None
                        duration_s += len(samples) / self.sample_rate
                        yield Waveform(samples, self.sample_rate)
            rest = await asyncio.to_thread(mastering.finish)
            duration_s += len(rest) / self.sample_rate
            yield Waveform(rest, self.sample_rate)
            self._is_pause_due = pause is not None or duration_s > 0
        finally:
            leaving.cancel()
        self._metrics.count_generation(duration_s, time.perf_counter() - began_at)

    async def _joined(self, passages: AsyncIterator[Chunk]) -> AsyncGenerator[Sentence | Samples]:
        """Each sentence before its samples, some of which may be empty."""
        from utils.audio.join import PauseJoin

        join = PauseJoin([], self.sample_rate)
        async for passage in passages:
            plan = await asyncio.to_thread(self._plan, passage.text)
            if plan is None:
                continue
            join.expect([*pauses_ms(plan), pause_ms(passage.pause, plan.options)])
            begun: int | None = None
            async with self._at_work(plan) as stream:
                async for index, event in stream:
                    if index != begun:
                        yield Sentence(self._count, plan.chunks[index].text)
                        begun = index
                        self._count += 1
                    yield join.add(event.samples) if isinstance(event, Waveform) else join.end_chunk()

    def _plan(self, text: str) -> SpeechPlan | None:
        """None if nothing of the text can be spoken. Takes a thread's time."""
        try:
            return self._planner.plan_part(self.manner, text, early=self._characters_a_second(), first=self._count)
        except NothingToSay:
            return None

    def _pause(self) -> Waveform:
        import numpy as np

        count = round(self.manner.options.sentence_pause_ms * self.sample_rate / 1000)
        return Waveform(np.zeros(count, np.float32), self.sample_rate)
