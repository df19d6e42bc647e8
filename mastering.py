"""What is done to the sound once all of it is there: the order of the stages, what each did, what each cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from config.settings import ExportSettings, SoundSettings
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform

OFF = {"use_auto_editor": False, "speed_factor": 1.0, "trim": False, "normalize_audio": False}  # in the order of stages


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


def master(waveform: Waveform, options: SoundSettings, check: Callable[[], None] = lambda: None) -> Mastered:
    """Inner silences, speed, edges, loudness, in this order; what is not asked for costs nothing and changes nothing.

    `check` is called before each stage, and may raise to leave. Takes a thread's time.
    """
    done = Mastered(waveform)
    stages = {
        "use_auto_editor": ("auto_editor", _shorten_silences),
        "speed_factor": ("speed", _change_speed),
        "trim": ("trim", _trim),
        "normalize_audio": ("loudness", _normalize),
    }
    for switch in switched_on(options):
        name, stage = stages[switch]
        check()
        began_at = time.perf_counter()
        done.applied.append({"stage": name, **stage(done, options, check)})
        done.laps[f"{name}_s"] = time.perf_counter() - began_at
    return done


def bitrates(options: ExportSettings) -> Bitrates:
    return Bitrates(options.mp3_bitrate_kbps, options.opus_bitrate_kbps, options.aac_bitrate_kbps)


def warm_up(options: SoundSettings) -> None:
    """Import and try what changes the speed by default, so that the first request does not wait for it."""
    from utils.audio import stretch

    stretch.warm_up(options.speed_factor_library)


Check = Callable[[], None]


def _shorten_silences(done: Mastered, options: SoundSettings, _: Check) -> dict[str, Any]:
    from utils.audio.silence import shortened

    short = shortened(done.waveform, options.ae_threshold, options.ae_margin)
    if options.keep_original_wav_ae:
        done.original = done.waveform
    done.waveform = short.waveform
    return {"removed_s": round(short.removed_s, 4), "cuts": short.cuts}


def _change_speed(done: Mastered, options: SoundSettings, check: Check) -> dict[str, Any]:
    from utils.audio.stretch import stretched

    wanted = options.speed_factor_library
    done.waveform, library = stretched(done.waveform, options.speed_factor, wanted, check)
    if wanted not in ("auto", library):
        done.warnings.append(f"{wanted} is not available here: {library} changed the speed")
    return {"factor": options.speed_factor, "library": library}


def _trim(done: Mastered, options: SoundSettings, _: Check) -> dict[str, Any]:
    from utils.audio.trim import trimmed

    cut = trimmed(done.waveform, options.trim_threshold_ms)
    done.waveform = cut.waveform
    return {"start_s": round(cut.start_s, 4), "end_s": round(cut.end_s, 4)}


def _normalize(done: Mastered, options: SoundSettings, check: Check) -> dict[str, Any]:
    from utils.audio.leveling import normalized

    leveled = normalized(
        done.waveform,
        method=options.normalize_method,
        level=options.normalize_level,
        true_peak_dbtp=options.normalize_tp,
        lra=options.normalize_lra,
        check=check,
    )
    done.waveform = leveled.waveform
    done.warnings.extend(leveled.notes)
    return {"method": options.normalize_method, **leveled.about()}
