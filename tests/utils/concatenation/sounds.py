"""Clips whose every sample is known."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from utils.audio.measures import measure
from utils.concatenation.timeline import Clip

RATE = 24_000
Samples = NDArray[np.float32]


def noise(count: int, seed: int = 0, channels: int = 1, level: float = 0.2) -> Samples:
    """Shape (count, channels); every sample differs from its neighbours, so that none can be lost unheard."""
    drawn = np.random.default_rng(seed).uniform(-level, level, (count, channels))
    return np.asarray(np.round(drawn * 32768) / 32768, np.float32)


def pydub_segments() -> Any:
    """pydub's AudioSegment, an independent reference. It warns as it is imported, and not every Python can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("pydub", exc_type=ImportError).AudioSegment


def clip(folder: Path, name: str, samples: Samples, sample_rate: int = RATE, **said: Any) -> Clip:
    """Written as 16 bits, which hold what `noise` makes, and measured."""
    path = folder / name
    soundfile.write(path, samples, sample_rate, "PCM_16" if path.suffix != ".ogg" else None)
    measures = measure(path, 3600)
    return Clip(source=name, path=path, extent=measures.extent, measures=measures, title=path.stem, **said)
