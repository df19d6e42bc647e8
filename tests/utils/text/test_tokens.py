from __future__ import annotations

import pytest

from utils.text.tokens import count_tokens


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (" \n", 0),
        ("Hello, world!", 4),
        ("It's half past 9.", 7),
        ("Frühling in Łódź", 3),
        ("你好，世界。", 6),
        ("東京2026", 3),
        ("😀", 1),
    ],
)
def test_words_and_marks_are_counted(text: str, count: int) -> None:
    assert count_tokens(text) == count
