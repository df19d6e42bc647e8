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
SPARED_LU = 0.35  # as much less is good enough there; it spares the limiter the steepest part
MOST_LOST_DB = 10.0
SEARCHES, MAKINGS = 12, 3
CEILING_MARGIN_DB = 0.02  # a gain curve moves peaks by some thousandths of a decibel
SHORTEST_RANGE_S = 10.0  # of a sound with a loudness range: fewer stretches of 3 s say little about it
RANGE_TOLERANCE_LU, RANGE_AIM_LU = 0.5, -0.2  # wider than asked for: is narrowed; narrowed to
MOST_RIDE_DB = 12.0  # up or down, of the slow gain
RIDE_HOPS = 41  # tenths of a second that it averages over, under a Hann window
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
        ride = _ride(sound, lra, check)
        sound = sound.under(ride)
    gain_db = sound.gain_to(level)
    if gain_db > MOST_GAIN_DB:
        gain_db, level = MOST_GAIN_DB, sound.loudness_lufs(MOST_GAIN_DB) or level
        notes.append(f"the sound is very quiet: {gain_db:g} dB louder it is at {level:.1f} LUFS; more would raise noise")

    ceiling = _factor(true_peak_dbtp)
    is_limited = bool(sound.peaks.max() * _factor(gain_db) > ceiling)
    if is_limited:
        made = _limited(waveform, sound, ride, gain_db, level, ceiling, check)
        notes += _about_limiting(made, level, true_peak_dbtp)
    else:
        made = _Made.of(waveform, sound, ride, gain_db, check)
    made.hold(ceiling, check)
    lra_after_lu = made.sound.range_lu()
    if ride is not None and lra_after_lu is not None and lra_after_lu > lra + RANGE_TOLERANCE_LU:
        notes.append(f"the loudness range is {lra_after_lu:.1f} LU: narrower than that would squash words or raise pauses")
    return Leveled(
        Waveform(made.samples, waveform.sample_rate),
        made.gain_db,
        made.loudness_lufs,
        _db(made.peak),
        is_limited,
        lra_before_lu,
        lra_after_lu,
        notes,
    )


