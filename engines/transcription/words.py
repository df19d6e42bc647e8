"""Texts as words that can be compared: what was written against what a listener wrote down."""

from __future__ import annotations

import re
import unicodedata

from engines.transcription.numbers import in_digits
from engines.transcription.spelling import in_full, one_spelling

UNSPACED = frozenset(("zh", "yue", "cmn", "ja", "th", "lo", "km", "my"))
"""Languages written without spaces between words, by the first part of their tag."""

_UNMARKED = frozenset(("en", "ar", "he", "fa", "ur"))  # their marks are a matter of taste: naïve, vowel points
_FILLERS = frozenset("um umm uh uhm er erm hm hmm mm mmm".split())
_REMARK = re.compile(r"\[[a-z _]+\]")  # "[laugh]" of a text is acted, "[Music]" of a transcript was not said


def words_of(text: str, language: str) -> list[str]:
    """What is compared: words of English in one spelling and digits one by one; words of other languages without
    case and punctuation; single characters where words are not set apart."""
    base = re.split("[-_]", language.lower())[0]
    plain = _REMARK.sub(" ", text.casefold())
    if base in UNSPACED:
        return [mark for mark in _cjk_digits(_kept(unicodedata.normalize("NFKC", plain))) if not mark.isspace()]
    if base == "en":
        return _english(plain)
    return _digits_apart(_unmarked(plain) if base in _UNMARKED else _dotless(plain))


def _english(text: str) -> list[str]:
    full = in_digits([part for word in said_words(text) for part in in_full(word)])
    words = _linked(_joined_letters([one_spelling(word) for word in full]))
    return [word for word in words if word not in _FILLERS] or words


def said_words(text: str) -> list[str]:
    """The words of an English text as they are said, in lower case: signs, units and clock times in words, numbers
    still in digits ("2nd", "1980s"), initials as single letters."""
    plain = _unmarked(_FRACTION.sub(_fraction, text.casefold()))
    for pattern, said in _SIGNS:
        plain = pattern.sub(said, plain)
    kept = "".join(mark if mark.isalnum() or mark == "'" else " " for mark in plain)
    return [word for part in kept.split() for word in _NUMBER_OR_WORD.findall(part.strip("'"))]


_NUMBER_OR_WORD = re.compile(r"\d+(?:st|nd|rd|th|s)\b|\d+|[^\W\d_'][^\W\d_]*(?:'[^\W\d_]+)*")
_FRACTION = re.compile(r"(\d?)\s?([½¼¾])")
_SCALE = r"(?:\s?(k|m|bn|hundred|thousand|million|billion|trillion)\b)?"
_SCALES = {"k": "thousand", "m": "million", "bn": "billion"}
_CURRENCIES = {"$": ("dollars", "cents"), "£": ("pounds", "pence"), "€": ("euros", "cents"), "¥": ("yen", "sen")}
_UNITS = {"km/h": "kilometers per hour", "kmh": "kilometers per hour", "kph": "kilometers per hour",
          "mph": "miles per hour", "m": "meters", "g": "grams", "c": "celsius", "f": "fahrenheit", "k": "thousand",
          "in": "in", "°c": "degrees celsius", "°f": "degrees fahrenheit"}  # fmt: skip


def _fraction(found: re.Match[str]) -> str:
    said = {"½": "half", "¼": "quarter", "¾": "three quarters"}[found[2]]
    if found[2] == "¾":
        return f"{found[1]} and {said} " if found[1] else f" {said} "
    return f"{found[1]} and a {said} " if found[1] else f" {said} "


def _money(found: re.Match[str]) -> str:
    sign, whole, decimals, scale = found.groups()
    unit, small = _CURRENCIES[sign]
    if scale:
        return f" {whole}{f'.{decimals}' if decimals else ''} {_SCALES.get(scale, scale)} {unit} "
    return f" {whole} {unit} " + (f"{decimals} {small} " if decimals and int(decimals) else "")


