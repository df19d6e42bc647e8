"""Long sound in pieces that a listener can take, cut where it is quietest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from utils.audio.resample import resample
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
_STEP_S = 0.02
_PAUSE_STEPS = 10  # a cut is wanted in the middle of 0.2 s that are quiet


def pieces(waveform: Waveform, shortest_s: float, longest_s: float) -> Iterator[NDArray[np.float32]]:
    """Samples at `SAMPLE_RATE`, each piece of `shortest_s` to `longest_s` but the last, together the whole sound."""
    import numpy as np

    samples = resample(waveform, SAMPLE_RATE).samples
    step = round(_STEP_S * SAMPLE_RATE)
    first, last = round(shortest_s * SAMPLE_RATE), round(longest_s * SAMPLE_RATE)
    while len(samples) > last:
        reach = samples[first:last]
        power = (reach[: len(reach) // step * step].reshape(-1, step) ** 2).sum(axis=1)
        around = np.convolve(power, np.ones(_PAUSE_STEPS), "same")
        cut = first + (int(around.argmin()) * 2 + 1) * step // 2
        yield samples[:cut]
        samples = samples[cut:]
    yield samples
