"""The user's own replacements and removals of words, read from one field and applied in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from resilience.errors import InvalidRequest


def parse_sound_words(field: str) -> dict[str, str]:
    """What each word or phrase becomes; "" removes it.

    Entries stand one a line or between commas: `a=>b` replaces, a bare `a` (or `a=>`) removes. Raises InvalidRequest
    for an entry that names nothing to replace, and for two entries that disagree about one word.
    """
    rules: dict[str, str] = {}
    spellings: dict[str, str] = {}
    for entry in re.split(r"[,\n\r]", field):
        if not entry.strip():
            continue
        left, _, right = entry.partition("=>")
        word, replacement = " ".join(left.split()), right.strip()
        if not word:
            raise InvalidRequest(f"the entry {entry.strip()!r} has no word before '=>'", field="sound_words_field")
        word = spellings.setdefault(word.lower(), word)
        if rules.setdefault(word, replacement) != replacement:
            raise InvalidRequest(f"{word!r} is given two replacements", field="sound_words_field")
    return rules


def replace_sound_words(text: str, rules: Mapping[str, str]) -> str:
    """The text with every whole word or phrase of `rules` replaced, in any case, left-most and longest first.

    What was put in is not replaced again, so the order of the rules does not matter. A removal takes along the blank
    and the comma that only it needed.
    """
    if not rules:
        return text
    spoken: list[str] = []
    position = 0
    for start, end, replacement in _found(text, rules):
        if start < position:  # a removal took a mark that another rule names
            continue
        spoken.append(text[position:start])
        position = end
        if replacement:
            spoken.append(replacement)
        else:
            position = _close_gap(spoken, text, end)
    spoken.append(text[position:])
    return "".join(spoken)


def _found(text: str, rules: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of each match, none overlapping another."""
    # Only the rules that share a beginning are tried: one alternation over 1,000 of them took a minute for 35,000
    # characters, most of it spent on the character classes of the boundaries, which are compiled once here.
    by_beginning: dict[str, list[tuple[re.Pattern[str], str]]] = {}
    for word in sorted(rules, key=len, reverse=True):
        body = re.compile(r"\s+".join(re.escape(part) for part in word.split()), re.IGNORECASE)
        by_beginning.setdefault(_beginning(word), []).append((body, rules[word]))
    marks = "".join(re.escape(beginning) for beginning in by_beginning if not _WORD.match(beginning))
    candidate = re.compile(_WORD.pattern + (f"|[{marks}]" if marks else ""))
    position = 0
    while begun := candidate.search(text, position):
        start, position = begun.span()
        for body, replacement in by_beginning.get(begun[0].lower(), ()):
            match = body.match(text, start)
            if match and _is_whole(text, start, match.end(), is_removal=not replacement):
                yield start, match.end(), replacement
                position = match.end()
                break


# --- whole words

# Scripts written without spaces between words: there a rule matches as a plain substring.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W{_UNSPACED}]"
# Vowel signs are no \w: without them a rule for one Devanagari letter would match inside a syllable.
_SIGNS = "".join(f"{chr(at)}-{chr(at + 3)}{chr(at + 0x3A)}-{chr(at + 0x4F)}" for at in range(0x900, 0xE00, 0x80))
_MARK = rf"[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670{_SIGNS}]"
_WORD = re.compile(rf"(?<!{_LETTER})(?<!{_MARK}){_LETTER}(?:{_LETTER}|{_MARK})*")
# "can" is no word of "can't", but "homme" is one of "l'homme" and "Ann" one of "Ann's" and of "Ann-like".
_GOES_ON = re.compile(rf"(?<={_LETTER}|{_MARK})(?:{_LETTER}|{_MARK}|['’](?!s(?!{_LETTER})){_LETTER})")
# What a removal would leave of those two, and of "uh-huh", is no word.
_IS_TIED = re.compile(rf"(?<={_LETTER}|{_MARK})['’-]{_LETTER}")
_IS_TIED_BACK = re.compile(rf"(?<={_LETTER}-){_LETTER}")


def _beginning(word: str) -> str:
    """The letters that a rule starts with, or its first character where that is a mark or of an unspaced script."""
    letters = _WORD.match(word)
    return letters[0].lower() if letters else word[0]


def _is_whole(text: str, start: int, end: int, *, is_removal: bool) -> bool:
    if _GOES_ON.match(text, end):
        return False
    return not (is_removal and (_IS_TIED.match(text, end) or _IS_TIED_BACK.match(text, start)))


# --- what a removal leaves behind

_BLANK = " \t\v\f\xa0\u2002\u2003\u2009\u202f\u3000"
_LINE_ENDS = "\n\r\x85\u2028\u2029"
_BLANKS = re.compile(f"[{_BLANK}]*")
_PAUSES = re.compile(rf"[{_BLANK}]*(?P<marks>[.,;:!?…、，。；：！？؟،]+|[—–]+)")
_CLAUSE_MARKS = ",;:、，；：،—–"
_SENTENCE_MARKS = ".!?…。！？؟"
_OPENING = "\"'“‘„«‹([（「『¿¡"
_CLOSING = "\"'”’»›)]）」』.,;:!?…、，。；：！？"


def _close_gap(spoken: list[str], text: str, position: int) -> int:
    """Tidy the seam of a removal: trims the end of `spoken` and returns where to go on in the text."""
    left_blank = _strip_blanks(spoken)
    left = spoken[-1][-1] if spoken else ""
    at_start = not left or left in _LINE_ENDS or (left in _OPENING and not left_blank)
    pauses = _PAUSES.match(text, position)
    if pauses:
        marks = pauses["marks"]
        if at_start or left in _SENTENCE_MARKS or (left in _CLAUSE_MARKS and marks[0] in _CLAUSE_MARKS):
            position = pauses.end()
        elif left in _CLAUSE_MARKS:
            spoken[-1] = spoken[-1][:-1]
            _strip_blanks(spoken)
    rest = _past_blanks(text, position)
    right = text[rest : rest + 1]
    right_blank = rest > position
    if not right or right in _LINE_ENDS or at_start:
        return rest
    if right in _CLOSING and not (right in _OPENING and right_blank):
        return rest
    glues_words = bool(re.match(_LETTER, left) and re.match(_LETTER, right))
    if left_blank or right_blank or glues_words:
        spoken.append(" ")
    return rest


def _past_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def _strip_blanks(spoken: list[str]) -> bool:
    """Take the blanks (not the line ends) off the end; whether there were any."""
    found = False
    while spoken:
        kept = spoken[-1].rstrip(_BLANK)
        found = found or kept != spoken[-1]
        if kept:
            spoken[-1] = kept
            break
        spoken.pop()
    return found