_SIGNS = [
    (re.compile(pattern), said)
    for pattern, said in (
        (r"[’‘ʼ`´]", "'"),
        (r"\b((?:[^\W\d_]\.){2,})", lambda found: found[1].replace(".", " ")),  # J.R.R., p.m.
        (r"(?<=\d)\s?([ap])\.?\s?m\b\.?", r" \1 m "),
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (rf"([$£€¥])\s?(\d+)(?:\.(\d+))?{_SCALE}", _money),
        (r"\b(\d{1,2}):00(?!\d|:)", r"\1 "),
        (r"(?<=\d):(?=\d\d)", " "),
        (r"\bo'? ?clock\b", " "),
        (r"(?<!\d)0*\.(?=\d)", " point "),
        (r"(?<=\d)\.(?=\d)", " point "),
        (r"(?<=\w)\.(?=[^\W\d_]{2,})", " dot "),  # example.com
        (r"(?<!\S)[-−](?=\d)", " minus "),
        (r"\bper cent\b|%", " percent "),
        (r"&", " and "),
        (r"#(?=\d)|\bno\. ?(?=\d)", " number "),
        (r"(?<=[\d\s])\+(?=[\d\s])", " plus "),
        (r"=", " equals "),
        (r"(?<=\w)@(?=\w)", " at "),
        (r"(?<=\d)\s?(km/h|kmh|kph|mph|°c|°f|(?:m|g|c|f|k)(?!'))(?!\w)", lambda found: f" {_UNITS[found[1]]} "),
        (r"°", " degrees "),
    )
]


_BETWEEN_NUMBERS = re.compile(r"(?:(?<= \d)|(?<= dollars)|(?<= pounds)|(?<= euros)) (?:and|to) (?=\d )")
_ZERO_POINT = re.compile(r"(?<! \d) 0 point ")


def _joined_letters(words: list[str]) -> list[str]:
    """Runs of single letters as one word: "p m" is "pm", however the dots were set."""
    text = " ".join(words)
    return re.sub(r"\b[^\W\d_](?: [^\W\d_]\b)+", lambda run: run[0].replace(" ", ""), text).split()


def _linked(words: list[str]) -> list[str]:
    """Without what numbers have only said, or only written: 5 to 10, three dollars and fifty cents, 0.5."""
    text = _BETWEEN_NUMBERS.sub(" ", f" {' '.join(words)} ")
    return _ZERO_POINT.sub(" point ", text).split()


def _kept(text: str) -> str:
    """Letters, their marks and digits; anything else becomes a space."""
    return "".join(mark if unicodedata.category(mark)[0] in "LMN" else " " for mark in text)


def _unmarked(text: str) -> str:
    return "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))


def _dotless(text: str) -> str:
    """The Turkish i is one letter here, dotted or not: what lower case makes of it depends on who did it."""
    return unicodedata.normalize("NFKC", text).replace("i\u0307", "i").replace("ı", "i")


def _digits_apart(text: str) -> list[str]:
    """Words, and digits of any script one by one; what groups digits or sets decimals apart is no word."""
    western = "".join(str(unicodedata.decimal(mark, mark)) for mark in text)
    return re.sub(r"(\d)", r" \1 ", _kept(western)).split()


_CJK_DIGITS = {mark: value for value, mark in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_CJK_UNITS = {"十": 10, "百": 100, "千": 1000}
_CJK_SCALES = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_CJK_NUMBER = re.compile(f"[{''.join([*_CJK_DIGITS, *_CJK_UNITS, *_CJK_SCALES])}0-9]+")


def _cjk_digits(text: str) -> str:
    """Chinese and Japanese numerals as digits: 二十一 is 21, 二〇二四 is 2024, 3万 is 30000."""
    return _CJK_NUMBER.sub(lambda number: _cjk_value(number[0]), text)


def _cjk_value(number: str) -> str:
    plain = "".join(str(_CJK_DIGITS.get(mark, mark)) for mark in number)
    if plain.isdecimal():
        return plain
    total = group = digit = 0
    for mark in re.findall(r"\d+|\D", plain):
        if mark in _CJK_SCALES:
            total, group, digit = total + (group + digit or 1) * _CJK_SCALES[mark], 0, 0
        elif mark in _CJK_UNITS:
            group, digit = group + (digit or 1) * _CJK_UNITS[mark], 0
        else:
            digit = int(mark)
    return str(total + group + digit)
