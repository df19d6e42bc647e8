"""English numbers, between how they are written and how they are said.

A number has one written form and many spoken ones: 1984 is "nineteen eighty four", "one thousand nine hundred and
eighty four" or "nineteen hundred eighty four". So texts are compared in digits, one a token: said in parts or at
once, a number comes to the same tokens, and a digit that was misheard counts as one word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
_IRREGULAR["twelve"] = "twelfth"
_WRITTEN = re.compile(r"(\d+)(st|nd|rd|th|s)?")


def _ordinal(word: str) -> str:
    return _IRREGULAR.get(word) or (f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th")


def _forms(word: str) -> Iterator[str]:
    yield word
    yield _ordinal(word)
    if word not in ("one", "two"):  # "seconds" are a unit of time
        yield f"{_ordinal(word)}s"
    if word in _TENS:
        yield f"{word[:-1]}ies"


_VALUES = {
    form: value
    for word, value in [*zip(_SMALL, range(20), strict=True), *zip(_TENS, range(20, 100, 10), strict=True)]
    for form in _forms(word)
} | {"oh": 0, "nought": 0, "half": 2, "halves": 2, "quarter": 4, "quarters": 4}
_ROMAN = {
    word: value for value, word in enumerate("ii iii iv - vi vii viii ix - xi xii xiii xiv xv xvi".split(), start=2)
}
_MULTIPLES = {form: multiple for word, multiple in {"hundred": 100, **_SCALES}.items() for form in (word, f"{word}th")}


def in_digits(words: Sequence[str]) -> list[str]:
    """The words with every number, written or said, as its digits, one a token.

    What a cardinal, an ordinal and a decade come to is the same: 2, two, second and 2nd are "2", 1980s and nineteen
    eighties "1", "9", "8", "0". Whole thousands stay a word, so that a million is not seven tokens.
    """
    tokens: list[str] = []
    number = _Number()
    for place, word in enumerate(words):
        before, after = words[place - 1] if place else "", words[place + 1] if place + 1 < len(words) else ""
        if word in _VALUES:
            tokens += number.add(_VALUES[word])
        elif word in _ROMAN:
            tokens += [*number.end(), *_digits(str(_ROMAN[word]))]
        elif word in _MULTIPLES:
            tokens += number.multiply(_MULTIPLES[word])
        elif word == "a" and after in _MULTIPLES:
            tokens += number.add(1)
        elif word == "and" and before in _MULTIPLES and after in _VALUES:
            continue
        else:
            tokens += number.end()
            written = _WRITTEN.fullmatch(word)
            if written and after in _MULTIPLES:
                tokens += number.add(int(written[1]))
            else:
                tokens += _digits(written[1]) if written else [word]
    return [*tokens, *number.end()]


class _Number:
    """A number while it is being said. What does not continue it ends it: then its digits are handed out."""

    def __init__(self) -> None:
        self._total = 0  # whole thousands that are complete
        self._least = 10**15  # the scale of the last of them
        self._group: int | None = None  # what is below the next scale

    def add(self, value: int) -> list[str]:
        ended = [] if self._continues_with(value) else self.end()
        self._group = (self._group or 0) + value
        return ended

    def multiply(self, by: int) -> list[str]:
        fits = self._group is not None and (by > 100 or 0 < self._group < 100) and by < self._least
        ended = [] if fits or self._is_empty else self.end()
        group = self._group or 1
        if by == 100:
            self._group = group * 100
        else:
            self._total, self._least, self._group = self._total + group * by, by, None
        return ended

    def end(self) -> list[str]:
        said = [] if self._is_empty else _digits(str(self._total + (self._group or 0)))
        self.__init__()  # type: ignore[misc]
        return said

    @property
    def _is_empty(self) -> bool:
        return not self._total and self._group is None

    def _continues_with(self, value: int) -> bool:
        if self._group is None:
            return not self._total or value > 0
        if self._group >= 100 and self._group % 100 == 0:
            return 0 < value < 100
        return 0 < value < 10 and self._group % 100 >= 20 and self._group % 10 == 0


def _digits(written: str) -> list[str]:
    if not written.startswith("0"):
        for word, scale in reversed(_SCALES.items()):
            if int(written) % scale == 0:
                return [*str(int(written) // scale), word]
    return list(written)


def readings(word: str) -> list[list[str]]:
    """The ways in which a written number may be said, none for any other word or for one of more than 12 digits."""
    written = _WRITTEN.fullmatch(word)
    if not written or len(written[1]) > 12:
        return []
    digits, ending = written.groups()
    value = int(digits)
    ways = [_said(value), _said(value, "and")]
    if ways[0][0] == "one" and len(ways[0]) > 1:
        ways.append(["a", *ways[0][1:]])
    if len(digits) == 4 and not digits.startswith("0"):
        century, rest = divmod(value, 100)
        tail = [] if not rest else ["oh", _SMALL[rest]] if rest < 10 else _said(rest)
        ways += [[*_said(century), *(tail or ["hundred"])], [*_said(century), "hundred", *_said(rest, none="")]]
    if (len(digits) > 2 and value % 1000) or digits.startswith("0"):
        ways += [[_SMALL[int(digit)] for digit in digits], ["oh" if d == "0" else _SMALL[int(d)] for d in digits]]
    if ending == "s":
        ways = [[*way[:-1], f"{way[-1][:-1]}ies" if way[-1].endswith("y") else f"{way[-1]}s"] for way in ways]
    elif ending:
        ways = [[*way[:-1], _ordinal(way[-1])] for way in ways]
    elif value <= 31:
        ways.append([*ways[0][:-1], _ordinal(ways[0][-1])])  # "May 2" is said "May second"
    return [list(way) for way in dict.fromkeys(map(tuple, ways))]


def _said(value: int, link: str = "", none: str = "zero") -> list[str]:
    """In words; `link` goes between the hundreds and the rest, `none` stands for nothing at all."""
    words: list[str] = []
    for word, scale in reversed(_SCALES.items()):
        if value >= scale:
            words += [*_said(value // scale, link), word]
            value %= scale
    if value >= 100:
        words += [_SMALL[value // 100], "hundred"]
        value %= 100
    if words and value and link:
        words.append(link)
    if value >= 20:
        words.append(_TENS[value // 10 - 2])
        value %= 10
    if value:
        words.append(_SMALL[value])
    return words or [none] * bool(none)
