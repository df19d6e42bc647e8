"""The libraries that change the speed of sound at the same pitch, and which of them are at hand.

`docs/decisions/speed.md` says why these libraries, how each is called, and what was measured.
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Stretcher = Callable[[Samples, int, float], Samples]  # samples, their rate, factor → about n / factor samples

LIBRARIES = ("audiostretchy", "librosa", "torchaudio")  # in the order they are tried
LAST_RESORT = "ffmpeg"  # comes with PyAV, where none of them can be had

LOWEST_HZ, HIGHEST_HZ = 55, 333  # fundamentals between which TDHS looks for a period
TDHS_PERIODS = (24, 2400)  # the shortest and longest that it takes, in samples
TDHS_PEAK = 32_000.0
WINDOW_S = 1024 / 24_000  # of the phase vocoders; librosa's own 2048 samples smear speech at 24 kHz
HOPS_PER_WINDOW, HOPS_PER_WINDOW_SLOWED = 8, 4  # made slower, the original is still looked at as often

logger = logging.getLogger(__name__)


@cache
def available(library: str) -> bool:
    """Whether it can be imported, without importing what is large; "ffmpeg" is the last resort."""
    if library == "audiostretchy":  # small, and its wheel may lack the binary for this machine
        return _stretcher(library) is not None
    return find_spec("av" if library == LAST_RESORT else library) is not None


def chosen(library: str) -> tuple[str, Stretcher]:
    """The library of that name, or where it is not available the next one, or "auto"; and its name.

    Raises ValueError for another name, ImportError where nothing that stretches is installed.
    """
    if library not in (*LIBRARIES, "auto"):
        raise ValueError(f"{library!r} is none of {LIBRARIES}")
    first = LIBRARIES.index(library) if library in LIBRARIES else 0
    for name in (*LIBRARIES[first:], *LIBRARIES[:first], LAST_RESORT):
        stretcher = _stretcher(name) if available(name) else None
        if stretcher:
            return name, stretcher
    raise ImportError(f"none of {LIBRARIES} and PyAV can be imported: speech cannot be made faster or slower")


@cache
def _stretcher(name: str) -> Stretcher | None:
    loaders = {"audiostretchy": _tdhs, "librosa": _librosa, "torchaudio": _torchaudio, LAST_RESORT: _ffmpeg}
    try:
        return loaders[name]()
    except (ImportError, OSError, NotImplementedError) as error:  # not there, or its binaries are another machine's
        logger.info("stretcher_unavailable library=%s reason=%s", name, error)
        return None


def _tdhs() -> Stretcher:
    """audiostretchy's C core (time-domain harmonic scaling), without the package's own class.

    That class leaves its buffer untrimmed, and its wrapper of the core declares the functions' types anew for every
    object, under the calls of other threads. Here they are declared once, for a handle of our own to the library.
    """
    import numpy as np

    core = ctypes.CDLL(str(import_module("audiostretchy.interface.tdhs").lib_path))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    core.stretch_init.argtypes, core.stretch_init.restype = [number] * 4, pointer
    core.stretch_output_capacity.argtypes = [pointer, number, ctypes.c_float]
    core.stretch_samples.argtypes = [pointer, pointer, number, pointer, ctypes.c_float]
    core.stretch_flush.argtypes = [pointer, pointer]
    core.stretch_deinit.argtypes, core.stretch_deinit.restype = [pointer], None

    def stretch(samples: Samples, rate: int, factor: float) -> Samples:
        peak = float(np.abs(samples).max(initial=0.0)) or 1.0
        whole = np.ascontiguousarray(np.rint(samples * (TDHS_PEAK / peak)), dtype=np.int16)
        shortest, longest = (min(max(rate // hz, TDHS_PERIODS[0]), TDHS_PERIODS[1]) for hz in (HIGHEST_HZ, LOWEST_HZ))
        ratio = 1 / factor
        in_two_steps = 2 if not 0.5 <= ratio <= 2 else 0
        handle = core.stretch_init(shortest, max(longest, shortest + 1), 1, in_two_steps)
        if not handle:
            raise ValueError(f"TDHS takes no audio of {rate} Hz")
        try:
            # What is flushed may exceed what the core asks for.
            capacity = core.stretch_output_capacity(handle, len(whole), ratio) + 16 * TDHS_PERIODS[1]
            output = np.zeros(capacity, np.int16)
            count = core.stretch_samples(handle, whole.ctypes.data, len(whole), output.ctypes.data, ratio)
            count += core.stretch_flush(handle, output[count:].ctypes.data)
        finally:
            core.stretch_deinit(handle)
        return output[:count].astype(np.float32) * np.float32(peak / TDHS_PEAK)

    return stretch


def _window(rate: int, factor: float) -> tuple[int, int]:
    """Samples of a phase vocoder's window, a power of two, and from one window of its result to the next."""
    size = 1 << max(5, round(math.log2(WINDOW_S * rate)))
    return size, size // (HOPS_PER_WINDOW if factor > 1 else HOPS_PER_WINDOW_SLOWED)


def _librosa() -> Stretcher:
    import numpy as np
    from librosa.effects import time_stretch  # librosa itself imports nothing before it is asked for

    def stretch(samples: Samples, rate: int, factor: float) -> Samples:
        size, hop = _window(rate, factor)
        result = time_stretch(np.ascontiguousarray(samples), rate=factor, n_fft=size, hop_length=hop)
        return np.asarray(result, np.float32)

    return stretch


def _torchaudio() -> Stretcher:
    import numpy as np
    import torch
    from torchaudio.functional import phase_vocoder

    def stretch(samples: Samples, rate: int, factor: float) -> Samples:
        size, hop = _window(rate, factor)
        with torch.inference_mode():
            window = torch.hann_window(size)
            spectra = torch.stft(
                torch.from_numpy(np.array(samples)), size, hop, window=window, pad_mode="constant", return_complex=True
            )
            advance = torch.linspace(0, math.pi * hop, size // 2 + 1)[:, None]
            changed = phase_vocoder(spectra, factor, advance)
            result = torch.istft(changed, size, hop, window=window, length=round(len(samples) / factor))
        return np.asarray(result.numpy(), np.float32)

    return stretch


def _ffmpeg() -> Stretcher:
    import av
    import av.filter
    import numpy as np

    def stretch(samples: Samples, rate: int, factor: float) -> Samples:
        # One atempo drops samples above 2, and takes nothing below 0.5.
        steps = 1 if 0.5 <= factor <= 2 else 2
        graph = av.filter.Graph()
        last = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate))
        for _ in range(steps):
            following = graph.add("atempo", f"{factor ** (1 / steps):.9f}")
            last.link_to(following)
            last = following
        sink = graph.add("abuffersink")
        last.link_to(sink)
        graph.configure()
        frame = av.AudioFrame.from_ndarray(np.array(samples[None], np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        graph.push(frame)
        graph.push(None)
        pieces: list[Samples] = []
        while True:
            try:
                piece = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            assert isinstance(piece, av.AudioFrame)
            pieces.append(np.asarray(piece.to_ndarray().reshape(-1), np.float32))
        return np.concatenate(pieces)

    return stretch
