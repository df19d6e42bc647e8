"""What is being made: its sound so far, how long each stage took, how far a long piece of work has got."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from conversion import ConversionPlan
from mastering import Mastered, Mastering, master, switched_on
from planning import SpeechPlan
from utils.audio.waveform import Extent, Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

PROGRESS_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class Sound:
    """What has been made of the sound so far: mastered as it comes if somebody listens, else once it is whole."""

    def __init__(self, plan: SpeechPlan | ConversionPlan, check: Callable[[], None], *, live: bool, keep: bool) -> None:
        """Takes a thread's time: a library that changes the speed may have to be imported. Adds to the warnings."""
        self._options, self._rate = plan.options, plan.model.sample_rate
        self._mastering: Mastering | None = None
        if live and switched_on(plan.options):
            self._mastering = Mastering(plan.options, self._rate, check)
            plan.warnings.extend(self._mastering.warnings)
        self._keep = keep
        self._pieces: list[Samples] = []
        self.duration_s = 0.0

    async def add(self, waveform: Waveform) -> Waveform:
        """What is ready to be heard once this has come."""
        if self._mastering:
            waveform = Waveform(await asyncio.to_thread(self._mastering.add, waveform.samples), self._rate)
        return self._heard(waveform)

    async def finish(self, threads: ThreadPoolExecutor) -> Waveform:
        """The rest of what is heard."""
        from utils.audio.join import in_a_row

        if not self._mastering:
            return self._heard(in_a_row([], self._rate))
        rest = await asyncio.get_running_loop().run_in_executor(threads, self._mastering.finish)
        return self._heard(Waveform(rest, self._rate))

    def came_of(self, joined: Waveform) -> None:
        """All that came lies in one piece already; where nothing was done to it, no copy is made."""
        if self._keep and not self._mastering:
            self._pieces = [joined.samples]

    def whole(self, check: Callable[[], None]) -> Mastered:
        """What is kept. Takes a thread's time."""
        from utils.audio.join import in_a_row

        pieces, self._pieces = self._pieces, []
        waveform = in_a_row(pieces, self._rate)
        del pieces
        return self._mastering.done(waveform) if self._mastering else master(waveform, self._options, check)

    def _heard(self, waveform: Waveform) -> Waveform:
        if self._keep:
            self._pieces.append(waveform.samples)
        self.duration_s += waveform.duration_s
        return waveform


class Clock:
    """How long each stage took, in seconds; the first begins now."""

    def __init__(self) -> None:
        self._started_at = self._lap_at = time.perf_counter()
        self.laps: dict[str, float] = {}

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self._started_at

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage], self._lap_at = now - self._lap_at, now


class Progress:
    """Says in the log how far a long concatenation has got."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._said_at = time.monotonic()

    def __call__(self, count: int) -> None:
        """So many samples are there."""
        if time.monotonic() - self._said_at > PROGRESS_EVERY_S:
            self._said_at = time.monotonic()
            done_s = count / self._extent.sample_rate
            logger.info("joining done_s=%.0f of_s=%.0f", done_s, self._extent.duration_s)
