from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.listen import loudness_lufs
from tests.recordings import vowels
from tests.utils.concatenation.sounds import RATE, clip, noise
from utils.audio.limiter import true_peak
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


def test_what_is_not_limited_is_not_listened_to_again(tmp_path: Path) -> None:
    quiet = clip(tmp_path, "1.wav", noise(RATE))
    quiet.path.unlink()

    assert drive_db(quiet, Joining(normalize_levels=True, level_lufs=-30), 1) == 0
    assert drive_db(replace(quiet, gain_db=30), Joining(), 1) == 0


def test_the_limiter_is_driven_only_so_far(tmp_path: Path) -> None:
    loud = clip(tmp_path, "1.wav", noise(2 * RATE, level=0.5))

    assert drive_db(loud, Joining(normalize_levels=True, level_lufs=0, level_tp=-9), 1) == 10
