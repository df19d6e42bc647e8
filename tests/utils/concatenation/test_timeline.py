from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from utils.audio.measures import Level, Measures
from utils.audio.waveform import Extent
from utils.concatenation.timeline import Clip, Joining, PlacedSilence, Silence, Timeline, timeline

RATE = 24_000
Parts = list[Clip | Silence]


def clip(
    name: str,
    seconds: float = 1.0,
    *,
    rate: int = RATE,
    channels: int = 1,
    level: Level | None = None,
    speech_s: tuple[float, float] | None = None,
    **said: Any,
) -> Clip:
    extent = Extent(round(seconds * rate), rate, channels)
    level = level or Level(-20.0, 0.5)
    first, last = speech_s or (0, seconds)
    measures = Measures(extent, level, level, (round(first * rate), round(last * rate)))
    return Clip(source=name, path=Path(name), extent=extent, measures=measures, title=name, **said)


def spans(whole: Timeline) -> list[tuple[int, int]]:
    return [(entry.start, entry.length) for entry in whole.entries]


def pauses_ms(whole: Timeline) -> list[float]:
    silences = [entry for entry in whole.entries if isinstance(entry, PlacedSilence) and entry.written is None]
    return [silence.length * 1000 / RATE for silence in silences]


def test_the_whole_is_as_long_as_its_parts_less_its_crossfades() -> None:
    whole = timeline([Silence("(1s)", 1000), clip("a"), clip("b", 2), Silence("(50ms)", 50)], Joining(crossfade_ms=100))

    assert spans(whole) == [(0, 24_000), (24_000, 24_000), (45_600, 48_000), (93_600, 1_200)]
    assert whole.extent == Extent(94_800, RATE, 1)
    assert (whole.silences, whole.pauses, len(whole.clips)) == (2, 0, 2)


def test_a_written_silence_wins_over_a_pause_and_a_pause_over_a_crossfade() -> None:
    parts: Parts = [clip("a"), Silence("(1s)", 1000), clip("b"), clip("c")]

    whole = timeline(parts, Joining(pause_duration_ms=600, pause_variation_ms=0, crossfade_ms=100))

    assert spans(whole) == [(0, 24_000), (24_000, 24_000), (48_000, 24_000), (72_000, 14_400), (86_400, 24_000)]
    assert [(one.fades_in, one.fades_out) for one in whole.clips] == [((), ()), ((), (1200,)), ((1200,), ())]
    assert not any(one.overlap_before or one.overlap_after for one in whole.clips)


def test_pauses_are_drawn_within_the_variation_and_never_under_50_ms() -> None:
    clips = [clip(str(number)) for number in range(200)]

    drawn = pauses_ms(timeline(clips, Joining(pause_duration_ms=300, pause_variation_ms=200, seed=1)))
    short = pauses_ms(timeline(clips, Joining(pause_duration_ms=100, pause_variation_ms=200, seed=1)))

    assert len(drawn) == 199
    assert min(drawn) >= 100 - 0.03
    assert max(drawn) <= 500 + 0.03
    assert max(drawn) - min(drawn) > 350
    assert min(short) == 50


def test_a_seed_draws_the_same_pauses() -> None:
    clips = [clip(str(number)) for number in range(5)]

    first, again, other = (
        pauses_ms(timeline(clips, Joining(pause_duration_ms=300, pause_variation_ms=200, seed=seed)))
        for seed in (5, 5, 6)
    )

    assert first == again != other


def test_a_clip_shares_at_most_half_of_itself_with_each_neighbour() -> None:
    whole = timeline([clip("a", 4), clip("b", 1), clip("c", 4)], Joining(crossfade_ms=2000))

    assert [one.overlap_before for one in whole.clips] == [0, 12_000, 12_000]
    (warning,) = whole.warnings
    assert warning == "crossfades shorter than 2000 ms, as the clips hold no more: a and b (500 ms), b and c (500 ms)"


def test_a_clip_with_one_neighbour_can_be_shared_whole() -> None:
    whole = timeline([clip("a", 1), clip("b", 4)], Joining(crossfade_ms=3000))

    assert whole.extent.count == 4 * RATE
    assert whole.clips[1].overlap_before == RATE