@dataclass(frozen=True, slots=True)
class _Sound:
    """What a sound is like, hop by hop of the limiter: the energy of its weighted samples, its true peak."""

    energies: Samples
    peaks: Samples
    hop: int
    count: int
    sample_rate: int

    @classmethod
    def of(cls, waveform: Waveform, check: Check) -> _Sound:
        hop = limiter.hop_length(waveform.sample_rate)
        energies = np.empty(-(-len(waveform.samples) // hop), np.float32)
        weighting, done = loudness.KWeighting(waveform.sample_rate, 1), 0
        rest = np.zeros(0, np.float32)
        for weighted in _weighted(waveform, weighting, check):
            rest = np.concatenate([rest, weighted])
            hops = len(rest) // hop
            energies[done : done + hops] = np.square(rest[: hops * hop]).reshape(hops, hop).sum(axis=1)
            rest, done = rest[hops * hop :], done + hops
        energies[done:] = np.square(rest).sum()
        peaks = limiter.true_peaks(waveform.samples, hop, check)
        return cls(energies, peaks, hop, len(waveform.samples), waveform.sample_rate)

    def under(self, curve: Samples) -> _Sound:
        """The same under a gain curve, nearly: the weighting filter would hear the curve a little later."""
        gains = (curve[1:] + curve[:-1]) / 2
        peaks = self.peaks * np.maximum(curve[1:], curve[:-1])
        return _Sound(self.energies * np.square(gains), peaks, self.hop, self.count, self.sample_rate)

    def loudness_lufs(self, gain_db: float = 0.0) -> float | None:
        """Gated as the standard has it; of what is too short for that, and of what is only now and then above the
        gate, the mean over all of it. None if that is below the absolute gate."""
        gain = _factor(2 * gain_db)
        gated = loudness.gated_lufs(self._powers(loudness.HOPS_OF_A_BLOCK) * gain)
        if gated is not None:
            return gated
        mean = float(self.energies.sum(dtype=np.float64)) / self.count * gain
        return loudness.lufs(mean) if mean > loudness.power(loudness.ABSOLUTE_GATE_LUFS) else None

    def gain_to(self, level: float) -> float:
        """The gain in dB that makes it this loud. More than once, since what a gain lifts over the gate counts too."""
        gain_db = 0.0
        for _ in range(3):
            gain_db += level - (self.loudness_lufs(gain_db) or level)
        return gain_db

    def range_lu(self, gain_db: Numbers | float = 0.0) -> float | None:
        """The loudness range, under a gain for each tenth of a second; None of a sound that is too short for one."""
        if self.count < SHORTEST_RANGE_S * self.sample_rate:
            return None
        return loudness.range_lu(_means(self.tenths() * 10 ** (gain_db / 10), loudness.HOPS_OF_A_SHORT_TERM))

    def tenths(self) -> Numbers:
        """The mean square of each (whole) tenth of a second, but for the hop in which it ends."""
        hops = round(self.sample_rate / loudness.HOPS_PER_S / self.hop)
        whole = len(self.energies) // hops
        sums = self.energies[: whole * hops].reshape(whole, hops).sum(axis=1, dtype=np.float64)
        return np.asarray(sums / (hops * self.hop))

    def _powers(self, tenths: int) -> Numbers:
        return _means(self.tenths(), tenths)


def _ride(sound: _Sound, lra: float, check: Check) -> Samples:
    """A slow gain that narrows the loudness range: louder stretches down, quieter ones up, by a share of their distance
    from the whole.

    It follows the speech alone, over some seconds: the gain of a pause is that of the speech around it, so neither the
    syllables nor the noise between sentences move against each other.
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

    share, step = 1.0, 0.5
    for _ in range(7):  # the smallest share that is enough, to 1 %
        check()
        gains_db = (-share * distances).clip(-MOST_RIDE_DB, MOST_RIDE_DB)
        is_enough = (sound.range_lu(gains_db) or 0.0) <= lra + RANGE_AIM_LU
        if share == 1 and not is_enough:
            break
        share, step = share - step if is_enough else share + step, step / 2
    gains_db = (-share * distances).clip(-MOST_RIDE_DB, MOST_RIDE_DB)

    ride = np.empty(len(sound.peaks) + 1, np.float32)
    at_s = (np.arange(len(powers)) + 0.5) / loudness.HOPS_PER_S
    for first in range(0, len(ride), BLOCK):
        check()
        nodes = np.arange(first, min(first + BLOCK, len(ride)))
        ride[first : first + BLOCK] = 10 ** (np.interp(nodes * sound.hop / sound.sample_rate, at_s, gains_db) / 20)
    return ride


@dataclass(slots=True)
class _Made:
    """The sound as it will be given back. `sound` is what the curves should have made of it."""

    samples: Samples
    gain_db: float
    loudness_lufs: float | None
    peak: float
    sound: _Sound
    lost_db: float = 0.0

    @classmethod
    def of(cls, waveform: Waveform, sound: _Sound, curve: Samples | None, gain_db: float, check: Check) -> _Made:
        """Nothing has to be heard again where the gain is one for the whole sound."""
        gain = _factor(gain_db)
        if curve is None:
            made = np.empty(len(waveform.samples), np.float32)
            for part, out in zip(_blocks(waveform.samples, check), _blocks(made), strict=True):
                np.multiply(part, np.float32(gain), out=out)
            return cls(made, gain_db, sound.loudness_lufs(gain_db), float(sound.peaks.max()) * gain, sound)
        made = limiter.shaped(waveform.samples, curve, sound.hop, gain, check)
        meter = loudness.LoudnessMeter(waveform.sample_rate)
        for part in _blocks(made, check):
            meter.add(part)
        loudness_lufs = meter.integrated_lufs
        if loudness_lufs is None:
            loudness_lufs = sound.loudness_lufs(gain_db)
        return cls(made, gain_db, loudness_lufs, limiter.true_peak(made, check), sound)

    def hold(self, ceiling: float, check: Check) -> None:
        """Lower all of it by what the highest peak is over the ceiling."""
        if self.peak <= ceiling:
            return
        for part in _blocks(self.samples, check):
            part *= np.float32(ceiling / self.peak)
        change_db = _db(ceiling / self.peak)
        self.gain_db += change_db
        if self.loudness_lufs is not None:
            self.loudness_lufs += change_db
        self.peak = ceiling


def _limited(
    waveform: Waveform,
    sound: _Sound,
    ride: Samples | None,
    gain_db: float,
    level: float,
    ceiling: float,
    check: Check,
) -> _Made:
    """The sound under the limiter, as loud as `level`; made again if it turns out otherwise than foreseen."""
    aim, held_at = level, ceiling * _factor(-CEILING_MARGIN_DB)
    for turn in range(1, MAKINGS + 1):
        search = _Search(sound, gain_db, held_at, check)
        driven_db, curve = search.toward(aim)
        under = sound.under(curve)
        foreseen = under.loudness_lufs(driven_db)
        made = _Made.of(waveform, under, curve if ride is None else np.multiply(curve, ride, out=curve), driven_db, check)
        made.lost_db = search.lost_db(driven_db, foreseen)
        missed = (made.loudness_lufs or 0.0) - (foreseen or 0.0)
        if turn == MAKINGS or (abs(missed) < FAR_LU and made.peak <= ceiling * _factor(FAR_DB)):
            return made
        aim -= missed
        held_at *= min(1.0, ceiling / made.peak)
    raise AssertionError
