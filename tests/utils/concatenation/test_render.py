from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from resilience.errors import FileMissing, InvalidAudio
from tests.listen import energy_at, loudness_lufs
from tests.utils.concatenation.sounds import RATE, Samples, clip, noise, pydub_segments
from utils.audio.decode import BLOCK_FRAMES
from utils.audio.limiter import true_peak
from utils.audio.waveform import Waveform
from utils.concatenation.render import rendered
from utils.concatenation.timeline import Clip, Joining, Silence, timeline

Parts = list[Clip | Silence]


def heard(parts: Sequence[Clip | Silence], **joining: Any) -> Samples:
    """All of it, shape (n,) if it is mono."""
    plan = timeline(parts, Joining(**joining))
    whole = np.concatenate(list(rendered(plan)))
    assert len(whole) == plan.extent.count
    return whole[:, 0] if plan.extent.channels == 1 else whole


def test_clips_and_silences_follow_each_other_untouched(tmp_path: Path) -> None:
    one, two = noise(BLOCK_FRAMES + 7, 1), noise(100, 2)
    parts: Parts = [
        Silence("(50ms)", 50),
        clip(tmp_path, "1.wav", one),
        Silence("(1s)", 1000),
        clip(tmp_path, "2.wav", two),
    ]

    whole = heard(parts)

    expected = np.concatenate([np.zeros((1200, 1)), one, np.zeros((RATE, 1)), two])
    assert np.array_equal(whole, expected[:, 0])


@pytest.mark.parametrize("channels", [1, 2])
def test_plain_joins_are_pydubs_to_the_last_bit(tmp_path: Path, channels: int) -> None:
    sounds = [noise(RATE * 3 + seed, seed, channels) for seed in range(3)]
    clips = [clip(tmp_path, f"{index}.wav", sound) for index, sound in enumerate(sounds)]
    parts: Parts = [clips[0], Silence("(250ms)", 250), clips[1], clips[2]]

    ours = heard(parts, channels="auto")

    segment = pydub_segments()
    one, two, three = (
        segment(np.int16(sound * 32768).tobytes(), sample_width=2, frame_rate=RATE, channels=channels)
        for sound in sounds
    )
    theirs = one + segment.silent(250, frame_rate=RATE).set_channels(channels) + two
    theirs = theirs.append(three, crossfade=0)
    expected = np.array(theirs.get_array_of_samples(), np.float32).reshape(-1, channels) / 32768
    assert np.array_equal(ours.reshape(-1, channels), expected)


@pytest.mark.parametrize("curve", ["equal_power", "linear"])
@pytest.mark.parametrize("overlap_ms", [1, 20, 3100])
def test_a_crossfade_is_the_sum_of_both_under_their_gains(tmp_path: Path, curve: str, overlap_ms: int) -> None:
    one, two = (noise(4 * RATE, seed) for seed in range(2))
    clips = [clip(tmp_path, f"{index}.wav", sound) for index, sound in enumerate((one, two))]
    overlap = overlap_ms * RATE // 1000

    whole = heard(clips, crossfade_ms=overlap_ms, crossfade_curve=curve)

    share = np.linspace(0, 1, overlap)
    rise, fall = (
        (np.sin(np.pi / 2 * share), np.cos(np.pi / 2 * share)) if curve == "equal_power" else (share, 1 - share)
    )
    joint = one[-overlap:, 0] * fall + two[:overlap, 0] * rise
    expected = np.concatenate([one[:-overlap, 0], joint, two[overlap:, 0]])
    assert np.allclose(whole, expected, atol=1e-6)
    assert np.array_equal(whole[: 4 * RATE - overlap], one[:-overlap, 0])
    assert np.array_equal(whole[4 * RATE :], two[overlap:, 0])


def test_a_crossfade_of_equal_power_keeps_the_power_of_unlike_sounds(tmp_path: Path) -> None:
    clips = [clip(tmp_path, f"{seed}.wav", noise(3 * RATE, seed)) for seed in range(2)]

    whole = heard(clips, crossfade_ms=2000)

    powers = [float(np.square(part).mean()) for part in np.array_split(whole, 8)]
    assert max(powers) / min(powers) < 1.06


@pytest.mark.parametrize(("level", "told"), [(0.9, ["2.wav"]), (0.6, [])])
def test_a_crossfade_that_would_exceed_full_scale_is_held_there_and_told(
    tmp_path: Path, level: float, told: list[str]
) -> None:
    loud = np.full((RATE, 1), level, np.float32)
    clips = [clip(tmp_path, "1.wav", loud), clip(tmp_path, "2.wav", loud)]
    warnings: list[str] = []

    whole = np.concatenate(list(rendered(timeline(clips, Joining(crossfade_ms=500)), warn=warnings.append)))

    assert whole.max() == pytest.approx(min(1, level * 2**0.5), rel=1e-3)
    assert [warning.rpartition(": ")[2] for warning in warnings] == told