def test_a_fade_at_a_pause_that_had_to_be_shorter_is_told() -> None:
    how = Joining(pause_duration_ms=600, pause_variation_ms=0, crossfade_ms=3000)

    whole = timeline([clip("a", 1), clip("b", 1), clip("c", 4)], how)

    assert [(one.fades_in, one.fades_out) for one in whole.clips] == [
        ((), (RATE,)),
        ((RATE // 2,),) * 2,
        ((36_000,), ()),
    ]
    assert whole.warnings == [
        "fades at pauses shorter than 1500 ms, as the clips hold no more: a (1000 ms), b (500 ms)"
    ]
    assert timeline([clip("a", 2), Silence("(1s)", 1000), clip("b", 0.1), clip("c", 2)], how).warnings
    assert not timeline([clip("a", 0.1), Silence("(1s)", 1000), clip("b", 2), clip("c", 2)], how).warnings


@pytest.mark.parametrize("pause_ms", [0, 600])
def test_a_fade_within_a_crossfade_is_told(pause_ms: int) -> None:
    how = Joining(crossfade_ms=400, pause_duration_ms=pause_ms)

    (warning,) = timeline([clip("a", fade_out_ms=100), clip("b", fade_in_ms=1000)], how).warnings

    assert warning == "a fade lies within a crossfade, which it makes softer: a"
    assert not timeline([clip("a", fade_in_ms=100), clip("b", fade_out_ms=100)], how).warnings


def test_what_trim_could_not_do_is_told_as_it_is() -> None:
    nothing, even = clip("nothing", level=Level(None, 0.0)), clip("even")

    assert timeline([nothing, nothing], Joining(trim=True)).warnings == [
        "nothing: nothing is heard in it, so nothing was trimmed"
    ]
    assert timeline([even, even], Joining(trim=True)).warnings == [
        "trim removed nothing: before and after sound there are no more than 200 ms of silence"
    ]
    assert len(timeline([nothing, even], Joining(trim=True)).warnings) == 2


def test_a_warning_about_many_clips_names_three() -> None:
    clips = [clip(f"{number}", 0.1) for number in range(100)]

    (warning,) = timeline(clips, Joining(crossfade_ms=2000)).warnings

    assert warning.count(" and ") == 4
    assert warning.endswith("and 96 more")


def test_a_clip_is_trimmed_before_all_else() -> None:
    padded = clip("a", 3, speech_s=(1, 2.9))

    whole = timeline([padded, clip("b")], Joining(trim=True, trim_threshold_ms=200, crossfade_ms=100))

    first = whole.clips[0]
    assert (first.first, first.last, first.length) == (22_800, 72_000, 49_200)
    assert first.trimmed_s == pytest.approx((0.95, 0))
    assert whole.clips[1].start == 49_200 - 2_400


def test_the_highest_rate_wins_and_every_length_is_rounded_once() -> None:
    whole = timeline([clip("a", 1.00007, rate=44_100), clip("b", rate=48_000), clip("c", 0.5, rate=8000)], Joining())

    assert whole.extent.sample_rate == 48_000
    assert [one.length for one in whole.clips] == [round(44_103 * 48_000 / 44_100), 48_000, 24_000]


@pytest.mark.parametrize(("choice", "channels"), [("mono", 1), ("stereo", 2), ("auto", 2)])
def test_channels_are_one_unless_two_are_asked_for(choice: Any, channels: int) -> None:
    assert timeline([clip("a", channels=2), clip("b")], Joining(channels=choice)).extent.channels == channels
    assert timeline([clip("a"), clip("b")], Joining(channels="auto")).extent.channels == 1


def test_levelling_gives_each_clip_what_it_lacks_and_limits_only_what_would_be_too_loud() -> None:
    quiet, loud = clip("quiet", level=Level(-40.0, 0.5)), clip("loud", level=Level(-10.0, 1.0))

    whole = timeline([quiet, loud], Joining(normalize_levels=True, level_lufs=-24, level_tp=-2))

    assert [one.gain_db for one in whole.clips] == pytest.approx([16, -14])
    assert [one.ceiling is not None for one in whole.clips] == [True, False]
    assert whole.clips[0].ceiling == pytest.approx(0.794, abs=0.001)
    assert whole.warnings == []
    heavy = replace(quiet, drive_db=7)
    (warning,) = timeline([heavy, loud], Joining(normalize_levels=True)).warnings
    assert warning.startswith("quiet: its level takes heavy limiting")


def test_a_clips_own_gain_comes_on_top_and_never_clips() -> None:
    clips = [clip("up", gain_db=12), clip("down", gain_db=-12, level=Level(-10, 1.0)), clip("same")]

    whole = timeline(clips, Joining(level_tp=-1))

    assert [one.gain_db for one in whole.clips] == [12, -12, 0]
    assert [one.ceiling is not None for one in whole.clips] == [True, False, False]


def test_silence_is_not_levelled_and_noise_not_raised() -> None:
    clips = [clip("nothing", level=Level(None, 0.0)), clip("hiss", level=Level(-65.0, 0.001))]

    whole = timeline(clips, Joining(normalize_levels=True))

    assert [one.gain_db for one in whole.clips] == [0, 30]
    assert len(whole.warnings) == 2
    assert whole.warnings[0].startswith("nothing: nothing is heard in it")
    assert whole.warnings[1].startswith("hiss: ")


def test_a_fade_longer_than_its_clip_is_shortened_to_it() -> None:
    whole = timeline([clip("a", 1, fade_in_ms=5000, fade_out_ms=100), clip("b")], Joining())

    assert (whole.clips[0].fades_in, whole.clips[0].fades_out) == ((RATE,), (2400,))
    assert whole.warnings == ["a fade is longer than the clip, and was shortened to it: a"]


def test_chapters_follow_each_other_from_the_beginning_to_the_end() -> None:
    parts: Parts = [Silence("(1s)", 1000), clip("a"), clip("b"), Silence("(2s)", 2000)]

    chapters = timeline(parts, Joining(crossfade_ms=500)).chapters()

    assert [(one.title, one.start_s, one.end_s) for one in chapters] == [("a", 0, 1.5), ("b", 1.5, 4.5)]


def test_it_can_be_written_as_json() -> None:
    whole = timeline([clip("a"), Silence("(1s)", 1000), clip("b"), clip("c")], Joining(pause_duration_ms=60))

    said = json.loads(json.dumps(whole.as_json()))

    assert [entry["type"] for entry in said] == ["file", "manual_silence", "file", "natural_pause", "file"]
    assert said[1] == {
        "type": "manual_silence",
        "source": "(1s)",
        "start_seconds": 1.0,
        "duration_seconds": 1.0,
        "start_sample": 24_000,
        "samples": 24_000,
    }
