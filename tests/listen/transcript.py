"""What a text sounds like as words, and how far the words that were heard are from those that were written."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HEARD_SHARE = 0.6
"""A sentence counts as heard when this share of its words was heard in its place."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SHORT = {"dr": "doctor", "mr": "mister", "mrs": "missus"}
_SHORT_FORM = re.compile(r"\b(dr|mr|mrs)\b\.?", re.IGNORECASE)
_NUMBER = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d\d)|(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+))?")


def spelled(text: str) -> str:
    """Write out numbers up to 9,999, decimals, years and clock times as eSpeak NG reads them in American English.

    It says "nineteen hundred eighty seven" for 1987 (not for 1,987) and reads every other year as a plain number.
    Larger numbers are left as digits, which no recogniser hears. "Dr.", "Mr." and "Mrs." become words.
    """
    return _SHORT_FORM.sub(lambda short: _SHORT[short[1].lower()], _NUMBER.sub(_read_number, text))


def _read_number(number: re.Match[str]) -> str:
    if number["hour"]:
        minute = int(number["minute"])
        tens = [] if minute >= 10 or not minute else ["zero"]
        return " ".join([_read_whole(int(number["hour"])), *tens, *([_read_whole(minute)] if minute else [])])
    whole = int(number["whole"].replace(",", ""))
    if whole > 9999:
        return number[0]
    is_year = len(number["whole"]) == 4 and 1900 <= whole <= 1999 and not number["decimals"]
    said = _read_hundreds(whole) if is_year else _read_whole(whole)
    if not number["decimals"]:
        return said
    return " ".join([said, "point", *(_ONES[int(digit)] for digit in number["decimals"])])


def _read_whole(number: int) -> str:
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _read_hundreds(number)
    return f"{_ONES[thousands]} thousand" + (f" {_read_hundreds(rest)}" if rest else "")


def _read_hundreds(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    if hundreds:
        return f"{_ONES[hundreds]} hundred" + (f" {_read_hundreds(rest)}" if rest else "")
    tens, ones = divmod(rest, 10)
    if rest < 20:
        return _ONES[rest]
    return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")


def words(text: str) -> list[str]:
    """Lower-case words of a to z with inner apostrophes; accents fall off, initials and "a.m." fall into letters."""
    plain = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())
    return re.findall(r"[a-z]+(?:'[a-z]+)*", "".join(mark for mark in plain if not unicodedata.combining(mark)))


def word_error_rate(said: str, heard: str) -> float:
    """Words to change, add or drop to get from one to the other, per word said, after both are `spelled`.

    Above 1 where far too much was heard; nothing said and nothing heard is 0.
    """
    said_words, heard_words = words(spelled(said)), words(spelled(heard))
    return float(_edits(said_words, heard_words)[-1, -1]) / max(1, len(said_words))


def sentences_heard_in_order(sentences: Sequence[str], heard: str) -> list[str]:
    """Align what was heard to the sentences in their order, and answer those that were NOT heard in their place.

    A sentence is heard when `HEARD_SHARE` of its words stand opposite the same words. Words that belong nowhere cost
    nothing, so this does not see a sentence said twice; `word_error_rate` does.
    """
    spoken = [words(spelled(sentence)) for sentence in sentences]
    expected = [word for sentence in spoken for word in sentence]
    in_place = iter(_matched(expected, words(spelled(heard))))
    shares = [sum(next(in_place) for _ in sentence) / max(1, len(sentence)) for sentence in spoken]
    return [
        sentence
        for sentence, share, said in zip(sentences, shares, spoken, strict=True)
        if said and share < HEARD_SHARE
    ]


def _matched(expected: list[str], heard: list[str]) -> list[bool]:
    """Which of the expected words stand opposite themselves in a cheapest alignment."""
    edits = _edits(expected, heard)
    matched = [False] * len(expected)
    row, column = len(expected), len(heard)
    while row and column:
        is_same = expected[row - 1] == heard[column - 1]
        if edits[row, column] == edits[row - 1, column - 1] + (not is_same):
            row, column = row - 1, column - 1
            matched[row] = is_same
        elif edits[row, column] == edits[row - 1, column] + 1:
            row -= 1
        else:
            column -= 1
    return matched


def _edits(left: list[str], right: list[str]) -> NDArray[np.int32]:
    """Levenshtein distances between all beginnings of both, shape (n + 1, m + 1).

    One row at a time: the step along a row is a running minimum once each column's own cost is taken off. A thousand
    words against a thousand take some 20 ms.
    """
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*left, *right]))}
    columns = np.arange(len(right) + 1, dtype=np.int32)
    heard = np.array([numbers[word] for word in right], dtype=np.int32)
    edits = np.empty((len(left) + 1, len(right) + 1), dtype=np.int32)
    edits[0] = columns
    for row, word in enumerate(left, start=1):
        best = edits[row - 1] + 1
        best[1:] = np.minimum(best[1:], edits[row - 1, :-1] + (heard != numbers[word]))
        edits[row] = np.minimum.accumulate(best - columns) + columns
    return edits
