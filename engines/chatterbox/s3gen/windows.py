"""The vocoder on an NVIDIA device: in windows of few lengths, each recorded once.

cuDNN takes some milliseconds to find its way for a convolution of a length that it has not met, and HiFT has sixty:
more than a tenth of a second for every utterance, each of which is of another length. What a sample depends on is
known, so a window with its context gives what the whole would give, within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from engines.chatterbox.recording import Recording

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = (64, 128, 256)  # frames, 1.28 s to 5.12 s
SHORTEST = min(LENGTHS)
CONTEXT = 16  # frames to either side that a sample depends on


class Windows:
    """A function of signals over time, computed window by window.

    `compute` takes signals (channels, samples) and gives one, each with a number of samples for a frame of its own.
    """

    def __init__(self, compute: Callable[..., Tensor]) -> None:
        self._compute = compute

    def __call__(self, frames: int, *signals: Tensor) -> Tensor:
        """What `compute` makes of the whole, signals of so many frames: `SHORTEST` at least."""
        length = max(length for length in LENGTHS if length <= frames)
        made, done = [], 0
        while done < frames:
            start = min(max(0, done - CONTEXT), frames - length)
            end = frames if start + length == frames else start + length - CONTEXT
            windows = [_cut(signal, start, start + length, frames) for signal in signals]
            made.append(_cut(self._compute(*windows), done - start, end - start, length).clone())
            done = end
        return torch.cat(made, -1)


class RecordedWindows(Windows):
    """The same on an NVIDIA device, with a recording for each length, which are made here.

    `shapes` are (channels, samples a frame) of each signal.
    """

    def __init__(self, compute: Callable[..., Tensor], shapes: Sequence[tuple[int, int]], device: torch.device) -> None:
        recorded = {length: _Recorded(compute, shapes, length, device) for length in LENGTHS}
        _, rate = shapes[0]
        super().__init__(lambda *signals: recorded[signals[0].shape[1] // rate](*signals))


class _Recorded:
    def __init__(
        self, compute: Callable[..., Tensor], shapes: Sequence[tuple[int, int]], length: int, device: torch.device
    ) -> None:
        self._given = [torch.zeros(channels, length * rate, device=device) for channels, rate in shapes]
        self._made = compute(*self._given)
        given, made = self._given, self._made
        self._recording = Recording(lambda: made.copy_(compute(*given)), device)

    def __call__(self, *signals: Tensor) -> Tensor:
        for place, signal in zip(self._given, signals, strict=True):
            place.copy_(signal)
        self._recording.repeat()
        return self._made


def _cut(signal: Tensor, start: int, end: int, frames: int) -> Tensor:
    """The frames from start to end of a signal that has so many."""
    rate = signal.shape[-1] // frames
    return signal[..., start * rate : end * rate]
