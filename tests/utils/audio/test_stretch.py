from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.engines.speech import say
from tests.listen import Recogniser, clicks, fundamental_hz, word_error_rate
from utils.audio.stretch import NONE, Stretch, stretched, warm_up
from utils.audio.stretchers import LAST_RESORT, LIBRARIES, available
from utils.audio.waveform import Waveform

RATE = 24_000
FACTORS = (0.5, 0.75, 1.25, 1.5, 2.0)
EXTREMES = (0.25, 0.5, 1.03, 2.0, 4.0)
SENTENCES = (Path(__file__).parents[2] / "data" / "readme_sentences.txt").read_text(encoding="utf-8").split("\n")[:10]
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({hidden!r}))  # what stands there as None cannot be imported
import numpy as np
from utils.audio.stretch import stretched
from utils.audio.waveform import Waveform
noise = np.random.default_rng(0).standard_normal(7200).astype(np.float32) / 10
waveform, name = stretched(Waveform(noise, 24000), 1.5, {asked!r})
print(name, len(waveform.samples))
"""

each_library = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not available(name), reason=f"{name} is not installed"))
        for name in LIBRARIES
    ],
)


def spoken() -> Waveform:
    return say(SENTENCES[0], "edgar")


@cache
def all_spoken(library: str, factor: float) -> list[Waveform]:
    return [stretched(say(sentence, "edgar"), factor, library)[0] for sentence in SENTENCES]


def level(waveform: Waveform) -> float:
    return float(np.sqrt(np.square(waveform.samples).mean()))


@each_library
@pytest.mark.parametrize("factor", [*FACTORS, *EXTREMES])
def test_it_is_as_long_as_the_factor_says_and_holds_sound_to_its_end(library, factor):
    whole = spoken()
    loud = Waveform(whole.samples[9000:54_321], RATE)  # from the middle of one sound to the middle of another

    changed, name = stretched(loud, factor, library)

    assert name == library
    assert changed.samples.dtype == np.float32
    assert len(changed.samples) == round(len(loud.samples) / factor)
    for in_order in (1, -1):
        before = level(Waveform(loud.samples[::in_order][: round(2400 * factor)], RATE))
        assert before / 2 < level(Waveform(changed.samples[::in_order][:2400], RATE)) < before * 2


@each_library
@pytest.mark.parametrize("factor", FACTORS)
def test_the_pitch_stays_and_nothing_clicks(library, factor):
    before, after = all_spoken(library, 1.0), all_spoken(library, factor)

    pitch_hz = fundamental_hz(Waveform(np.concatenate([waveform.samples for waveform in before]), RATE))
    assert fundamental_hz(Waveform(np.concatenate([waveform.samples for waveform in after]), RATE)) == pytest.approx(
        pitch_hz, rel=0.02
    )
    heard = [time for waveform in after for time in clicks(waveform)]
    assert len(heard) <= (0 if library == "audiostretchy" else 1)  # a vocoder may sharpen an onset


@each_library
@pytest.mark.parametrize("factor", [0.25, 0.75, 1.5, 4.0])
def test_it_is_the_same_while_it_comes(library, factor):
    whole = Waveform(np.concatenate([say(sentence, "edgar").samples for sentence in SENTENCES[:3]]), RATE)

    for size in (997, 4800, 40_000):
        stretch = Stretch(RATE, factor, library)
        pieces = [whole.samples[start : start + size] for start in range(0, len(whole.samples), size)]
        come = np.concatenate([*map(stretch.add, pieces), stretch.finish()])
        np.testing.assert_array_equal(come, stretched(whole, factor, library)[0].samples)


@each_library
def test_only_a_second_and_a_half_is_held_back(library):
    stretch, sound = Stretch(RATE, 1.25, library), np.tile(spoken().samples, 3)

    come = 0
    for start in range(0, len(sound), 2400):
        come += len(stretch.add(sound[start : start + 2400]))
        assert come * 1.25 > start - 1.6 * RATE


def test_a_seam_within_a_steady_sound_is_not_heard():
    """No pause to cut at: the parts meet in the middle of a vowel, its periods in step."""
    times_s = np.arange(6 * RATE) / RATE
    vowel = sum(0.2 * np.sin(2 * np.pi * 131 * k * times_s + k) / k for k in range(1, 12))
    steady = Waveform(np.asarray(vowel, np.float32), RATE)

    changed, _ = stretched(steady, 1.25)

    powers = np.square(changed.samples[RATE // 2 :][: 250 * 366]).reshape(-1, 366)  # of two periods each
    assert powers.mean(axis=1).min() > 0.8 * powers.mean(axis=1).mean()
    assert clicks(changed) == []


@each_library
@pytest.mark.parametrize("factor", [0.75, 1.25, 1.5])
def test_the_words_are_heard_as_well_as_before(library, factor):
    said, recogniser = SENTENCES[:6], Recogniser.of(SENTENCES)

    def errors(waveforms):
        return word_error_rate(" ".join(said), " ".join(map(recogniser.hear, waveforms[:6])))

    assert errors(all_spoken(library, factor)) <= errors(all_spoken(library, 1.0)) + 0.1


@each_library
@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_each_moment_comes_when_it_should(library, factor):
    """Bursts of noise, in a recording of several parts: none is lost, moved or said twice where the parts meet."""
    rng, samples = np.random.default_rng(1), np.zeros(40 * RATE, np.float32)
    times_s = np.arange(1.0, 39.0, 1.3)
    for time_s in times_s:
        samples[round(time_s * RATE) :][:2400] = 0.3 * rng.standard_normal(2400)

    changed, _ = stretched(Waveform(samples, RATE), factor, library)

    loud = np.convolve(np.abs(changed.samples), np.ones(480) / 480, "same") > 0.03
    starts = np.flatnonzero(np.diff(loud.astype(int), prepend=0) == 1) / RATE
    starts = starts[np.diff(starts, prepend=0.0) > 0.3]  # noise may fall below and rise again
    assert len(starts) == len(times_s)
    np.testing.assert_allclose(starts, times_s / factor, atol=0.03)


@each_library
@pytest.mark.parametrize("factor", EXTREMES)
@pytest.mark.parametrize("duration_s", [0.05, 0.1, 0.3])
def test_a_very_short_sound_survives(library, factor, duration_s):
    short = Waveform(spoken().samples[9000 : 9000 + round(duration_s * RATE)], RATE)

    changed, _ = stretched(short, factor, library)

    assert len(changed.samples) == round(len(short.samples) / factor)
    assert np.isfinite(changed.samples).all()
    assert level(changed) == pytest.approx(level(short), rel=0.5)


@each_library
def test_silence_stays_silent_and_one_sample_is_no_fault(library):
    silence, _ = stretched(Waveform(np.zeros(RATE, np.float32), RATE), 0.8, library)
    single, _ = stretched(Waveform(np.full(1, 0.5, np.float32), RATE), 0.5, library)

    assert len(silence.samples) == 30_000
    assert not silence.samples.any()
    assert len(single.samples) == 2


@each_library
@pytest.mark.parametrize("rate", [8000, 22_050, 48_000, 192_000])
def test_other_sample_rates_keep_their_pitch(library, rate):
    times_s = np.arange(rate) / rate
    vowel = sum(0.3 * np.sin(2 * np.pi * 150 * k * times_s) / k for k in range(1, 8))

    changed, _ = stretched(Waveform(np.asarray(vowel, np.float32), rate), 1.25, library)

    assert fundamental_hz(changed) == pytest.approx(150, rel=0.02)


@each_library
def test_what_is_loud_stays_within_full_scale_and_what_is_quiet_keeps_its_level(library):
    samples = spoken().samples
    peak = np.abs(samples).max()

    loud, _ = stretched(Waveform(samples / peak, RATE), 0.75, library)
    quiet, _ = stretched(Waveform(samples / peak * np.float32(1e-4), RATE), 0.75, library)

    assert 0.5 < np.abs(loud.samples).max() <= 1.0
    assert level(quiet) == pytest.approx(1e-4 * level(loud), rel=0.1)


@each_library
def test_calls_in_parallel_give_what_each_gives_alone(library):
    waveforms = [say(sentence, "edgar") for sentence in SENTENCES]
    alone = [stretched(waveform, 1.5, library)[0].samples for waveform in waveforms]

    with ThreadPoolExecutor(8) as pool:
        together = [
            changed.samples for changed, _ in pool.map(lambda waveform: stretched(waveform, 1.5, library), waveforms)
        ]

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_at_a_factor_of_one_the_same_object_comes_back_and_nothing_is_imported():
    code = (
        "import sys; from utils.audio.stretch import stretched; from utils.audio.waveform import Waveform;"
        "waveform = Waveform(b'', 24000); assert stretched(waveform, 1.0) == (waveform, 'none');"
        "assert stretched(waveform, 1.0)[0] is waveform;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'audiostretchy', 'librosa', 'torch', 'av')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_samples_are_stretched_to_none():
    empty = Waveform(np.zeros(0, np.float32), RATE)

    assert stretched(empty, 2.0) == (empty, NONE)


@pytest.mark.parametrize(
    ("asked", "hidden", "expected"),
    [
        ("auto", (), ("audiostretchy", "librosa", "torchaudio", LAST_RESORT)),
        ("auto", ("audiostretchy",), ("librosa", "torchaudio", LAST_RESORT)),
        ("librosa", ("librosa",), ("torchaudio", "audiostretchy", LAST_RESORT)),
        ("torchaudio", ("torchaudio",), ("audiostretchy", "librosa", LAST_RESORT)),
        ("auto", ("audiostretchy", "librosa", "torchaudio"), (LAST_RESORT,)),
    ],
)
def test_the_next_library_does_it_where_one_is_missing_and_is_named(asked, hidden, expected):
    code = WITHOUT.format(asked=asked, hidden=hidden)

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    first = next(name for name in expected if available(name))
    assert run.stdout.split() == [first, "4800"], run.stderr


def test_the_last_resort_keeps_pitch_and_length(monkeypatch):
    monkeypatch.setattr("utils.audio.stretchers.LIBRARIES", ())
    whole = spoken()

    for factor in (0.25, 0.5, 1.5, 4.0):
        changed, name = stretched(whole, factor)
        assert name == LAST_RESORT
        assert len(changed.samples) == round(len(whole.samples) / factor)
        if 0.5 <= factor <= 2:
            assert fundamental_hz(changed) == pytest.approx(fundamental_hz(whole), rel=0.02)


@pytest.mark.parametrize("factor", [0.2, 4.1, float("nan"), -1.0])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(ValueError, match="between"):
        stretched(spoken(), factor)


def test_an_unknown_library_is_refused():
    with pytest.raises(ValueError, match="sox"):
        stretched(spoken(), 2.0, "sox")


def test_it_looks_for_a_cancellation_between_parts():
    looks = []
    minute = Waveform(np.tile(spoken().samples, 20), RATE)

    stretched(minute, 1.5, check=lambda: looks.append(1))

    assert len(looks) >= minute.duration_s / 12


def test_warming_up_leaves_the_library_loaded():
    code = (
        "import sys; from utils.audio.stretch import warm_up; from utils.audio.stretchers import LIBRARIES; warm_up();"
        "sys.exit(not any(name in sys.modules for name in (*LIBRARIES, 'av')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    warm_up()
