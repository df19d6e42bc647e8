"""The engine's own voices, and how a request's sampling becomes eSpeak NG's parameters. Pure functions of values."""

from __future__ import annotations

import bisect
import hashlib
import math
from dataclasses import dataclass

from engines.base import Sampling

WORDS_PER_MINUTE = 175  # eSpeak NG's own default pace
NEUTRAL_EXAGGERATION, NEUTRAL_TEMPERATURE, NEUTRAL_CFG_WEIGHT = 0.5, 0.8, 0.5
MIDDLE_RANGE = 50.0

# Fundamental in Hz at pitch 0, 25, 50, 75, 99 and range 50: medians by YIN over three English sentences. Of a
# dozen variants a recogniser heard these best (docs/decisions/embedded-engine.md).
PITCH_STEPS = (0.0, 25.0, 50.0, 75.0, 99.0)
FUNDAMENTALS_HZ: dict[str, tuple[float, ...]] = {
    "edward": (70.1, 83.7, 104.0, 133.5, 173.0),
    "f2": (134.5, 161.7, 200.1, 255.1, 329.8),
    "f5": (134.3, 165.7, 209.5, 272.0, 356.1),
}
CLEAR_PITCHES = (20.0, 75.0)
# A wider range also lifts the median; this many steps of pitch a step of range keep it in its place (measured).
PITCH_STEPS_PER_RANGE_STEP = 0.2


@dataclass(frozen=True, slots=True)
class OwnVoice:
    """A voice by parameters: eSpeak NG's variant (its formants), pitch and pitch range (0-99), relative pace."""

    name: str
    variant: str
    pitch: float
    pitch_range: float = MIDDLE_RANGE
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Performance:
    """What eSpeak NG is told besides the text: pitch and range 0-99, pace in words a minute, the noise's seed."""

    variant: str
    pitch: int
    pitch_range: int
    words_per_minute: int
    seed: int


OWN_VOICES: dict[str, OwnVoice] = {
    voice.name: voice
    for voice in (
        OwnVoice("edgar", "edward", pitch=50),
        OwnVoice("clara", "f2", pitch=46, pitch_range=46, pace=0.97),
        OwnVoice("robin", "f5", pitch=72, pitch_range=58, pace=1.05),
    )
}


def performance(voice: OwnVoice, sampling: Sampling, seed: int) -> Performance:
    """How `voice` performs a chunk: the same for the same arguments, on every machine.

    `exaggeration` is the pitch range (0 is flat, 0.5 the voice's own, more is livelier). `cfg_weight` is the pace:
    lower is slower, as in Chatterbox. `temperature` is how far the seed may move pitch, range and pace; at 0 only
    the noise in breathy voices still depends on the seed.
    """
    nudges = _nudges(seed)
    freedom = min(2.0, max(0.0, sampling.temperature)) / NEUTRAL_TEMPERATURE
    above_neutral = min(1.5, max(0.0, sampling.exaggeration)) - NEUTRAL_EXAGGERATION
    liveliness = above_neutral * (80 if above_neutral < 0 else 49)  # to a range of 10 at 0 and of 99 at 1.5
    pitch_range = voice.pitch_range + liveliness + 6 * freedom * nudges[1]
    pitch = voice.pitch + 3 * freedom * nudges[0]
    pitch += PITCH_STEPS_PER_RANGE_STEP * (MIDDLE_RANGE - min(99.0, max(0.0, pitch_range)))
    pace = voice.pace * (1 + 0.03 * freedom * nudges[2])
    pace *= 1 + 0.16 * (min(1.0, max(0.0, sampling.cfg_weight)) - NEUTRAL_CFG_WEIGHT)
    return Performance(
        variant=voice.variant,
        pitch=_step(pitch),
        pitch_range=_step(pitch_range),
        words_per_minute=min(450, max(80, round(WORDS_PER_MINUTE * pace))),
        seed=_noise_seed(seed),
    )


def nearest_voice(fundamental_hz: float) -> OwnVoice:
    """The nameless voice whose median fundamental comes nearest to the one asked for, so that little is left to do.

    It keeps within `CLEAR_PITCHES`: below, phrases end in creak that no tracker follows, above, words get lost (one in
    nine at 99, one in fifty at 75, for a recogniser).
    """
    variant = "edward" if fundamental_hz < 150 else "f2"
    known_hz = FUNDAMENTALS_HZ[variant]
    # By numpy this were one call, but importing the engine should cost little.
    step = min(max(bisect.bisect(known_hz, fundamental_hz), 1), len(known_hz) - 1)
    share = math.log(fundamental_hz / known_hz[step - 1]) / math.log(known_hz[step] / known_hz[step - 1])
    pitch = PITCH_STEPS[step - 1] + share * (PITCH_STEPS[step] - PITCH_STEPS[step - 1])
    lowest, highest = CLEAR_PITCHES
    return OwnVoice("", variant, pitch=min(highest, max(lowest, pitch)))


def _nudges(seed: int) -> tuple[float, float, float]:
    """Three numbers in [-1, 1] drawn from the seed; `random` promises no fixed sequence across versions."""
    digest = hashlib.sha256(str(seed).encode()).digest()
    first, second, third = (byte / 127.5 - 1 for byte in digest[:3])
    return first, second, third


def _noise_seed(seed: int) -> int:
    """eSpeak NG takes a positive C long, which has 32 bits on some systems."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[4:8], "big") & 0x7FFFFFFF or 1


def _step(value: float) -> int:
    return min(99, max(0, round(value)))
