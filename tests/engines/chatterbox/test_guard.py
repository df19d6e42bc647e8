from __future__ import annotations

import pytest

from engines.chatterbox.guard import LONGEST, is_too_short, most_tokens

SENTENCE = "The quick brown fox jumps over the lazy dog while the sun goes down."


def test_an_unhurried_reading_stays_far_from_the_limit() -> None:
    seconds_at_twelve_letters_a_second = len(SENTENCE) / 12

    assert most_tokens(SENTENCE) > 2 * 25 * seconds_at_twelve_letters_a_second


def test_a_word_may_take_some_seconds_but_not_forty() -> None:
    assert 75 < most_tokens("Hi.") < 150


def test_no_text_may_take_longer_than_upstream_allows() -> None:
    assert most_tokens(SENTENCE * 20) == LONGEST


@pytest.mark.parametrize(
    ("text", "seconds", "verdict"),
    [
        (SENTENCE, 4.0, False),
        (SENTENCE, 0.8, True),
        ("Hi.", 0.2, False),
        ("今日は天気がいいですね。散歩に行きましょう。", 3.0, False),
        ("今日は天気がいいですね。散歩に行きましょう。", 0.8, True),
        ("... --- ...", 0.0, False),
    ],
)
def test_speech_that_cannot_hold_its_text_is_noticed(text: str, seconds: float, verdict: bool) -> None:
    assert is_too_short(text, round(seconds * 25)) is verdict
