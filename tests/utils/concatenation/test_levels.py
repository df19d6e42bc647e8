from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.listen import loudness_lufs
from tests.recordings import vowels
from tests.utils.concatenation.sounds import RATE, Samples, clip, noise
from utils.audio.decode import BLOCK_FRAMES
from utils.audio.limiter import hop_length, true_peak
from utils.audio.waveform import Waveform
from utils.concatenation.levels import drive_db
from utils.concatenation.render import rendered
from utils.concatenation.timeline import Joining, timeline


@pytest.mark.parametrize("level_lufs", [-20, -16, -13])
@pytest.mark.parametrize("channels", ["mono", "stereo"])
def test_a_limited_clip_is_as_loud_as_the_others(tmp_path: Path, level_lufs: float, channels: str) -> None:
    voice = vowels(120).samples
    peaky = (0.3 * voice * (1 + 4 * (np.arange(len(voice)) % (RATE // 2) < 400)))[:, np.newaxis].astype(np.float32)
    clips = [clip(tmp_path, "peaky.wav", peaky), clip(tmp_path, "even.wav", noise(3 * RATE))]
    how = Joining(normalize_levels=True, level_lufs=level_lufs, level_tp=-2, channels=channels)  # type: ignore[arg-type]

    driven = [replace(one, drive_db=drive_db(one, how, 1 if channels == "mono" else 2)) for one in clips]

    whole = np.concatenate(list(rendered(timeline(driven, how))))
    sides = 10 * np.log10(whole.shape[1])
    first, second = np.split(whole[:, 0], [len(peaky)])
    assert driven[0].drive_db > 0.1
    assert driven[1].drive_db < 0.5
    assert loudness_lufs(Waveform(first, RATE)) + sides == pytest.approx(level_lufs, abs=0.2)
    assert loudness_lufs(Waveform(second, RATE)) + sides == pytest.approx(level_lufs, abs=0.2)
    assert true_peak(np.ascontiguousarray(first)) < 10 ** (-1.95 / 20)


def peaky(count: int, channels: int = 1) -> Samples:
    """Soft, but for a click in every quarter of a second: levelling drives the limiter."""
    samples = noise(count, channels=channels, level=0.02)
    samples[100 :: RATE // 4] = 0.9
    return samples


@pytest.mark.parametrize("rate", [24_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_a_limited_clip_may_be_of_any_length(tmp_path: Path, rate: int, channels: int, blocks: int) -> None:
    beside = [-hop_length(rate), -1, 0, 1, 7, hop_length(rate), 500, 5000, 20_000]
    counts = [count for more in beside if (count := blocks * BLOCK_FRAMES + more) > 0]
    how = Joining(normalize_levels=True, channels="auto", crossfade_ms=20)
    clips = [clip(tmp_path, f"{count}.wav", peaky(count, channels), rate) for count in counts]
    clips.append(clip(tmp_path, "other.wav", noise(RATE), 48_000))  # so that every clip changes its rate, too

    driven = [replace(one, drive_db=drive_db(one, how, channels)) for one in clips]

    plan = timeline(driven, how)
    assert all(one.ceiling is not None for one in plan.clips[:-1] if one.length > rate)
    assert sum(map(len, rendered(plan))) == plan.extent.count


def test_what_is_not_limited_is_not_listened_to_again(tmp_path: Path) -> None:
    quiet = clip(tmp_path, "1.wav", noise(RATE))
    quiet.path.unlink()

    assert drive_db(quiet, Joining(normalize_levels=True, level_lufs=-30), 1) == 0
    assert drive_db(replace(quiet, gain_db=30), Joining(), 1) == 0


def test_the_limiter_is_driven_only_so_far(tmp_path: Path) -> None:
    loud = clip(tmp_path, "1.wav", noise(2 * RATE, level=0.5))

    assert drive_db(loud, Joining(normalize_levels=True, level_lufs=0, level_tp=-9), 1) == 10