def test_crossfades_of_a_chain_of_short_clips_never_overlap(tmp_path: Path) -> None:
    sounds = [noise(1000 + 11 * seed, seed) for seed in range(5)]
    clips = [clip(tmp_path, f"{index}.wav", sound) for index, sound in enumerate(sounds)]
    plan = timeline(clips, Joining(crossfade_ms=500))

    whole = np.concatenate(list(rendered(plan)))[:, 0]

    expected = np.zeros(plan.extent.count)
    for entry, sound in zip(plan.clips, sounds, strict=True):
        gains = np.ones(len(sound))
        before, after = entry.overlap_before, entry.overlap_after
        gains[:before] *= np.sin(np.pi / 2 * np.linspace(0, 1, before))
        gains[len(gains) - after :] *= np.cos(np.pi / 2 * np.linspace(0, 1, after))
        expected[entry.start : entry.start + len(sound)] += sound[:, 0] * gains
        assert before + after <= len(sound)
    assert np.allclose(whole, expected, atol=1e-6)


def test_around_a_natural_pause_both_clips_fade_over_half_the_crossfade(tmp_path: Path) -> None:
    level = np.full((RATE, 1), 0.25, np.float32)
    clips = [clip(tmp_path, f"{index}.wav", level) for index in range(2)]

    whole = heard(clips, crossfade_ms=400, pause_duration_ms=300)

    assert len(whole) == 2 * RATE + 7200
    sounding = whole[: RATE - 4800]
    assert np.array_equal(sounding, level[: len(sounding), 0])
    assert np.allclose(whole[RATE - 4800 : RATE], 0.25 * np.cos(np.pi / 2 * np.linspace(0, 1, 4800)), atol=1e-6)
    assert not whole[RATE : RATE + 7200].any()
    assert whole[RATE + 7200 + 4800] == 0.25


def test_a_silence_is_never_faded_to(tmp_path: Path) -> None:
    level = np.full((RATE, 1), 0.25, np.float32)
    parts: Parts = [clip(tmp_path, "1.wav", level), Silence("(1s)", 1000), clip(tmp_path, "2.wav", level)]

    whole = heard(parts, crossfade_ms=400, pause_duration_ms=300)

    assert np.array_equal(np.flatnonzero(whole), np.r_[0:RATE, 2 * RATE : 3 * RATE])


