from __future__ import annotations

import io

import av
import numpy as np
import pytest
import soundfile

from utils.audio.chapters import Chapter, comments, id3_tag
from utils.audio.encode import encoding
from utils.audio.formats import Bitrates
from utils.audio.waveform import Extent

RATE = 24_000


def written(format_name: str, chapters: list[Chapter], seconds: int = 3) -> bytes:
    file = io.BytesIO()
    samples = (0.1 * np.random.default_rng(0).standard_normal(seconds * RATE)).astype(np.float32)
    with encoding(file, format_name, Extent(len(samples), RATE), Bitrates(), chapters) as add:
        for part in np.array_split(samples, 7):
            add(part)
    return file.getvalue()


def read(content: bytes) -> list[tuple[str, float]]:
    """As FFmpeg finds them."""
    with av.open(io.BytesIO(content), "r") as container:
        found = container.chapters()
        return [(one["metadata"]["title"], float(one["start"] * (one["time_base"] or 0))) for one in found]


@pytest.mark.parametrize("format_name", ["mp3", "opus", "flac"])
@pytest.mark.parametrize("count", [1, 2, 300, 1000])
def test_players_find_every_chapter(format_name: str, count: int) -> None:
    bounds = np.linspace(0, 3, count + 1)
    chapters = [Chapter(f"Größe {n} 序章", float(bounds[n]), float(bounds[n + 1])) for n in range(count)]

    content = written(format_name, chapters)

    found = read(content)
    assert [title for title, _ in found] == [chapter.title for chapter in chapters]
    assert [start_s for _, start_s in found] == pytest.approx([chapter.start_s for chapter in chapters], abs=0.0011)


@pytest.mark.parametrize("format_name", ["mp3", "opus", "flac"])
def test_the_sound_is_the_same_with_and_without_chapters(format_name: str) -> None:
    with_chapters = written(format_name, [Chapter("one", 0, 1), Chapter("two", 1, 3)])

    samples, rate = soundfile.read(io.BytesIO(with_chapters))
    expected, _ = soundfile.read(io.BytesIO(written(format_name, [])))

    assert rate == RATE
    assert np.array_equal(samples, expected)


def test_no_more_than_255_chapters_are_in_one_table() -> None:
    tag = id3_tag([Chapter(str(number), number, number + 1) for number in range(600)])

    assert tag.count(b"CTOC") == 4
    assert tag.count(b"CHAP") == 600
    assert len(tag) == 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))


def test_times_beyond_an_hour_are_written_as_such() -> None:
    said = dict(comments([Chapter("late", 36_000 + 59 * 60 + 59.9996, 50_000)]))

    assert said == {"CHAPTER000": "11:00:00.000", "CHAPTER000NAME": "late"}
