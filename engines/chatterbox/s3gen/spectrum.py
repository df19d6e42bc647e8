"""HiFT's short Fourier transforms, of 16 samples every 4: products with the sines and cosines themselves.

They are what torch.stft and torch.istft compute, centred, without asking the device in between whether all is well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class Spectrum:
    """Analysis and synthesis with one window. `size` is a multiple of `hop`."""

    def __init__(self, size: int, hop: int, window: Tensor) -> None:
        self._size, self._hop = size, hop
        bins, places = torch.arange(size // 2 + 1, dtype=torch.float64), torch.arange(size, dtype=torch.float64)
        angles = 2 * math.pi * places[:, None] * bins / size
        weights = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)  # a bin stands for its conjugate too
        weights[0] = weights[-1] = 1.0
        slope = window.cpu().double()
        forth = torch.cat([angles.cos(), -angles.sin()], 1) * slope[:, None]
        back = torch.cat([angles.cos() * weights, -angles.sin() * weights], 1).t() / size * slope
        self._forth, self._back = forth.to(window), back.to(window).contiguous()  # (size, 2 bins), (2 bins, size)
        self._squares = window.square()

    def analyse(self, signal: Tensor) -> Tensor:
        """(1, samples) to (2 * bins, samples / hop + 1): real parts above imaginary parts."""
        padded = F.pad(signal, (self._size // 2, self._size // 2), mode="reflect")[0]
        return (padded.unfold(0, self._size, self._hop) @ self._forth).t()

    def synthesize(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """(bins, frames) each, to ((frames - 1) * hop,) samples."""
        parts = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()]).t() @ self._back
        overlap = self._overlapped(self._squares.expand(len(parts), -1))
        return self._overlapped(parts) / overlap

    def _overlapped(self, parts: Tensor) -> Tensor:
        """Frames (n, size) added up where they belong, without what lies outside of the signal."""
        count = self._size // self._hop
        pieces = parts.view(len(parts), count, self._hop)
        total = sum(F.pad(pieces[:, place], (0, 0, place, count - 1 - place)) for place in range(count))
        assert isinstance(total, torch.Tensor)
        outside = self._size // 2
        return total.flatten()[outside : outside + (len(parts) - 1) * self._hop]
