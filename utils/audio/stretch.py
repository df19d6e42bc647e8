"""Change of speed: faster or slower speech at the same pitch, whole or while it comes.

`docs/decisions/speed.md` says how the parts are cut and joined, and what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from utils.audio.stretchers import chosen
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

NONE = "none"  # what is said to have stretched what needed no stretching
SLOWEST, FASTEST = 0.25, 4.0

CONTEXT_S = 0.2  # stretched on either side of a part and cut away: see _with_context
PART_S = (0.6, 1.2)  # a part ends at the quietest moment in this range: the gap between two words, mostly
QUIET_S = 0.02  # how long that moment is
SEAM_S = 0.01  # neighbours are cross-faded over it
ALIGNED_S = 0.006  # by which a part may be moved, so that its periods fall on those of the one before
FADE_S = 0.004  # at both ends: where a sound falls to zero, stretching may move that by some milliseconds
MOST_GAIN = 2.0


def never() -> None:
    """Nobody cancels."""


class Stretch:
    """Makes sound `factor` times as fast (2.0 takes half the time) while it comes.

    Joined, what comes out is round(n / factor) samples, the same whatever the sizes of the pieces. `library` is one of
    LIBRARIES or "auto"; where it is not available, the next one of them does it: `self.library`. Held back are some
    1.5 s. Calls `check` before each part. Raises ValueError for a factor outside SLOWEST to FASTEST, ImportError where
    nothing that stretches is installed.
    """

    def __init__(
        self, sample_rate: int, factor: float, library: str = "auto", check: Callable[[], None] = never
    ) -> None:
        import numpy as np

        if not SLOWEST <= factor <= FASTEST:
            raise ValueError(f"a speed of {factor} is not between {SLOWEST} and {FASTEST}")
        self.library, self._stretcher = chosen(library)
        self._rate, self._factor, self._check = sample_rate, factor, check
        self._earliest, self._latest = (round(limit_s * sample_rate) for limit_s in PART_S)
        self._context = math.ceil(CONTEXT_S * sample_rate)
        self._seam = max(1, round(SEAM_S * sample_rate / 2))
        self._held: Samples = np.zeros(0, np.float32)  # what came, from `_held_from` on
        self._held_from = 0
        self._start = 0  # of the part that is next
        self._tail: Samples | None = None  # of the result so far: twice the seam, to be faded into the next part
        self._level = _Level()

    def add(self, samples: Samples) -> Samples:
        """The next piece; what is ready of the result."""
        import numpy as np

        self._held = np.concatenate([self._held, samples]) if len(self._held) else samples
        parts = [np.zeros(0, np.float32)]
        # What remains is at least the context, so that a part before the last one is never cut short by the end.
        while self._came - self._start > self._latest + self._context:
            parts.append(self._part(self._quietest()))
        return np.concatenate(parts)

    def finish(self) -> Samples:
        """The rest of the result; nothing can be added any more."""
        return self._part(self._came, is_last=True) if self._came else self._held

    @property
    def _came(self) -> int:
        return self._held_from + len(self._held)

    def _quietest(self) -> int:
        """Where the next part ends."""
        import numpy as np

        step = max(1, round(QUIET_S * self._rate))
        first = self._start + self._earliest
        reach = self._held[first - self._held_from : self._start + self._latest - self._held_from]
        power = np.square(reach[: len(reach) // step * step].reshape(-1, step)).sum(axis=1)
        return first + int(power.argmin()) * step + step // 2

    def _part(self, end: int, *, is_last: bool = False) -> Samples:
        """What is ready once the part that ends there is stretched: all but what the next one is faded into."""
        self._check()
        start, factor = self._start, self._factor
        total = round(self._came / factor)
        first = round(start / factor) - self._seam if start else 0
        last = total if is_last else round(end / factor) + self._seam
        part = self._stretched(start, end, first, last)
        part *= self._level.gain(self._held[start - self._held_from : end - self._held_from], part)
        fade = min(round(FADE_S * self._rate), total // 4)
        if self._tail is None:
            _fade(part, fade)
        else:
            _fade(part, len(self._tail))
            _fade(self._tail[::-1], len(self._tail))
            part[: len(self._tail)] += self._tail
        if is_last:
            _fade(part[::-1], fade)
            return part
        before_tail = len(part) - 2 * self._seam
        self._tail = part[before_tail:].copy()
        self._start = end
        kept_from = max(0, end - self._context)
        self._held, self._held_from = self._held[kept_from - self._held_from :], kept_from
        return part[:before_tail]

    def _stretched(self, start: int, end: int, first: int, last: int) -> Samples:
        """Samples `first` to `last` of the result, by way of those from `start` to `end`."""
        import numpy as np

        around = self._with_context(start, end)
        part = np.zeros(last - first, np.float32)
        if around.any():
            stretched = self._stretcher(around, self._rate, self._factor)
            offset = first - round((start - self._context) / self._factor)
            if self._tail is not None:
                offset += self._alignment(stretched, offset)
            found = stretched[offset : offset + len(part)]
            part[: len(found)] = found
        return part

    def _with_context(self, start: int, end: int) -> Samples:
        """A part with some samples more on both sides; beyond the ends of the sound is its mirror image.

        Every method needs something on both sides of what it stretches: TDHS gives its last three periods out
        unstretched, a vocoder's first and last windows are half empty. Mirrored, because zeros would put a step in
        front of a sound that begins at once.
        """
        import numpy as np

        before, after = start - self._context, end + self._context
        part = self._held[max(0, before) - self._held_from : after - self._held_from]
        missing = max(0, -before), max(0, after - self._came)
        return np.pad(part, missing, mode="symmetric").astype(np.float32, copy=False)

    def _alignment(self, stretched: Samples, offset: int) -> int:
        """By how many samples a part must be moved to be most like the end of the one before it, where they meet."""
        import numpy as np

        assert self._tail is not None
        reach = round(ALIGNED_S * self._rate)
        beside = stretched[max(0, offset - reach) : offset + reach + len(self._tail)]
        places = np.lib.stride_tricks.sliding_window_view(beside, len(self._tail))
        energies = np.sqrt(np.square(places).sum(axis=1)) + 1e-9
        likeness = places @ self._tail / energies
        if likeness.max(initial=0.0) <= 0:
            return 0
        return int(likeness.argmax()) - min(offset, reach)


def stretched(
    waveform: Waveform, factor: float, library: str = "auto", check: Callable[[], None] = never
) -> tuple[Waveform, str]:
    """As `Stretch`, of what is there already, and who did it.

    At 1.0 the same object comes back and nothing is imported. Calls may run in parallel. Raises what `Stretch` raises.
    """
    if factor == 1.0 or not len(waveform.samples):
        return waveform, NONE
    import numpy as np

    stretch = Stretch(waveform.sample_rate, factor, library, check)
    parts = [stretch.add(waveform.samples), stretch.finish()]
    return Waveform(np.concatenate(parts), waveform.sample_rate), stretch.library


def warm_up(library: str = "auto") -> None:
    """Import it and run it once, so that the first request does not wait for that."""
    import numpy as np

    noise = 0.1 * np.random.default_rng(0).standard_normal(7200)
    stretched(Waveform(noise.astype(np.float32), 24_000), 1.5, library)


class _Level:
    """Gives the result the level of the original, as far as full scale allows.

    A phase vocoder loses level, up to 5 dB at 4.0, and changes the shape of the wave, and so its peak. Measured over
    all so far: a part alone may hold more or less of a loud sound than its stretch of the original.
    """

    def __init__(self) -> None:
        self._original, self._result = (0.0, 0), (0.0, 0)  # energy, samples

    def gain(self, original: Samples, result: Samples) -> float:
        self._original = self._original[0] + float(original @ original), self._original[1] + len(original)
        self._result = self._result[0] + float(result @ result), self._result[1] + len(result)
        wanted, power = (energy / max(1, count) for energy, count in (self._original, self._result))
        peak = max(float(result.max(initial=0.0)), -float(result.min(initial=0.0)))
        if power <= 0 or peak <= 0:
            return 1.0
        return min(math.sqrt(wanted / max(power, wanted / MOST_GAIN**2)), 1 / peak)


def _fade(samples: Samples, length: int) -> None:
    """Fade in, in place."""
    import numpy as np

    samples[:length] *= (np.arange(length, dtype=np.float32) + 0.5) / max(1, length)
