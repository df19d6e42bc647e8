from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from utils.files.naming import GenerationNames, number, word


def test_a_name_tells_type_moment_and_parameters() -> None:
    moment = datetime(2026, 11, 22, 20, 15, 30, 4211, tzinfo=UTC)

    stem = GenerationNames(lambda: moment).stem("tts", ["temp0.75", "seed42"])

    assert stem == "tts_2026-11-22_201530_004211_temp0.75_seed42"


def test_a_thousand_names_within_one_microsecond_all_differ() -> None:
    names = GenerationNames(lambda: datetime(2026, 1, 1, tzinfo=UTC))

    with ThreadPoolExecutor(8) as threads:
        stems = list(threads.map(lambda _: names.stem("tts", []), range(1000)))

    assert len(set(stems)) == 1000


def test_numbers_are_written_without_trailing_zeros() -> None:
    assert [number(0.75), number(1.0), number(1.20)] == ["0.75", "1", "1.2"]


@pytest.mark.parametrize(
    ("text", "written"),
    [("anna", "anna"), ("Ännchen von Tharau", "Annchen-von-Tharau"), ("my_voice.v2", "my_voice.v2"), ("アンナ", "x")],
)
def test_a_word_in_a_file_name_is_ascii_and_has_no_blanks(text: str, written: str) -> None:
    assert word(text) == written


def test_a_long_word_is_cut() -> None:
    assert word("a" * 200) == "a" * 60
