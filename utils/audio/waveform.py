"""The form in which sound travels inside the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono audio: float32 samples in [-1, 1], shape (n,), with their rate in Hz."""

    samples: NDArray[np.float32]
    sample_rate: int

    @classmethod
    def of_bytes(cls, content: bytes, sample_rate: int) -> Waveform:
        """From 32-bit little-endian floats; the samples share the memory of `content` and cannot be written."""
        import numpy as np

        return cls(np.frombuffer(content, dtype="<f4"), sample_rate)

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Extent:
    """How much audio it is, before any of it is there: samples of each channel, their rate in Hz, channels."""

    count: int
    sample_rate: int
    channels: int = 1

    @property
    def duration_s(self) -> float:
        return self.count / self.sample_rate
