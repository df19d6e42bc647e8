"""What is done to the sound once all of it is there: the order of the stages, what each did, what each cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from config.settings import SoundSettings
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform

SWITCHES = {"use_auto_editor": False, "speed_factor": 1.0, "trim": False, "normalize_audio": False}  # and what is "off"


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

    @contextmanager
    def lap(self, stage: str) -> Iterator[None]:
        began_at = time.perf_counter()
        yield
        self.laps[f"{stage}_s"] = time.perf_counter() - began_at


def switched_on(options: SoundSettings) -> list[str]:
    """The options that ask for a stage."""
    return [name for name, off in SWITCHES.items() if getattr(options, name) != off]


def master(waveform: Waveform, options: SoundSettings, check: Callable[[], None] = lambda: None) -> Mastered:
    """Inner silences, speed, edges, loudness, in this order; what is not asked for costs nothing and changes nothing.

    `check` is called before each stage, and may raise to leave. Takes a thread's time.
    """
    done = Mastered(waveform)
    stages = {
        "use_auto_editor": _shorten_silences,
        "speed_factor": _change_speed,
        "trim": _trim,
        "normalize_audio": _normalize,
    }
    for switch in switched_on(options):
        check()
        with done.lap(switch.removeprefix("use_").removesuffix("_factor").removesuffix("_audio")):
            stages[switch](done, options)
    return done


def bitrates(options: SoundSettings) -> Bitrates:
    return Bitrates(options.mp3_bitrate_kbps, options.opus_bitrate_kbps, options.aac_bitrate_kbps)


def warm_up(options: SoundSettings) -> None:
    """Import and try what changes the speed by default, so that the first request does not wait for it."""
    from utils.audio import stretch

    stretch.warm_up(options.speed_factor_library)


def _shorten_silences(done: Mastered, options: SoundSettings) -> None:
    from utils.audio.silence import shortened

    short = shortened(done.waveform, options.ae_threshold, options.ae_margin)
    if options.keep_original_wav_ae:
        done.original = done.waveform
    done.waveform = short.waveform
    done.applied.append({"stage": "auto_editor", "removed_s": round(short.removed_s, 4), "cuts": short.cuts})


def _change_speed(done: Mastered, options: SoundSettings) -> None:
    from utils.audio.stretch import stretched

    done.waveform, library = stretched(done.waveform, options.speed_factor, options.speed_factor_library)
    done.applied.append({"stage": "speed", "factor": options.speed_factor, "library": library})
    if options.speed_factor_library not in ("auto", library):
        done.warnings.append(f"{options.speed_factor_library} is not available here: {library} changed the speed")


def _trim(done: Mastered, options: SoundSettings) -> None:
    from utils.audio.trim import trimmed

    cut = trimmed(done.waveform, options.trim_threshold_ms)
    done.waveform = cut.waveform
    done.applied.append({"stage": "trim", "start_s": round(cut.start_s, 4), "end_s": round(cut.end_s, 4)})


def _normalize(done: Mastered, options: SoundSettings) -> None:
    from utils.audio.leveling import normalized

    level = normalized(
        done.waveform,
        method=options.normalize_method,
        level=options.normalize_level,
        true_peak_dbtp=options.normalize_tp,
        lra=options.normalize_lra,
    )
    done.waveform = level.waveform
    done.applied.append({"stage": "loudness", "method": options.normalize_method, **level.about()})
    done.warnings.extend(level.notes)
