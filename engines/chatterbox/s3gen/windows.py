"""The vocoder on an NVIDIA device: in windows of few lengths, each recorded once.

cuDNN takes some milliseconds to find its way for a convolution of a length that it has not met, and HiFT has sixty:
more than a tenth of a second for every utterance, each of which is of another length. What a sample depends on is
known, so a window with its context gives what the whole would give, within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from engines.chatterbox.recording import Recording

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = (64, 128, 256)  # frames, 1.28 s to 5.12 s
CONTEXT = 16  # frames to either side that a sample depends on


class Windows:
    """A function of signals over time, computed window by window.

    `compute` takes signals (channels, samples) and gives one, each with a number of samples for a frame of its own.
    """

    def __init__(self, compute: Callable[..., Tensor], lengths: Sequence[int] = LENGTHS) -> None:
        self._compute = compute
        self._lengths = lengths

    def __call__(self, frames: int, *signals: Tensor) -> Tensor:
        """What `compute` makes of the whole, signals of so many frames.

        A whole that is shorter than the shortest window goes on to the window's end, which changes its last frames a
        little.
        """
        length = max((length for length in self._lengths if length <= frames), default=self._lengths[0])
        signals = tuple(_prolonged(signal, length, frames) for signal in signals)
        whole = max(frames, length)
        made, done = [], 0
        while done < frames:
            start = min(max(0, done - CONTEXT), whole - length)
            end = whole if start + length == whole else start + length - CONTEXT
            windows = [_cut(signal, start, start + length, whole) for signal in signals]
            made.append(_cut(self._compute(*windows), done - start, end - start, length).clone())
            done = end
        return _cut(torch.cat(made, -1), 0, frames, whole)


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


def _prolonged(signal: Tensor, length: int, frames: int) -> Tensor:
    """What has one value a frame goes on with the last one, anything else with silence."""
    rate = signal.shape[1] // frames
    missing = max(0, length - frames) * rate
    return F.pad(signal[None], (0, missing), mode="replicate" if rate == 1 else "constant")[0]


def _cut(signal: Tensor, start: int, end: int, frames: int) -> Tensor:
    """The frames from start to end of a signal that has so many."""
    rate = signal.shape[-1] // frames
    return signal[..., start * rate : end * rate]
