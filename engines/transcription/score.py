"""How much of a text a listener understood."""

from __future__ import annotations

from collections.abc import Sequence

from engines.transcription.words import words_of


def score(transcript: str, text: str, language: str) -> float:
    """From 0 to 1, where 1 is every word and none besides: 1 less the word error rate, never below 0.

    Languages that set no spaces are scored by character. A text without a word in it cannot be misunderstood: 1.
    """
    expected = words_of(text, language)
    if not expected:
        return 1.0
    return max(0.0, 1 - errors(expected, words_of(transcript, language)) / len(expected))


def errors(expected: Sequence[str], heard: Sequence[str]) -> int:
    """Words to change, add or drop to get from one to the other. A word written in two parts ("every day") is the
    word written in one."""
    above: list[int] = []
    row = list(range(len(heard) + 1))
    for count, word in enumerate(expected, start=1):
        above, previous, row = row, above, [count]
        for place, other in enumerate(heard, start=1):
            cost = min(above[place] + 1, row[place - 1] + 1, above[place - 1] + (word != other))
            if place > 1 and heard[place - 2] + other == word:
                cost = min(cost, above[place - 2])
            if count > 1 and expected[count - 2] + word == other:
                cost = min(cost, previous[place - 1])
            row.append(cost)
    return row[-1]
