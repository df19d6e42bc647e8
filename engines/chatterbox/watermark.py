"""Perth's inaudible watermark, which says of speech that a machine made it. Its weights are inside the package."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import perth
from numpy.typing import NDArray

LEAST_SAMPLES = 4800  # of 24 kHz: Perth's analysis fails on pieces of some 20 ms


class Watermark:
    """Marks waveforms, in as many threads as call. Made at the first use: loading Perth takes half a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marker: Any = None

    @staticmethod
    def is_available() -> bool:
        """False where Perth was installed beside a setuptools without pkg_resources: its class is then None."""
        return perth.PerthImplicitWatermarker is not None

    def apply(self, samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
        """The same samples, marked; shape (n,) as given."""
        with self._lock:
            if self._marker is None:
                self._marker = perth.PerthImplicitWatermarker()
        padded = np.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples))))
        marked = self._marker.apply_watermark(padded, sample_rate=sample_rate)
        return np.asarray(marked[: len(samples)], dtype=np.float32)
