"""Brings a sound to a loudness (ITU-R BS.1770-4) under a true-peak ceiling, or its largest sample to a level.

A sound is listened to once, for its weighted energy and its true peak in every half millisecond. The gains are worked
out from these, however often that has to be tried. Then the sound is made in one go, and heard again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.audio import limiter, loudness
from utils.audio.waveform import Waveform

MOST_GAIN_DB = 30.0  # with more of it, what gets louder is the noise
SILENT_PEAK = 2.0**-15  # the smallest step of 16 bits
CLOSE_LU, FAR_LU = 0.02, 0.1  # where a search ends; how far off a result may be before it is made again
HEAVY_DB = 6.0  # of loudness lost to the limiter: beyond, most of what is added is taken away again
SPARED_LU = 0.25  # as much less is good enough there; it spares the limiter the steepest part
MOST_LOST_DB = 10.0
SEARCHES, MAKINGS = 12, 3  # at most, for a gain and of the sound
FAR_DB = 0.05  # of a peak over its ceiling: beyond, the limiter works again; up to it, all is made softer by as much
CEILING_MARGIN_DB = 0.02  # a gain curve moves peaks by some thousandths of a decibel
SHORTEST_RANGE_S = 10.0  # of a sound with a loudness range: fewer stretches of 3 s say little about it
RANGE_TOLERANCE_LU, RANGE_AIM_LU = 0.5, -0.2  # how much wider than asked for may be; what is aimed at
LEAST_NARROWING_LU = 0.5  # for less a slow gain is not worth it
MOST_RIDE_DB = 12.0  # up or down, of the slow gain
RIDE_STEPS = 20  # shares that are tried
RIDE_HOPS = 31  # tenths of a second that it averages over, under a Hann window
BLOCK = 1 << 17  # samples between two checks

Samples = NDArray[np.float32]
Numbers = NDArray[np.float64]
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Leveled:
    """A sound, and what it is like now.

    `gain_db` is what the whole of it was given, before the limiter and apart from the slow gain. The loudness is None
    where there is none (silence) and with the method peak, the ranges where they are not measured (those, and under
    10 s). `notes` are for people: what could not be done as it was asked for.
    """

    waveform: Waveform
    gain_db: float = 0.0
    loudness_lufs: float | None = None
    true_peak_dbtp: float | None = None
    is_limited: bool = False
    lra_before_lu: float | None = None
    lra_after_lu: float | None = None
    notes: list[str] = field(default_factory=list)

    def about(self) -> dict[str, Any]:
        """All but the sound and the notes, ready for JSON."""
        return {
            "gain_db": round(self.gain_db, 2),
            "loudness_lufs": _rounded(self.loudness_lufs),
            "true_peak_dbtp": _rounded(self.true_peak_dbtp),
            "is_limited": self.is_limited,
            "lra_before_lu": _rounded(self.lra_before_lu),
            "lra_after_lu": _rounded(self.lra_after_lu),
        }


def normalized(
    waveform: Waveform,
    *,
    method: Literal["ebu", "peak"],
    level: float,
    true_peak_dbtp: float,
    lra: float,
    check: Check = lambda: None,
) -> Leveled:
    """The sound at `level`: LUFS with the method ebu, dBFS of its largest sample with the method peak.

    With ebu no true peak is above `true_peak_dbtp`, and a loudness range wider than `lra` is narrowed by a slow gain;
    with peak these two mean nothing. Length and time stay, and the given samples are not written to. `check` is called
    between pieces of work of some hundredths of a second, and may raise to leave.
    """
    largest = max((float(np.abs(part).max()) for part in _blocks(waveform.samples, check)), default=0.0)
    if largest < SILENT_PEAK:
        return Leveled(waveform, notes=["the sound is silent: its level was not changed"])
    if method == "peak":
        return _to_peak(waveform, largest, level, check)
    return _to_loudness(waveform, level, true_peak_dbtp, lra, check)


def _to_peak(waveform: Waveform, largest: float, level: float, check: Check) -> Leveled:
    wanted = _factor(level)
    made = np.empty(len(waveform.samples), np.float32)
    for part, out in zip(_blocks(waveform.samples, check), _blocks(made), strict=True):
        np.multiply(part, np.float32(wanted / largest), out=out)
        np.clip(out, -wanted, wanted, out=out)  # products are rounded
    return Leveled(
        Waveform(made, waveform.sample_rate),
        gain_db=_db(wanted / largest),
        true_peak_dbtp=_db(limiter.true_peak(made, check)),
    )


def _to_loudness(waveform: Waveform, level: float, true_peak_dbtp: float, lra: float, check: Check) -> Leveled:
    sound = _Sound.of(waveform, check)
    if sound.loudness_lufs() is None:
        gate = f"{loudness.ABSOLUTE_GATE_LUFS:g} LUFS"
        return Leveled(waveform, notes=[f"nothing in the sound is louder than {gate}: its level was not changed"])
    notes: list[str] = []
    lra_before_lu, ride = sound.range_lu(), None
    if lra_before_lu is not None and lra_before_lu > lra + RANGE_TOLERANCE_LU:
        ride = _ride(sound, lra_before_lu, lra, check)
    ridden = sound if ride is None else sound.under(ride, check)
    gain_db, aim = ridden.gain_to(level), level
    if gain_db > MOST_GAIN_DB:
        notes.append(f"{level:g} LUFS would take {gain_db:.0f} dB: it got {MOST_GAIN_DB:g}, not to raise its noise")
        gain_db, aim = MOST_GAIN_DB, level - gain_db + MOST_GAIN_DB

    ceiling, out = _factor(true_peak_dbtp), np.empty(len(waveform.samples), np.float32)
    is_limited = float(ridden.peaks.max()) * _factor(gain_db) > ceiling
    if is_limited:
        made = _limited(waveform, ridden, ride, gain_db, aim, ceiling, out, check)
    else:
        made = _made(waveform, ridden, ride, gain_db, out, check)
    made.hold(ceiling, check)
    if made.lost_db > HEAVY_DB and made.loudness_lufs is not None:
        notes.append(
            f"{level:g} LUFS under {true_peak_dbtp:g} dBTP takes heavy limiting: "
            f"it is at {made.loudness_lufs:.1f} LUFS, and rougher than before"
        )
    lra_after_lu = made.foreseen.range_lu()
    if lra_before_lu is not None and lra_after_lu is not None and lra_after_lu > lra + RANGE_TOLERANCE_LU:
        notes.append(f"the loudness range is {lra_after_lu:.1f} LU: narrower takes quicker changes than sound natural")
    return Leveled(
        Waveform(made.samples, waveform.sample_rate),
        gain_db=made.gain_db,
        loudness_lufs=made.loudness_lufs,
        true_peak_dbtp=_db(made.peak),
        is_limited=is_limited,
        lra_before_lu=lra_before_lu,
        lra_after_lu=lra_after_lu,
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class _Sound:
    """What a sound is like, hop by hop of the limiter: the energy of its weighted samples, its true peak."""

    energies: Samples
    peaks: Samples
    hop: int
    count: int
    sample_rate: int

    @property
    def hops_per_s(self) -> float:
        return self.sample_rate / self.hop

    @classmethod
    def of(cls, waveform: Waveform, check: Check) -> _Sound:
        hop = limiter.hop_length(waveform.sample_rate)
        energies = np.empty(-(-len(waveform.samples) // hop), np.float32)
        rest, done = np.zeros(0, np.float32), 0
        for weighted in _weighted(waveform, check):
            rest = np.concatenate([rest, weighted])
            hops = len(rest) // hop
            energies[done : done + hops] = np.square(rest[: hops * hop]).reshape(hops, hop).sum(axis=1)
            rest, done = rest[hops * hop :], done + hops
        energies[done:] = np.square(rest).sum()  # of the last hop, if it is shorter
        peaks = limiter.true_peaks(waveform.samples, hop, check)
        return cls(energies, peaks, hop, len(waveform.samples), waveform.sample_rate)

    def under(self, curve: Samples, check: Check) -> _Sound:
        """The same under a gain curve, nearly: the weighting filter would hear the curve a little later."""
        energies, peaks = np.empty_like(self.energies), np.empty_like(self.peaks)
        for first in range(0, len(energies), BLOCK):
            check()
            hops = slice(first, first + BLOCK)
            begins, ends = curve[:-1][hops], curve[1:][hops]
            np.multiply(self.energies[hops], np.square((begins + ends) / 2), out=energies[hops])
            np.multiply(self.peaks[hops], np.maximum(begins, ends), out=peaks[hops])
        return _Sound(energies, peaks, self.hop, self.count, self.sample_rate)

    def loudness_lufs(self, gain_db: float = 0.0) -> float | None:
        """Under a gain, gated as the standard has it; None where all of it is below the absolute gate.

        What the standard leaves unmeasured because it is short, or sounds for less than a gating block, counts by its
        mean.
        """
        gain = _factor(2 * gain_db)
        gated = loudness.gated_lufs(_means(self.tenths(), loudness.HOPS_OF_A_BLOCK) * gain)
        if gated is not None:
            return gated
        mean = float(self.energies.sum(dtype=np.float64)) / self.count * gain
        return loudness.lufs(mean) if mean > loudness.power(loudness.ABSOLUTE_GATE_LUFS) else None

    def gain_to(self, level: float) -> float:
        """In dB, to this loudness; what a gain lifts over the absolute gate counts too."""
        gain_db = level - self.at_least_lufs(0.0)
        for _ in range(2 if gain_db > 0 else 0):
            gain_db += level - self.at_least_lufs(gain_db)
        return gain_db

    def at_least_lufs(self, gain_db: float) -> float:
        """The loudness under a gain; that of the absolute gate where there is none."""
        heard = self.loudness_lufs(gain_db)
        return loudness.ABSOLUTE_GATE_LUFS if heard is None else heard

    def range_lu(self, gains_db: Numbers | float = 0.0) -> float | None:
        """The loudness range, under a gain for each tenth of a second; None if it is too short to have one."""
        if self.count < SHORTEST_RANGE_S * self.sample_rate:
            return None
        return loudness.range_lu(_means(self.tenths() * 10 ** (gains_db / 10), loudness.HOPS_OF_A_SHORT_TERM))

    def tenths(self) -> Numbers:
        """The mean square of each tenth of a second, or as near to one as hops allow, while it is whole."""
        hops = self._hops_of_a_tenth
        whole = len(self.energies) // hops
        sums = self.energies[: whole * hops].reshape(whole, hops).sum(axis=1, dtype=np.float64)
        return np.asarray(sums / (hops * self.hop))

    @property
    def tenth_s(self) -> float:
        return self._hops_of_a_tenth / self.hops_per_s

    @property
    def _hops_of_a_tenth(self) -> int:
        return max(1, round(self.hops_per_s / loudness.HOPS_PER_S))


def _ride(sound: _Sound, lra_before_lu: float, lra: float, check: Check) -> Samples | None:
    """A slow gain that narrows the loudness range: louder stretches down, quieter ones up, by a share of their distance
    from the whole.

    It follows the speech alone, over some seconds: a pause has the gain of the speech around it, so neither syllables
    nor the noise of pauses move against their neighbours. The smallest share that is enough, the best one if none is;
    None if none helps, as where the range is that of pauses.
    """
    powers = sound.tenths()
    momentary = np.convolve(powers, np.full(loudness.HOPS_OF_A_BLOCK, 1 / loudness.HOPS_OF_A_BLOCK), "same")
    middle_lufs = sound.loudness_lufs() or 0.0
    gate = loudness.power(max(middle_lufs + loudness.RANGE_GATE_LU, loudness.ABSOLUTE_GATE_LUFS))
    is_speech = momentary > gate
    levels = loudness.OFFSET_LU + 10 * np.log10(np.maximum(momentary, gate))
    window = np.hanning(RIDE_HOPS + 2)[1:-1]
    shares = np.convolve(is_speech, window, "same")
    near = np.convolve(is_speech * levels, window, "same")
    known = np.flatnonzero(shares)
    distances = np.interp(np.arange(len(powers)), known, near[known] / shares[known]) - middle_lufs

    best_lu, best_db = lra_before_lu - LEAST_NARROWING_LU, None
    for step in range(1, RIDE_STEPS + 1):
        check()
        gains_db = (-step / RIDE_STEPS * distances).clip(-MOST_RIDE_DB, MOST_RIDE_DB)
        range_lu = sound.range_lu(gains_db)
        if range_lu is not None and range_lu < best_lu:
            best_lu, best_db = range_lu, gains_db
        if best_lu <= lra + RANGE_AIM_LU:
            break
    if best_db is None:
        return None

    ride = np.empty(len(sound.peaks) + 1, np.float32)
    at_s = (np.arange(len(powers)) + 0.5) * sound.tenth_s
    for first in range(0, len(ride), BLOCK):
        check()
        nodes = np.arange(first, min(first + BLOCK, len(ride)))
        ride[first : first + BLOCK] = 10 ** (np.interp(nodes / sound.hops_per_s, at_s, best_db) / 20)
    return ride


@dataclass(slots=True)
class _Made:
    """The sound as it will be given back, and what was foreseen of it; `lost_db` of loudness went to the limiter."""

    samples: Samples
    gain_db: float
    loudness_lufs: float | None
    peak: float
    foreseen: _Sound
    lost_db: float = 0.0

    def hold(self, ceiling: float, check: Check) -> None:
        """Lower all of it by what its highest peak is above the ceiling."""
        if self.peak <= ceiling:
            return
        for part in _blocks(self.samples, check):
            np.multiply(part, np.float32(ceiling / self.peak), out=part)
        self.gain_db -= _db(self.peak / ceiling)
        if self.loudness_lufs is not None:
            self.loudness_lufs -= _db(self.peak / ceiling)
        self.peak = ceiling


def _made(
    waveform: Waveform, sound: _Sound, curve: Samples | None, gain_db: float, out: Samples, check: Check
) -> _Made:
    """The sound under a curve and a gain, in `out`. It is heard again unless it is the same throughout, only louder."""
    gain = _factor(gain_db)
    foreseen_lufs = sound.loudness_lufs(gain_db)
    if curve is None:
        for part, made in zip(_blocks(waveform.samples, check), _blocks(out), strict=True):
            np.multiply(part, np.float32(gain), out=made)
        return _Made(out, gain_db, foreseen_lufs, float(sound.peaks.max()) * gain, sound)
    limiter.shape(waveform.samples, curve, sound.hop, gain, out, check)
    meter = loudness.LoudnessMeter(waveform.sample_rate)
    for part in _blocks(out, check):
        meter.add(part)
    heard_lufs = meter.integrated_lufs
    loudness_lufs = foreseen_lufs if heard_lufs is None else heard_lufs
    return _Made(out, gain_db, loudness_lufs, limiter.true_peak(out, check), sound)


def _limited(
    waveform: Waveform,
    sound: _Sound,
    ride: Samples | None,
    gain_db: float,
    level: float,
    ceiling: float,
    out: Samples,
    check: Check,
) -> _Made:
    """The sound under the limiter, as loud as `level`; made again if it turns out otherwise than foreseen."""
    aim, held_at = level, ceiling * _factor(-CEILING_MARGIN_DB)
    for _ in range(MAKINGS):
        found = _searched(sound, gain_db, aim, held_at, check)
        if found.lost_db > HEAVY_DB:
            found = _searched(sound, gain_db, aim - SPARED_LU, held_at, check)
        foreseen = sound.under(found.curve, check)
        if ride is not None:
            found.curve[:] *= ride
        made = _made(waveform, foreseen, found.curve, found.gain_db, out, check)
        made.lost_db = found.lost_db
        missed_lu = 0.0 if made.loudness_lufs is None else made.loudness_lufs - found.loudness_lufs
        if abs(missed_lu) < FAR_LU and made.peak <= ceiling * _factor(FAR_DB):
            break
        aim -= missed_lu
        held_at *= min(1.0, ceiling / made.peak)
    return made


@dataclass(frozen=True, slots=True)
class _Found:
    gain_db: float
    curve: Samples
    loudness_lufs: float
    lost_db: float


def _searched(sound: _Sound, gain_db: float, aim: float, ceiling: float, check: Check) -> _Found:
    """The gain, with the limiter's curve, that brings the sound to a loudness or, if that comes first, loses the most
    that may be lost. Without the limiter it would be `gain_db`.

    Both grow with the gain, so this is the search for a root: by secants, within what is known to be too little and
    too much.
    """
    low = min(gain_db, _db(ceiling / float(sound.peaks.max())))  # nothing to limit
    top = high = max(gain_db, min(gain_db + MOST_LOST_DB, MOST_GAIN_DB))
    tried_db, last = gain_db, (low, low - gain_db)  # without a limiter, a decibel is a decibel
    for _ in range(SEARCHES):
        curve = limiter.gain_curve(sound.peaks, ceiling / _factor(tried_db), sound.hops_per_s, check)
        reached = sound.under(curve, check).at_least_lufs(tried_db)
        found = _Found(tried_db, curve, reached, sound.at_least_lufs(tried_db) - reached)
        over = max(reached - aim, found.lost_db - MOST_LOST_DB)
        if abs(over) < CLOSE_LU or (tried_db >= top and over < 0):
            break
        low, high = (tried_db, high) if over < 0 else (low, tried_db)
        slope = (over - last[1]) / (tried_db - last[0]) if tried_db != last[0] else 1.0
        last = (tried_db, over)
        tried_db = tried_db - over / slope if slope > 0 else math.inf
        if not low < tried_db < high:
            tried_db = top if high == top and over < 0 else (low + high) / 2
    return found


def _weighted(waveform: Waveform, check: Check) -> Iterator[Samples]:
    weighting = loudness.KWeighting(waveform.sample_rate, 1)
    for part in _blocks(waveform.samples, check):
        for weighted in weighting.add(part):
            yield weighted[0]
    yield weighting.rest()[0]


def _means(powers: Numbers, count: int) -> Numbers:
    """Of every so many in a row; none of fewer."""
    return np.convolve(powers, np.full(count, 1 / count), "valid") if len(powers) >= count else np.zeros(0)


def _blocks(samples: Samples, check: Check = lambda: None) -> Iterator[Samples]:
    for start in range(0, len(samples), BLOCK):
        check()
        yield samples[start : start + BLOCK]


def _factor(db: float) -> float:
    return float(10 ** (db / 20))


def _db(factor: float) -> float:
    return 20 * math.log10(factor)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