def test_the_fades_and_the_gain_of_a_clip_are_its_own(tmp_path: Path) -> None:
    level = np.full((RATE, 1), 0.25, np.float32)
    said: dict[str, Any] = {"gain_db": -6.0206, "fade_in_ms": 100, "fade_out_ms": 200}
    parts: Parts = [clip(tmp_path, "1.wav", level, **said), clip(tmp_path, "2.wav", level)]

    whole = heard(parts)

    assert whole[0] == 0
    assert whole[1200] == pytest.approx(0.125 * np.sin(np.pi / 4), rel=1e-3)
    assert whole[RATE // 2] == pytest.approx(0.125, rel=1e-4)
    assert abs(whole[RATE - 1]) < 1e-6
    assert np.array_equal(whole[RATE:], level[:, 0])


def test_mixed_rates_come_to_the_highest_exactly_as_long(tmp_path: Path) -> None:
    rates = [8_000, 22_050, 44_100, 48_000]
    clips = [clip(tmp_path, f"{rate}.wav", noise(rate + 13, rate), rate) for rate in rates]

    plan = timeline(clips, Joining())

    assert plan.extent.sample_rate == 48_000
    assert [entry.length for entry in plan.clips] == [round((rate + 13) * 48_000 / rate) for rate in rates]
    assert len(heard(clips)) == plan.extent.count


def test_a_change_of_rate_brings_in_no_image(tmp_path: Path) -> None:
    seconds = np.arange(16_000 * 2) / 16_000
    tone = (0.5 * np.sin(2 * np.pi * 7_000 * seconds)).astype(np.float32).reshape(-1, 1)
    silent = np.zeros((4_800, 1), np.float32)
    clips = [clip(tmp_path, "tone.wav", tone, 16_000), clip(tmp_path, "fast.wav", silent, 48_000)]

    whole = heard(clips)[:96_000]

    spectrum = np.abs(np.fft.rfft(whole * np.hanning(len(whole))))
    hz = np.fft.rfftfreq(len(whole), 1 / 48_000)
    image = spectrum[hz > 8_500].max() / spectrum.max()
    assert 20 * np.log10(image) < -90
    assert energy_at(Waveform(whole, 48_000), 7_000) > -0.1


@pytest.mark.parametrize(("wanted", "expected"), [("mono", 1), ("stereo", 2), ("auto", 2)])
def test_channels_are_as_they_were_asked_for(tmp_path: Path, wanted: str, expected: int) -> None:
    both, one = noise(500, 1, channels=2), noise(300, 2)
    clips = [clip(tmp_path, "2.wav", both), clip(tmp_path, "1.wav", one)]

    whole = heard(clips, channels=wanted).reshape(-1, expected)

    if expected == 2:
        assert np.array_equal(whole, np.concatenate([both, np.repeat(one, 2, axis=1)]))
    else:
        assert np.allclose(whole, np.concatenate([both.mean(axis=1, keepdims=True), one]), atol=1e-7)


@pytest.mark.parametrize("channels", ["mono", "stereo"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_clips_are_brought_to_one_loudness(tmp_path: Path, channels: str, rate: int) -> None:
    levels = [0.01, 0.2, 0.9]
    clips = [clip(tmp_path, f"{level}.wav", noise(rate * 2, 3, level=level), rate) for level in levels]

    whole = heard(clips, channels=channels, normalize_levels=True, level_lufs=-23)

    parts = np.split(whole.reshape(len(whole), -1), 3)
    sides = parts[0].shape[1]
    each = [loudness_lufs(Waveform(part[:, 0], rate)) + 10 * np.log10(sides) for part in parts]
    assert each == pytest.approx([-23, -23, -23], abs=0.1)


@pytest.mark.parametrize("channels", [1, 2])
def test_no_true_peak_is_above_the_ceiling(tmp_path: Path, channels: int) -> None:
    quiet = noise(RATE * 2, 4, channels, level=0.02)
    quiet[RATE::4000] = 0.9
    parts: Parts = [
        clip(tmp_path, "clicks.wav", quiet),
        clip(tmp_path, "2.wav", noise(RATE, 5, channels)),
    ]

    whole = heard(parts, channels="auto", normalize_levels=True, level_lufs=-20, level_tp=-3)

    whole = whole.reshape(-1, channels)[: RATE * 2]
    assert max(true_peak(whole[:, side].copy()) for side in range(channels)) < 10 ** (-2.95 / 20)
    assert whole.shape[0] == RATE * 2


def test_trimming_cuts_what_is_longer_than_the_threshold_and_keeps_50_ms(tmp_path: Path) -> None:
    sound = noise(RATE, 6)
    padded = np.concatenate([np.zeros((RATE, 1), np.float32), sound, np.zeros((RATE // 10, 1), np.float32)])
    plan = timeline([clip(tmp_path, "1.wav", padded), clip(tmp_path, "2.wav", sound)], Joining(trim=True))

    whole = np.concatenate(list(rendered(plan)))[:, 0]

    first = plan.clips[0]
    assert first.first == pytest.approx(RATE - 1200, abs=240)
    assert first.last == len(padded)
    assert np.array_equal(whole[: first.length], padded[first.first : first.last, 0])


def test_a_clip_that_is_gone_or_another_is_named(tmp_path: Path) -> None:
    clips = [clip(tmp_path, f"{index}.wav", noise(1000, index)) for index in range(2)]
    plan = timeline(clips, Joining())

    soundfile.write(clips[1].path, noise(900), RATE)
    with pytest.raises(InvalidAudio, match=r"1\.wav: .*changed"):
        list(rendered(plan))
    clips[1].path.unlink()
    with pytest.raises(FileMissing, match=r"1\.wav"):
        list(rendered(plan))


def test_whoever_leaves_is_let_go_at_the_next_block(tmp_path: Path) -> None:
    class Left(Exception):
        pass

    asked = itertools.count()

    def check() -> None:
        if next(asked) == 3:
            raise Left

    plan = timeline([clip(tmp_path, "1.wav", noise(10 * BLOCK_FRAMES)), Silence("(1s)", 1000)], Joining())

    with pytest.raises(Left):
        list(rendered(plan, check))
    assert next(asked) == 4


def test_a_long_clip_takes_the_memory_of_some_blocks(tmp_path: Path) -> None:
    long = clip(tmp_path, "long.wav", np.tile(noise(RATE), (600, 1)))
    plan = timeline(
        [long, long],
        Joining(normalize_levels=True, level_lufs=-5, level_tp=-9, crossfade_ms=5000, trim=True, channels="stereo"),
    )
    for _ in itertools.islice(rendered(plan), 3):
        pass

    tracemalloc.start()
    for _ in itertools.islice(rendered(plan), 300):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 24_000_000  # the clip has 58 million bytes
