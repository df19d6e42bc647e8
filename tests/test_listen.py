"""Each listener hears what is there, and can fail: it also says so when it is not."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests import listen
from tests.listen.recogniser import LONGEST_PIECE_S, guessed_sounds, pieces
from utils.audio.waveform import Waveform

DATA = Path(__file__).parent / "data"
MALE = "Please close the window before you turn off all the lights."
FEMALE = "My grandfather still keeps his old radio on the kitchen shelf."
RATE = 24_000


def tone(hz: float = 440.0, seconds: float = 1.0, amplitude: float = 0.3, sample_rate: int = RATE) -> Waveform:
    """A sine with ramps of 20 ms at both ends."""
    at_s = np.arange(round(seconds * sample_rate)) / sample_rate
    ramp = np.clip(np.minimum(at_s, at_s[::-1]) / 0.02, 0, 1)
    return Waveform((amplitude * ramp * np.sin(2 * np.pi * hz * at_s)).astype(np.float32), sample_rate)


def harmonics(hz: float, gains: dict[int, float], sample_rate: int = RATE) -> Waveform:
    """One second of a voice-like stack: these harmonics of one pitch with these gains."""
    parts = [tone(hz * number, 1.0, 0.1 * gain, sample_rate).samples for number, gain in gains.items()]
    return Waveform(np.sum(parts, axis=0, dtype=np.float32), sample_rate)


def hiss(seconds: float = 1.0, amplitude: float = 0.05) -> Waveform:
    samples = np.random.default_rng(7).normal(0, amplitude, round(seconds * RATE))
    return Waveform(samples.astype(np.float32), RATE)


def silence(seconds: float) -> Waveform:
    return Waveform(np.zeros(round(seconds * RATE), dtype=np.float32), RATE)


def joined(*parts: Waveform) -> Waveform:
    return Waveform(np.concatenate([part.samples for part in parts]), parts[0].sample_rate)


@pytest.fixture(scope="module")
def male() -> Waveform:
    return listen.read(DATA / "male_voice.flac")


@pytest.fixture(scope="module")
def female() -> Waveform:
    return listen.read(DATA / "female_voice.flac")


@pytest.fixture(scope="module")
def judge() -> listen.Recogniser:
    return listen.Recogniser.of([MALE, FEMALE])


# Levels


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_a_stereo_file_is_read_as_the_mean_of_its_channels(container: str) -> None:
    left = tone(amplitude=0.4).samples
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, np.zeros_like(left)], axis=1), RATE, format=container)

    heard = listen.read(file.getvalue())

    assert heard.sample_rate == RATE
    assert heard.samples.dtype == np.float32
    assert listen.duration_s(heard) == pytest.approx(1.0, abs=0.001)
    assert listen.peak_dbfs(heard) == pytest.approx(-14.0, abs=0.6)


def test_the_peak_is_full_scale_at_0_db_and_nothing_below_silence() -> None:
    assert listen.peak_dbfs(tone(amplitude=1.0)) == pytest.approx(0.0, abs=0.01)
    assert listen.peak_dbfs(tone(amplitude=0.5)) == pytest.approx(-6.02, abs=0.01)
    assert listen.peak_dbfs(silence(1)) == -math.inf
    assert listen.peak_dbfs(silence(0)) == -math.inf


def test_loudness_is_that_of_the_standard_and_doubling_adds_six() -> None:
    # A 997 Hz sine at 0 dBFS in one channel reads -3.01 LUFS (BS.1770-4, annex 1).
    assert listen.loudness_lufs(tone(997, 5, 1.0)) == pytest.approx(-3.01, abs=0.1)
    assert listen.loudness_lufs(tone(997, 5, 0.5)) == pytest.approx(-9.03, abs=0.1)


def test_short_clips_have_a_loudness_and_silence_has_none() -> None:
    assert listen.loudness_lufs(tone(997, 0.2, 0.5)) == pytest.approx(-9.5, abs=1.0)
    assert listen.loudness_lufs(silence(2)) == -math.inf
    assert listen.loudness_lufs(silence(0)) == -math.inf


def test_silence_is_silent_and_a_whisper_is_not() -> None:
    assert listen.is_silent(silence(1))
    assert listen.is_silent(tone(amplitude=0.0009))
    assert not listen.is_silent(tone(amplitude=0.0011))


# Pitch


@pytest.mark.parametrize("hz", [65.0, 100.0, 220.0, 440.0, 490.0])
@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 48_000])
def test_the_pitch_of_a_tone_is_heard_within_half_a_percent(hz: float, sample_rate: int) -> None:
    assert listen.fundamental_hz(tone(hz, sample_rate=sample_rate)) == pytest.approx(hz, rel=0.005)


@pytest.mark.parametrize(
    "gains",
    [
        pytest.param({1: 1, 2: 1, 3: 1, 4: 1, 5: 1}, id="full"),
        pytest.param({2: 1, 3: 1, 4: 1, 5: 1}, id="fundamental missing"),
        pytest.param({1: 0.3, 2: 2, 3: 0.5, 4: 1}, id="octave above stronger"),
        pytest.param({1: 1, 3: 0.7, 5: 0.5}, id="odd only"),
    ],
)
def test_the_pitch_of_a_voice_is_not_an_octave_off(gains: dict[int, float]) -> None:
    assert listen.fundamental_hz(harmonics(120, gains)) == pytest.approx(120, rel=0.01)


def test_pauses_and_hiss_do_not_move_the_pitch() -> None:
    assert listen.fundamental_hz(joined(silence(1), tone(200), hiss(2))) == pytest.approx(200, rel=0.01)


def test_a_sound_without_a_voice_has_no_pitch() -> None:
    for unvoiced in (hiss(), silence(1), silence(0), tone(200, 0.01)):
        assert math.isnan(listen.fundamental_hz(unvoiced))


def test_a_man_and_a_woman_are_told_apart_by_pitch(male: Waveform, female: Waveform) -> None:
    assert listen.fundamental_hz(male) == pytest.approx(105, rel=0.03)
    assert listen.fundamental_hz(female) == pytest.approx(196, rel=0.03)


def test_energy_is_found_at_its_own_frequency_only() -> None:
    two = Waveform(tone(440).samples + tone(1000).samples, RATE)

    assert listen.energy_at(tone(440), 440) == pytest.approx(0, abs=0.05)
    assert listen.energy_at(two, 440) == pytest.approx(-3.0, abs=0.1)
    assert listen.energy_at(tone(440), 1000) < -60
    assert listen.energy_at(silence(1), 440) == -math.inf


# Pauses and faults


def test_pauses_are_found_where_they_are() -> None:
    sound = joined(silence(0.5), tone(), silence(0.3), tone(), silence(0.1), tone())

    heard = listen.silences(sound, at_least_s=0.2)

    assert np.ravel(heard) == pytest.approx([0.0, 0.5, 1.5, 1.8], abs=0.02)


def test_a_pause_is_heard_through_a_noise_floor() -> None:
    noisy = joined(tone(), silence(0.5), tone())
    noisy = Waveform(noisy.samples + hiss(2.5, amplitude=0.003).samples, RATE)

    assert np.ravel(listen.silences(noisy)) == pytest.approx([1.0, 1.5], abs=0.02)


def test_a_steady_sound_has_no_pause_and_a_silent_one_is_nothing_else() -> None:
    assert listen.silences(tone()) == []
    assert listen.silences(hiss()) == []
    assert listen.silences(silence(2)) == [(0.0, 2.0)]
    assert listen.silences(silence(0)) == []


def test_pauses_keep_their_time_in_a_long_recording() -> None:
    long = Waveform(np.tile(tone(sample_rate=22_050).samples, 100), 22_050)
    long.samples[-22_050 // 2 :] = 0

    assert np.ravel(listen.silences(long)) == pytest.approx([99.5, 100.0], abs=0.02)


def with_step(sound: Waveform, at_s: float, height: float) -> Waveform:
    at = round(at_s * sound.sample_rate)
    fading = height * np.exp(-np.arange(len(sound.samples) - at) / (0.05 * sound.sample_rate))
    return Waveform(np.concatenate([sound.samples[:at], sound.samples[at:] + fading.astype(np.float32)]), RATE)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(with_step(tone(), 0.5, 0.05), id="a step in a tone"),
        pytest.param(with_step(silence(1), 0.5, 0.02), id="a step in silence"),
        pytest.param(joined(Waveform(tone().samples[:12_005], RATE), silence(0.5)), id="a tone cut off"),
        pytest.param(joined(silence(0.5), Waveform(tone().samples[12_015:], RATE)), id="a tone begun in the middle"),
        pytest.param(Waveform(np.delete(tone().samples, slice(12_000, 12_020)), RATE), id="samples lost"),
        pytest.param(joined(silence(0.5), Waveform(np.full(1, 0.1, np.float32), RATE), silence(0.5)), id="a spike"),
    ],
)
def test_a_click_is_heard_at_its_time(broken: Waveform) -> None:
    assert listen.clicks(broken) == [pytest.approx(0.5, abs=0.002)]


def test_a_click_is_still_heard_after_resampling_and_mp3() -> None:
    broken = with_step(tone(), 0.5, 0.1)
    file = io.BytesIO()
    soundfile.write(file, broken.samples, RATE, format="MP3")

    for sample_rate in (16_000, 22_050, 44_100, 48_000):
        copy = Waveform(soxr.resample(broken.samples, RATE, sample_rate), sample_rate)
        assert listen.clicks(copy) == [pytest.approx(0.5, abs=0.002)]
    assert listen.clicks(listen.read(file.getvalue())) == [pytest.approx(0.5, abs=0.002)]


def test_sound_that_begins_or_ends_in_the_middle_clicks_there() -> None:
    cut = Waveform(tone().samples[1_215:-1_215], RATE)

    assert listen.clicks(cut) == pytest.approx([0.0, listen.duration_s(cut)], abs=0.002)


def test_tones_hiss_and_speech_have_no_clicks(male: Waveform, female: Waveform) -> None:
    for clean in (tone(), tone(3000), joined(silence(0.5), hiss(), silence(0.5)), silence(1), silence(0), male, female):
        assert listen.clicks(clean) == []


def test_a_bad_join_of_two_recordings_clicks(male: Waveform, female: Waveform) -> None:
    loudest = int(np.abs(male.samples).argmax())
    cut_off = Waveform(np.concatenate([male.samples[: loudest + 1], np.zeros(8000, np.float32)]), male.sample_rate)

    assert listen.clicks(joined(male, female)) == []
    assert listen.clicks(cut_off) == [pytest.approx(loudest / male.sample_rate, abs=0.002)]


# Words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0 and 13", "zero and thirteen"),
        ("42 of 105", "forty two of one hundred five"),
        ("2,500 in 2019", "two thousand five hundred in two thousand nineteen"),
        ("in 1987, 1905.", "in nineteen hundred eighty seven, nineteen hundred five."),
        ("1,987 in 1850", "one thousand nine hundred eighty seven in one thousand eight hundred fifty"),
        ("3.5 or 0.05", "three point five or zero point zero five"),
        ("at 6:40 or 10:05", "at six forty or ten zero five"),
        ("Dr. Patel and Mrs. Bell", "doctor Patel and missus Bell"),
        ("10,000 steps", "10,000 steps"),
    ],
)
def test_numbers_are_spelled_as_they_are_read(written: str, said: str) -> None:
    assert listen.spelled(written) == said


def test_words_are_plain_and_initials_are_letters() -> None:
    assert listen.words("J. R. said -- \u201cdon\u2019t!\u201d at the caf\u00e9 in the U.S.") == (
        "j r said don't at the cafe in the u s".split()
    )


def test_the_word_error_rate_counts_changes_losses_and_additions() -> None:
    assert listen.word_error_rate("One two, three FOUR.", "one two three four") == 0
    assert listen.word_error_rate("one two three four", "one too three") == 0.5
    assert listen.word_error_rate("one two", "one and two and three") == 1.5
    assert listen.word_error_rate("", "") == 0
    assert listen.word_error_rate("12 eggs", "twelve eggs") == 0


STORY = [
    "Nine boats left the harbour at dawn.",
    "None of them carried more than a day of water.",
    "Who would need it?",
    "By noon the wind had died, and the sea lay flat as glass.",
    "An old sailor began to sing in the last boat.",
]


def test_sentences_heard_with_some_mistakes_are_all_heard() -> None:
    heard = " ".join(STORY).replace("harbour", "arbour").replace("carried more", "carry").replace("glass", "a class")

    assert listen.sentences_heard_in_order(STORY, heard) == []


@pytest.mark.parametrize("missing", range(len(STORY)))
def test_a_sentence_left_out_is_named(missing: int) -> None:
    heard = " ".join(STORY[:missing] + STORY[missing + 1 :])

    assert listen.sentences_heard_in_order(STORY, heard) == [STORY[missing]]


@pytest.mark.parametrize("first", range(len(STORY) - 1))
def test_two_sentences_in_the_wrong_order_are_not_both_heard(first: int) -> None:
    swapped = [*STORY[:first], STORY[first + 1], STORY[first], *STORY[first + 2 :]]

    missed = listen.sentences_heard_in_order(STORY, " ".join(swapped))

    assert missed
    assert set(missed) <= set(STORY[first : first + 2])


def test_a_sentence_left_out_of_a_long_narrative_is_named() -> None:
    sentences = (DATA / "narrative.txt").read_text(encoding="utf-8").replace("\n", " ").split(". ")
    for missing in range(0, len(sentences), 4):
        heard = " ".join(sentences[:missing] + sentences[missing + 1 :])
        assert sentences[missing] in listen.sentences_heard_in_order(sentences, heard)


# Understanding


def test_what_was_said_is_heard(judge: listen.Recogniser, male: Waveform, female: Waveform) -> None:
    assert listen.word_error_rate(MALE, judge.hear(male)) == 0
    assert listen.word_error_rate(FEMALE, judge.hear(female)) == 0


def test_what_was_not_said_is_not_heard(judge: listen.Recogniser, male: Waveform) -> None:
    backwards = Waveform(male.samples[::-1].copy(), male.sample_rate)

    assert listen.word_error_rate(FEMALE, judge.hear(male)) > 0.8
    assert listen.word_error_rate(MALE, judge.hear(backwards)) > 0.6
    assert listen.word_error_rate(MALE, judge.hear(tone(200, 3))) > 0.8
    assert judge.hear(silence(2)) == ""
    assert judge.hear(silence(0)) == ""


def test_a_sentence_that_was_not_expected_is_not_taken_for_one_that_was(male: Waveform) -> None:
    expected = "My uncle opens the shop before nine and turns on the lights."

    assert listen.word_error_rate(expected, listen.Recogniser.of([expected]).hear(male)) > 0.5


def test_words_in_an_order_that_nobody_expected_are_heard_in_that_order(
    judge: listen.Recogniser, male: Waveform
) -> None:
    half = round(1.5 * male.sample_rate)
    turned = Waveform(np.concatenate([male.samples[half:], male.samples[:half]]), male.sample_rate)

    heard = listen.words(judge.hear(turned))

    assert heard.index("lights") < heard.index("please")


def test_the_same_sound_is_always_heard_the_same_way(judge: listen.Recogniser, male: Waveform) -> None:
    beginning = Waveform(male.samples[: male.sample_rate], male.sample_rate)
    louder = Waveform(male.samples[male.sample_rate :] * 1.2, male.sample_rate)

    first = judge.hear(beginning)
    judge.hear(louder)

    assert judge.hear(beginning) == first
    assert listen.Recogniser.of([MALE, FEMALE]) is judge


def test_a_long_recording_is_heard_in_order_and_a_missing_or_swapped_sentence_is_noticed(
    judge: listen.Recogniser, male: Waveform, female: Waveform
) -> None:
    said = [MALE, FEMALE, FEMALE, MALE, FEMALE]
    voices = {MALE: male, FEMALE: female}
    sound = joined(*(voices[sentence] for sentence in said))

    heard = judge.hear(sound)

    assert listen.duration_s(sound) > LONGEST_PIECE_S
    assert listen.sentences_heard_in_order(said, heard) == []
    assert listen.sentences_heard_in_order([*said, MALE], heard) == [MALE]
    assert listen.sentences_heard_in_order([FEMALE, MALE, *said[2:]], heard) != []


def test_pieces_are_short_whole_and_cut_at_the_longest_pause() -> None:
    paused = joined(tone(seconds=7), silence(0.4), tone(seconds=3), silence(0.2), tone(seconds=30))

    cut = list(pieces(paused))

    assert listen.duration_s(cut[0]) == pytest.approx(7.2, abs=0.02)
    assert max(map(listen.duration_s, cut)) <= LONGEST_PIECE_S
    assert np.array_equal(joined(*cut).samples, paused.samples)


def test_open_dictation_hears_words_that_it_was_not_told_of(male: Waveform) -> None:
    beginning = Waveform(male.samples[: round(1.3 * male.sample_rate)], male.sample_rate)

    heard = listen.Recogniser.open().hear(beginning)

    assert listen.words(heard)[:2] == ["please", "close"]


def test_words_without_a_pronunciation_are_reported_and_guessed() -> None:
    assert listen.unknown_words(["Mrs. Whitcombe paid 12 dollars", "to Zibblekin"]) == ["whitcombe", "zibblekin"]
    assert guessed_sounds("whitcombe") == "W IH T K AA M B"
    assert guessed_sounds("zibblekin") == "Z IH B L EH K IH N"


def test_the_texts_that_tests_speak_are_within_the_recognisers_reach() -> None:
    narrative = (DATA / "narrative.txt").read_text(encoding="utf-8")
    sentences = (DATA / "readme_sentences.txt").read_text(encoding="utf-8").splitlines()

    assert 3_200 <= len(narrative) <= 3_800
    assert len(sentences) == 10
    assert all(8 <= len(listen.words(sentence)) <= 14 for sentence in sentences)
    assert listen.unknown_words([narrative, *sentences]) == ["whitcombe"]
