"""The chain from the joined sound to the one that is kept."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from config.settings import ConversionSettings, SoundSettings, SpeechSettings
from mastering import NEED_THE_WHOLE, OFF, Mastering, bitrates, master, switched_on
from tests.listen import loudness_lufs, peak_dbfs
from tests.recordings import vowels
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform

RATE = 24_000
ALL: dict[str, Any] = {
    "use_auto_editor": True,
    "keep_original_wav_ae": True,
    "speed_factor": 1.25,
    "trim": True,
    "normalize_audio": True,
}
ORDER = ["auto_editor", "speed", "trim", "loudness"]


class Left(Exception):
    """Nobody waits any more."""


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def recording() -> Waveform:
    """Four seconds of a voice with a second of silence in it, and half a second on both sides."""
    voice = vowels(120).samples
    parts = (quiet(0.5), voice[: 2 * RATE], quiet(1.0), voice[2 * RATE :], quiet(0.5))
    return Waveform(np.concatenate(parts).astype(np.float32), RATE)


def leaving_at(call: int) -> Callable[[], None]:
    calls = iter(range(1, call))

    def check() -> None:
        if next(calls, None) is None:
            raise Left

    return check


def test_what_is_not_asked_for_changes_nothing_and_costs_nothing() -> None:
    sound = recording()

    done = master(
        sound, SoundSettings(ae_margin=0.5, trim_threshold_ms=50, normalize_level=-10, keep_original_wav_ae=True)
    )

    assert done.waveform is sound
    assert done.original is None
    assert (done.applied, done.laps, done.warnings) == ([], {}, [])


def test_the_stages_come_in_their_order_and_each_says_what_it_did() -> None:
    sound = recording()

    done = master(sound, SoundSettings(**ALL))

    assert [stage["stage"] for stage in done.applied] == ORDER
    assert list(done.laps) == [f"{stage}_s" for stage in ORDER]
    assert done.original is not None
    assert done.original.samples is sound.samples
    silences, speed, edges, loudness = done.applied
    assert silences["removed_s"] == pytest.approx(1.2, abs=0.1)  # margins of 0.2 s are left of 0.5, 1.0 and 0.5 s
    assert speed["factor"] == 1.25
    edges_s = edges["start_s"] + edges["end_s"]
    assert done.waveform.duration_s == pytest.approx((6 - silences["removed_s"]) / 1.25 - edges_s, abs=0.001)
    assert loudness["loudness_lufs"] == pytest.approx(-24, abs=0.1)
    assert loudness_lufs(done.waveform) == pytest.approx(-24, abs=0.5)


@pytest.mark.parametrize("switch", OFF)
def test_each_stage_can_run_alone(switch: str) -> None:
    done = master(recording(), SoundSettings(**{switch: ALL[switch]}))

    (stage,) = done.applied
    assert stage["stage"] == ORDER[list(OFF).index(switch)]
    assert done.waveform.samples.dtype == np.float32


def test_what_was_given_is_not_written_to() -> None:
    sound = recording()
    before = sound.samples.copy()

    master(sound, SoundSettings(**ALL))

    np.testing.assert_array_equal(sound.samples, before)


@pytest.mark.parametrize(
    "samples",
    [quiet(0), quiet(0.0001), quiet(0.1), quiet(3), vowels(120).samples[:2400], np.ones(1, np.float32)],
    ids=["no samples", "two samples", "0.1 s of silence", "silence", "0.1 s of a voice", "one sample"],
)
@pytest.mark.parametrize("method", ["ebu", "peak"])
def test_next_to_nothing_survives_every_stage(samples: np.ndarray, method: str) -> None:
    done = master(Waveform(samples, RATE), SoundSettings(**{**ALL, "normalize_method": method}))

    assert np.isfinite(done.waveform.samples).all()
    assert peak_dbfs(done.waveform) <= 0.001
    assert done.waveform.duration_s >= min(0.9 * len(samples) / 1.25, 1200) / RATE
    assert not any("none" in warning for warning in done.warnings)


@pytest.mark.parametrize("call", range(1, 6))
def test_who_leaves_is_noticed_before_and_within_the_stages(call: int) -> None:
    with pytest.raises(Left):
        master(recording(), SoundSettings(**ALL), leaving_at(call))


def test_many_at_once_get_what_each_gets_alone() -> None:
    wishes = [
        SoundSettings(**{**ALL, "speed_factor": factor, "speed_factor_library": library})
        for factor in (0.8, 1.25)
        for library in ("auto", "librosa", "torchaudio")
    ]
    sound = recording()

    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(lambda wish: master(sound, wish), wishes))

    for wish, done in zip(wishes, together, strict=True):
        np.testing.assert_array_equal(done.waveform.samples, master(sound, wish).waveform.samples)


@pytest.mark.parametrize("section", [SpeechSettings, ConversionSettings])
def test_nothing_is_done_by_default(section: type[SoundSettings]) -> None:
    assert switched_on(section()) == []
    assert switched_on(section(**ALL)) == list(OFF)


def test_bit_rates_are_the_settings_own() -> None:
    assert bitrates(SoundSettings(mp3_bitrate_kbps=96, opus_bitrate_kbps=32)) == Bitrates(mp3=96, opus=32, aac=96)


@pytest.mark.parametrize("switches", [*([switch] for switch in OFF), list(OFF)], ids=str)
@pytest.mark.parametrize("size", [777, 4800])
def test_while_it_comes_the_same_is_done_as_when_it_is_whole(switches: list[str], size: int) -> None:
    sound, options = recording(), SoundSettings(**{switch: ALL[switch] for switch in switches})

    mastering = Mastering(options, RATE)
    starts = range(0, len(sound.samples), size)
    ready = [mastering.add(sound.samples[start : start + size]) for start in starts]
    rest = mastering.finish()
    come = mastering.done(Waveform(np.concatenate([*ready, rest]), RATE))

    whole = master(sound, options)
    np.testing.assert_array_equal(come.waveform.samples, whole.waveform.samples)
    assert (come.applied, come.warnings) == (whole.applied, whole.warnings)
    assert any(map(len, ready)) == (not set(switches) & set(NEED_THE_WHOLE))
