"""What is heard when, to the sample, decided before any audio is read: clips, silences, pauses, crossfades, levels."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from utils.audio.chapters import Chapter
from utils.audio.crossfade import Curve
from utils.audio.measures import Measures
from utils.audio.trim import kept
from utils.audio.waveform import Extent

ChannelChoice = Literal["mono", "stereo", "auto"]

SHORTEST_PAUSE_MS = 50.0
MOST_GAIN_DB = 30.0  # of levelling: with more of it, what gets louder is the noise
MOST_DRIVE_DB, HEAVY_DB = 10.0, 6.0  # of gain against the limiter; beyond the latter it is heard
NAMED = 3  # clips in one warning, of any number that it is about


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A file to be joined. `source` is what people call it; `measures` are needed to trim, level or amplify it.

    `drive_db` makes up for what the limiter takes from its loudness (see `levels`).
    """

    source: str
    path: Path
    extent: Extent
    measures: Measures | None = None
    title: str
    gain_db: float = 0.0
    fade_in_ms: float = 0.0
    fade_out_ms: float = 0.0
    drive_db: float = 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """One that somebody wrote between the files."""

    written: str
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """How clips are joined. `level_tp` is a true peak in dBTP, `seed` what the pauses are drawn from."""

    channels: ChannelChoice = "mono"
    normalize_levels: bool = False
    level_lufs: float = -24.0
    level_tp: float = -2.0
    crossfade_ms: float = 0.0
    crossfade_curve: Curve = "equal_power"
    pause_duration_ms: float = 0.0
    pause_variation_ms: float = 0.0
    trim: bool = False
    trim_threshold_ms: float = 200.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSilence:
    """Start and length are in samples of the whole. `written` is None for a natural pause."""

    start: int
    length: int
    written: str | None

    def as_json(self, sample_rate: int) -> dict[str, Any]:
        kind = {"type": "natural_pause"} if self.written is None else {"type": "manual_silence", "source": self.written}
        return {**kind, **_span(self.start, self.length, sample_rate)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedClip:
    """A clip in the whole.

    `first` and `last` are the clip's own samples that are heard, the one after the last; all else is in samples of the
    whole. `overlap_before` and `overlap_after` are shared with its neighbours; a ceiling is a true peak, 1 being full
    scale, where the limiter has to work. Several fades at one end are multiplied.
    """

    clip: Clip
    start: int
    length: int
    first: int
    last: int
    gain_db: float = 0.0
    ceiling: float | None = None
    overlap_before: int = 0
    overlap_after: int = 0
    fades_in: tuple[int, ...] = ()
    fades_out: tuple[int, ...] = ()

    @property
    def trimmed_s(self) -> tuple[float, float]:
        """Cut from its start and its end."""
        rate = self.clip.extent.sample_rate
        return self.first / rate, (self.clip.extent.count - self.last) / rate

    def as_json(self, sample_rate: int) -> dict[str, Any]:
        trimmed_start_s, trimmed_end_s = self.trimmed_s
        return {
            "type": "file",
            "source": self.clip.source,
            **_span(self.start, self.length, sample_rate),
            "crossfade_samples": self.overlap_before,
            "fade_in_samples": max(self.fades_in, default=0),
            "fade_out_samples": max(self.fades_out, default=0),
            "trimmed_start_seconds": round(trimmed_start_s, 6),
            "trimmed_end_seconds": round(trimmed_end_s, 6),
            "gain_db": round(self.gain_db, 2),
            "limited": self.ceiling is not None,
        }


Entry = PlacedClip | PlacedSilence


@dataclass(frozen=True, slots=True)
class Timeline:
    """All that is heard, in order, and how much it is. `warnings` are for people."""

    entries: Sequence[Entry]
    extent: Extent
    curve: Curve
    warnings: list[str] = field(default_factory=list)

    @property
    def clips(self) -> list[PlacedClip]:
        return [entry for entry in self.entries if isinstance(entry, PlacedClip)]

    @property
    def silences(self) -> int:
        """How many were written."""
        return sum(isinstance(entry, PlacedSilence) and entry.written is not None for entry in self.entries)

    @property
    def pauses(self) -> int:
        """How many were drawn."""
        return len(self.entries) - len(self.clips) - self.silences

    def chapters(self) -> list[Chapter]:
        """One for each clip, from where it begins to where the next one does; the first and the last go to the ends."""
        clips, rate = self.clips, self.extent.sample_rate
        bounds = [0, *(clip.start for clip in clips[1:]), self.extent.count]
        return [
            Chapter(clip.clip.title, start / rate, end / rate)
            for clip, (start, end) in zip(clips, pairwise(bounds), strict=True)
        ]

    def as_json(self) -> list[dict[str, Any]]:
        return [entry.as_json(self.extent.sample_rate) for entry in self.entries]


def timeline(parts: Sequence[Clip | Silence], joining: Joining) -> Timeline:
    """Decide everything. Between two clips a silence that is written there wins, else a pause is drawn if there are to
    be any, else they meet, over the crossfade if there is one.

    The whole is as long as its clips, silences and pauses are, less its crossfades. It has the highest of the clips'
    rates. Needs a clip.
    """
    clips = [part for part in parts if isinstance(part, Clip)]
    rate = max(clip.extent.sample_rate for clip in clips)
    channels = channels_of(clips, joining)
    placed = [_cut(part, joining, rate) if isinstance(part, Clip) else part for part in parts]
    warnings = [*_trimming(placed, joining)]
    entries = _leveled(_faded(_met(placed, joining, rate, warnings), rate, warnings), joining, channels, warnings)
    position, starting = 0, []
    for entry in entries:
        position -= entry.overlap_before if isinstance(entry, PlacedClip) else 0
        starting.append(replace(entry, start=position))
        position += entry.length
    return Timeline(starting, Extent(position, rate, channels), joining.crossfade_curve, warnings)


def channels_of(clips: Sequence[Clip], joining: Joining) -> int:
    """Of the whole."""
    is_wide = any(clip.extent.channels > 1 for clip in clips)
    return 2 if joining.channels == "stereo" or (joining.channels == "auto" and is_wide) else 1


def gains_of(clip: Clip, joining: Joining, channels: int) -> tuple[float, float | None]:
    """A clip's gain in dB, and the true peak that it must not exceed, if the gain would lift it above."""
    level = clip.measures.level(channels) if clip.measures else None
    if level is None:
        return clip.gain_db, None
    gain_db = clip.gain_db
    if joining.normalize_levels and level.loudness_lufs is not None:
        gain_db += min(joining.level_lufs - level.loudness_lufs, MOST_GAIN_DB)
    is_lifted = joining.normalize_levels or clip.gain_db > 0
    ceiling = factor(joining.level_tp)
    return gain_db, ceiling if is_lifted and level.true_peak * factor(gain_db) > ceiling else None


def factor(db: float) -> float:
    return float(10 ** (db / 20))


def samples(duration_ms: float, sample_rate: int) -> int:
    return round(duration_ms * sample_rate / 1000)


def _cut(clip: Clip, joining: Joining, rate: int) -> PlacedClip:
    """The clip, of what is heard of it, at the rate of the whole."""
    count, own_rate = clip.extent.count, clip.extent.sample_rate
    first, last = 0, count
    if joining.trim and clip.measures:
        first, last = kept(count, clip.measures.speech, own_rate, joining.trim_threshold_ms)
    return PlacedClip(clip=clip, start=0, length=round((last - first) * rate / own_rate), first=first, last=last)


def _met(
    placed: Sequence[PlacedClip | Silence], joining: Joining, rate: int, warnings: list[str]
) -> list[PlacedClip | PlacedSilence]:
    """The parts with the pauses between them, and with what neighbours share."""
    crossfade, chance = samples(joining.crossfade_ms, rate), random.Random(joining.seed)
    gaps = [isinstance(left, PlacedClip) and isinstance(right, PlacedClip) for left, right in pairwise(placed)]
    meets = [False, *(gap and not joining.pause_duration_ms and crossfade > 0 for gap in gaps), False]
    fades = [False, *(gap and joining.pause_duration_ms > 0 and crossfade > 0 for gap in gaps), False]
    # A clip that shares both its ends shares at most half of itself with each neighbour.
    shares = [
        part.length // max(1, meets[index] + meets[index + 1]) if isinstance(part, PlacedClip) else 0
        for index, part in enumerate(placed)
    ]
    overlaps = [0, *(min(crossfade, *pair) if meets[at] else 0 for at, pair in enumerate(pairwise(shares), 1)), 0]
    entries: list[PlacedClip | PlacedSilence] = []
    for index, part in enumerate(placed):
        if isinstance(part, Silence):
            length = samples(part.duration_ms, rate)
            entries.append(PlacedSilence(start=0, length=length, written=part.written))
            continue
        around = _around(part, crossfade, fades[index] + fades[index + 1])
        entries.append(
            replace(
                part,
                overlap_before=overlaps[index],
                overlap_after=overlaps[index + 1],
                fades_in=_some(overlaps[index], around if fades[index] else 0),
                fades_out=_some(overlaps[index + 1], around if fades[index + 1] else 0),
            )
        )
        if index < len(gaps) and gaps[index] and joining.pause_duration_ms:
            entries.append(PlacedSilence(start=0, length=samples(_pause_ms(joining, chance), rate), written=None))
    warnings.extend(_crossfades(placed, joining, meets, fades, overlaps, rate))
    return entries


def _around(clip: PlacedClip, crossfade: int, ends: int) -> int:
    """Over how many samples a clip fades at each of the ends that have a pause."""
    return min(crossfade // 2, clip.length // max(1, ends))


def _some(*fades: int) -> tuple[int, ...]:
    return tuple(fade for fade in fades if fade)


def _pause_ms(joining: Joining, chance: random.Random) -> float:
    pause_ms, variation_ms = joining.pause_duration_ms, joining.pause_variation_ms
    return max(SHORTEST_PAUSE_MS, chance.uniform(pause_ms - variation_ms, pause_ms + variation_ms))


def _faded(entries: Sequence[Entry], rate: int, warnings: list[str]) -> Iterator[Entry]:
    """The clips with their own fades, before those that come from their neighbours."""
    short, double = [], []
    for entry in entries:
        if isinstance(entry, PlacedSilence):
            yield entry
            continue
        wanted = samples(entry.clip.fade_in_ms, rate), samples(entry.clip.fade_out_ms, rate)
        fade_in, fade_out = (min(fade, entry.length) for fade in wanted)
        if (fade_in, fade_out) != wanted:
            short.append(entry.clip.source)
        if 0 < fade_in < sum(entry.fades_in) or 0 < fade_out < sum(entry.fades_out):
            double.append(entry.clip.source)
        yield replace(entry, fades_in=_some(fade_in) + entry.fades_in, fades_out=_some(fade_out) + entry.fades_out)
    if short:
        warnings.append(f"a fade is longer than the clip, and was shortened to it: {named(short)}")
    if double:
        warnings.append(f"a fade lies within a crossfade, which it makes softer: {named(double)}")


def _leveled(entries: Iterator[Entry], joining: Joining, channels: int, warnings: list[str]) -> list[Entry]:
    """The clips with their gains, and a ceiling where a gain would lift their peak above it."""
    leveled: list[Entry] = []
    silent, quiet, heavy = [], [], []
    for entry in entries:
        if isinstance(entry, PlacedSilence):
            leveled.append(entry)
            continue
        clip = entry.clip
        gain_db, ceiling = gains_of(clip, joining, channels)
        leveled.append(replace(entry, gain_db=gain_db + clip.drive_db, ceiling=ceiling))
        loudness_lufs = clip.measures.level(channels).loudness_lufs if clip.measures else None
        if joining.normalize_levels and loudness_lufs is None:
            silent.append(clip.source)
        elif joining.normalize_levels and loudness_lufs is not None:
            quiet += [clip.source] if joining.level_lufs - loudness_lufs > MOST_GAIN_DB else []
            heavy += [clip.source] if clip.drive_db > HEAVY_DB else []
    for sources, sentence in (
        (silent, "nothing is heard in it, so its level was not changed"),
        (quiet, f"its level would take more than {MOST_GAIN_DB:g} dB, so it stays softer, not to raise its noise"),
        (heavy, "its level takes heavy limiting, so it is rougher than before, and may stay softer"),
    ):
        if sources:
            warnings.append(f"{named(sources)}: {sentence}")
    return leveled


def _trimming(placed: Sequence[PlacedClip | Silence], joining: Joining) -> Iterator[str]:
    if not joining.trim:
        return
    whole = [part.clip for part in placed if isinstance(part, PlacedClip) and not sum(part.trimmed_s)]
    silent = [clip for clip in whole if clip.measures and clip.measures.mono.loudness_lufs is None]
    if silent:
        yield f"{named([clip.source for clip in silent])}: nothing is heard in it, so nothing was trimmed"
    if len(silent) < len(whole) == sum(isinstance(part, PlacedClip) for part in placed):
        most = f"{joining.trim_threshold_ms:g} ms"
        yield f"trim removed nothing: before and after sound there are no more than {most} of silence"


def _crossfades(
    placed: Sequence[PlacedClip | Silence],
    joining: Joining,
    meets: Sequence[bool],
    fades: Sequence[bool],
    overlaps: Sequence[int],
    rate: int,
) -> Iterator[str]:
    """What people should know of how the parts meet."""
    if joining.crossfade_ms and not any(meets) and not any(fades):
        yield "crossfade_ms has no effect: no two files meet without a silence between them"
    gaps = (isinstance(left, PlacedClip) and isinstance(right, PlacedClip) for left, right in pairwise(placed))
    if joining.pause_duration_ms and not any(gaps):
        yield "pause_duration_ms has no effect: no two files meet without a silence between them"
    wanted = samples(joining.crossfade_ms, rate)
    short = [
        f"{left.clip.source} and {right.clip.source} ({overlap * 1000 / rate:.0f} ms)"
        for (left, right), is_met, overlap in zip(pairwise(placed), meets[1:], overlaps[1:], strict=False)
        if is_met and overlap < wanted and isinstance(left, PlacedClip) and isinstance(right, PlacedClip)
    ]
    if short:
        yield f"crossfades shorter than {joining.crossfade_ms:g} ms, as the clips hold no more: {named(short)}"
    ends = [(part, fades[at] + fades[at + 1]) for at, part in enumerate(placed) if isinstance(part, PlacedClip)]
    short = [
        f"{clip.clip.source} ({around * 1000 / rate:.0f} ms)"
        for clip, number in ends
        if number and (around := _around(clip, wanted, number)) < wanted // 2
    ]
    if short:
        yield f"fades at pauses shorter than {joining.crossfade_ms / 2:g} ms, as the clips hold no more: {named(short)}"


def named(sources: Sequence[str]) -> str:
    """The first of them, each once, and how many more there are."""
    several = list(dict.fromkeys(sources))
    more = f" and {len(several) - NAMED} more" if len(several) > NAMED else ""
    return ", ".join(several[:NAMED]) + more


def _span(start: int, length: int, sample_rate: int) -> dict[str, Any]:
    return {
        "start_seconds": round(start / sample_rate, 6),
        "duration_seconds": round(length / sample_rate, 6),
        "start_sample": start,
        "samples": length,
    }
