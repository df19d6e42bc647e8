"""What is done to the sound that was made: the order of the stages, what each did, what each cost.

A stage takes the sound in pieces and gives back what is ready. Speed and edges need to hear only a moment ahead; inner
silences and loudness need the whole, and hold all back until its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from config.settings import SoundSettings
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

OFF = {"use_auto_editor": False, "speed_factor": 1.0, "trim": False, "normalize_audio": False}  # in the order of stages
NEED_THE_WHOLE = ("use_auto_editor", "normalize_audio")

Check = Callable[[], None]


@dataclass(slots=True)
class Mastered:
    """The sound as it is kept. `original` is what it was before its silences were shortened, where that is wanted.

    `applied` tells of each stage that did something, JSON-ready; `laps` its seconds.
    """

    waveform: Waveform
    original: Waveform | None = None
    applied: list[dict[str, Any]] = field(default_factory=list)
    laps: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def switched_on(options: SoundSettings) -> list[str]:
    """The options that ask for a stage."""
    return [name for name, off in OFF.items() if getattr(options, name) != off]


def master(waveform: Waveform, options: SoundSettings, check: Check = lambda: None) -> Mastered:
    """As `Mastering`, of sound that is there already; what is not asked for costs nothing and changes nothing.

    `check` is called before and within the stages, and may raise to leave. Takes a thread's time.
    """
    if not switched_on(options):
        return Mastered(waveform)
    from utils.audio.join import in_a_row

    mastering = Mastering(options, waveform.sample_rate, check)
    parts = [mastering.add(waveform.samples), mastering.finish()]
    return mastering.done(in_a_row(parts, waveform.sample_rate))


class Mastering:
    """Inner silences, speed, edges, loudness, in this order, while the sound comes.

    Joined, what comes out is the same whatever the sizes of the pieces. Takes a thread's time.
    """

    def __init__(self, options: SoundSettings, sample_rate: int, check: Check = lambda: None) -> None:
        kinds: dict[str, Callable[[SoundSettings, int, Check], Stage]] = {
            "use_auto_editor": _Silences,
            "speed_factor": _Speed,
            "trim": _Edges,
            "normalize_audio": _Loudness,
        }
        self._stages = [kinds[switch](options, sample_rate, check) for switch in switched_on(options)]
        self._check = check
        self._laps: dict[str, float] = {f"{stage.name}_s": 0.0 for stage in self._stages}

    def add(self, samples: Samples) -> Samples:
        for stage in self._stages:
            samples = self._timed(stage, stage.add, samples)
        return samples

    def finish(self) -> Samples:
        """What the stages held back; nothing can be added any more."""
        import numpy as np

        rest = np.zeros(0, np.float32)
        for stage in self._stages:
            first = self._timed(stage, stage.add, rest)
            rest = np.concatenate([first, self._timed(stage, stage.finish)])
        return rest

    def done(self, waveform: Waveform) -> Mastered:
        """All that came out, joined, with what was done to it."""
        originals = [stage.original for stage in self._stages if stage.original]
        return Mastered(
            waveform,
            originals[0] if originals else None,
            [{"stage": stage.name, **stage.about()} for stage in self._stages],
            self._laps,
            self.warnings,
        )

    @property
    def warnings(self) -> list[str]:
        """Those that are known by now."""
        return [warning for stage in self._stages for warning in stage.warnings()]

    def _timed(self, stage: Stage, call: Callable[..., Samples], *samples: Samples) -> Samples:
        self._check()
        began_at = time.perf_counter()
        result = call(*samples)
        self._laps[f"{stage.name}_s"] += time.perf_counter() - began_at
        return result


def bitrates(options: SoundSettings) -> Bitrates:
    return Bitrates(options.mp3_bitrate_kbps, options.opus_bitrate_kbps, options.aac_bitrate_kbps)


def warm_up(options: SoundSettings) -> None:
    """Import and try what changes the speed by default, so that the first request does not wait for it."""
    from utils.audio import stretch

    stretch.warm_up(options.speed_factor_library)


class Stage(Protocol):
    """One of the stages: what it is called, what it did once it is finished, and what it was given if that is kept."""

    name: str
    original: Waveform | None

    def add(self, samples: Samples) -> Samples: ...
    def finish(self) -> Samples: ...
    def about(self) -> dict[str, Any]: ...
    def warnings(self) -> list[str]: ...


class _Whole:
    """A stage that needs the whole: holds back all until then."""

    name: str

    def __init__(self, options: SoundSettings, sample_rate: int, check: Check) -> None:
        self.original: Waveform | None = None
        self._options, self._rate, self._check = options, sample_rate, check
        self._parts: list[Samples] = []
        self._about: dict[str, Any] = {}
        self._warnings: list[str] = []

    def add(self, samples: Samples) -> Samples:
        if len(samples):
            self._parts.append(samples)
        return samples[:0]

    def finish(self) -> Samples:
        from utils.audio.join import in_a_row

        whole, self._parts = in_a_row(self._parts, self._rate), []
        return self._done_to(whole).samples

    def about(self) -> dict[str, Any]:
        return self._about

    def warnings(self) -> list[str]:
        return self._warnings

    def _done_to(self, whole: Waveform) -> Waveform:
        raise NotImplementedError


class _Silences(_Whole):
    name = "auto_editor"

    def _done_to(self, whole: Waveform) -> Waveform:
        from utils.audio.silence import shortened

        short = shortened(whole, self._options.ae_threshold, self._options.ae_margin)
        if self._options.keep_original_wav_ae:
            self.original = whole
        self._about = {"removed_s": round(short.removed_s, 4), "cuts": short.cuts}
        return short.waveform


class _Loudness(_Whole):
    name = "loudness"

    def _done_to(self, whole: Waveform) -> Waveform:
        from utils.audio.leveling import normalized

        options = self._options
        leveled = normalized(
            whole,
            method=options.normalize_method,
            level=options.normalize_level,
            true_peak_dbtp=options.normalize_tp,
            lra=options.normalize_lra,
            check=self._check,
        )
        self._warnings = list(leveled.notes)
        self._about = {"method": options.normalize_method, **leveled.about()}
        return leveled.waveform


class _Speed:
    name = "speed"
    original: Waveform | None = None

    def __init__(self, options: SoundSettings, sample_rate: int, check: Check) -> None:
        from utils.audio.stretch import Stretch

        self._wanted = options.speed_factor_library
        self._factor = options.speed_factor
        self._stretch = Stretch(sample_rate, self._factor, self._wanted, check)

    def add(self, samples: Samples) -> Samples:
        return self._stretch.add(samples)

    def finish(self) -> Samples:
        return self._stretch.finish()

    def about(self) -> dict[str, Any]:
        return {"factor": self._factor, "library": self._stretch.library}

    def warnings(self) -> list[str]:
        if self._wanted in ("auto", self._stretch.library):
            return []
        return [f"{self._wanted} is not available here: {self._stretch.library} changed the speed"]


class _Edges:
    name = "trim"
    original: Waveform | None = None

    def __init__(self, options: SoundSettings, sample_rate: int, _: Check) -> None:
        from utils.audio.trim import Trim

        self._trim = Trim(sample_rate, options.trim_threshold_ms)

    def add(self, samples: Samples) -> Samples:
        return self._trim.add(samples)

    def finish(self) -> Samples:
        return self._trim.finish()

    def about(self) -> dict[str, Any]:
        return {"start_s": round(self._trim.start_s, 4), "end_s": round(self._trim.end_s, 4)}

    def warnings(self) -> list[str]:
        return []
