"""How loud a clip becomes, and what a limiter that has to work on it takes from that."""

from __future__ import annotations

from collections.abc import Callable

from utils.audio.channels import mixed
from utils.audio.decode import blocks
from utils.audio.limiter import Limiter
from utils.audio.long_recording import opened
from utils.audio.loudness import LoudnessMeter
from utils.concatenation.timeline import MOST_DRIVE_DB, Clip, Joining, factor, gains_of

CLOSE_LU = 0.1
PASSES = 4  # at most, over a clip
LEAST_SLOPE = 0.2  # of loudness by drive, that is believed


def drive_db(clip: Clip, joining: Joining, channels: int, check: Callable[[], None] = lambda: None) -> float:
    """The gain that makes up for what the limiter takes from the clip's loudness; 0 where it has nothing to do.

    `channels` are those of the whole. Listens to the clip up to `PASSES` times, in the memory of some blocks. Raises
    what `long_recording.opened` raises.
    """
    gain_db, ceiling = gains_of(clip, joining, channels)
    level = clip.measures.level(channels).loudness_lufs if clip.measures else None
    if ceiling is None or level is None or not joining.normalize_levels:
        return 0.0
    wanted = level + gain_db
    drive, slope, last = 0.0, 1.0, None
    for _ in range(PASSES):
        heard = _loudness(clip, channels, gain_db + drive, ceiling, check)
        if heard is None or wanted - heard < CLOSE_LU:
            break
        if last and drive > last[0]:
            slope = min(1.0, max(LEAST_SLOPE, (heard - last[1]) / (drive - last[0])))
        last = drive, heard
        drive = min(MOST_DRIVE_DB, drive + (wanted - heard) / slope)
        if drive == last[0]:
            break
    return drive


def _loudness(clip: Clip, channels: int, gain_db: float, ceiling: float, check: Callable[[], None]) -> float | None:
    """Of the clip under a gain and the limiter."""
    meter = LoudnessMeter(clip.extent.sample_rate, channels)
    limiter = Limiter(clip.extent.sample_rate, channels, ceiling, factor(gain_db))
    with opened(clip.path) as file:
        for block in blocks(file, check):
            meter.add(limiter.add(mixed(block, channels)))
    meter.add(limiter.rest())
    return meter.level_lufs
