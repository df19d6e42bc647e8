"""The user's own replacements and removals of words, read from one field and applied in one pass."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from resilience.errors import InvalidRequest, TextTooLong


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


def replace_sound_words(text: str, rules: Mapping[str, str], max_characters: int) -> str:
    """The text with every whole word or phrase of `rules` replaced, in any case, left-most and longest first.

    `rules` are those that `parse_sound_words` gives. What was put in is not replaced again, so their order does not
    matter. A removal takes along the blank and the comma that only it needed. Takes time linear in the text.
    Raises TextTooLong, before it builds such a text, for more than `max_characters` without outer white space.
    """
    if not rules:
        return text
    spoken = _Spoken()
    room = max_characters + len(text) - len(text.strip())
    position = 0
    for start, end, replacement in _found(text, rules):
        if start < position:  # a removal took a mark that another rule names
            continue
        spoken.add(text[position:start])
        position = end
        if replacement:
            spoken.add(replacement)
            if spoken.length > room:
                raise _too_long(max_characters)
        else:
            position = _close_gap(spoken, text, end)
    spoken.add(text[position:])
    replaced = spoken.text()
    if len(replaced.strip()) > max_characters:
        raise _too_long(max_characters)
    return replaced


def _too_long(max_characters: int) -> TextTooLong:
    return TextTooLong(
        f"with its sound words replaced, the text has more than the {max_characters} characters that are allowed",
        field="sound_words_field",
        kind="string_too_long",
    )


def _found(text: str, rules: Mapping[str, str]) -> Iterator[tuple[int, int, str]]:
    """(start, end, replacement) of each match, none overlapping another."""
    by_beginning: dict[str, dict[str, str]] = {}
    for word, replacement in rules.items():
        by_beginning.setdefault(_beginning(word), {})[_folded(word)] = replacement
    phrases = {beginning: _Phrases(replacements) for beginning, replacements in by_beginning.items()}
    marks = "".join(re.escape(beginning) for beginning in by_beginning if not _WORD.match(beginning))
    candidate = re.compile(_WORD.pattern + (f"|[{marks}]" if marks else ""))
    # A blank in a rule stands for any run of white space, so all is looked up where a run is one blank.
    places = [at for at in range(len(text)) if not (at and text[at].isspace() and text[at - 1].isspace())]
    spaced = "".join(" " if text[at].isspace() else text[at] for at in places)
    folded = _folded(spaced)
    position = 0
    while begun := candidate.search(spaced, position):
        start, position = begun.span()
        beginning = folded[start:position]
        for phrase in phrases[beginning].at(folded, start) if beginning in phrases else ():
            end = start + len(phrase)
            replacement = by_beginning[beginning][phrase]
            if _is_whole(spaced, start, end, is_removal=not replacement):
                yield places[start], places[end - 1] + 1, replacement
                position = end
                break


class _Phrases:
    """Finds those of some phrases that a text goes on with, without a look at each.

    One alternation over 1,000 rules took a minute for 35,000 characters; a pattern for each of 3,000 that share their
    first word took 5 s for 10,000.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._sorted = sorted(phrases)
        self._longest = max(len(phrase) for phrase in self._sorted)
        self._shorter: list[int] = []  # of each phrase, the place of the longest other one that it begins with, or -1
        begun: list[int] = []
        for at, phrase in enumerate(self._sorted):
            while begun and not phrase.startswith(self._sorted[begun[-1]]):
                begun.pop()
            self._shorter.append(begun[-1] if begun else -1)
            begun.append(at)

    def at(self, text: str, start: int) -> Iterator[str]:
        """The phrases that stand in `text` at `start`, longest first."""
        # Each of them sorts before the text there, and the last phrase that does begins with all of them.
        place = bisect_right(self._sorted, text[start : start + self._longest]) - 1
        while place >= 0:
            if text.startswith(self._sorted[place], start):
                yield self._sorted[place]
            place = self._shorter[place]


def _folded(text: str) -> str:
    """The text in lower case, each character in its old place; a sigma is the same wherever in its word it stands."""
    # Of all characters only İ has a lower case of two.
    return "İ".join(part.lower() for part in text.split("İ")).replace("ς", "σ")


# --- whole words

# Scripts written without spaces between words, as ranges of a character class: there a rule matches as a substring.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W{UNSPACED}]"
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
    return _folded(letters[0] if letters else word[0])


def _is_whole(text: str, start: int, end: int, *, is_removal: bool) -> bool:
    if _GOES_ON.match(text, end):
        return False
    return not (is_removal and (_IS_TIED.match(text, end) or _IS_TIED_BACK.match(text, start)))


# --- what a removal leaves behind

_BLANK = " \t\v\f\xa0\u2002\u2003\u2009\u202f\u3000"
_LINE_ENDS = "\n\r\x85\u2028\u2029"
_BLANKS = re.compile(f"[{_BLANK}]*")
_PAUSE = re.compile(rf"[{_BLANK}]*(?P<mark>[.,;:!?…、，。；：！？؟،—–])")
# Apart from _PAUSE, which is asked at each removal: a run of marks read whole each time takes quadratic time.
_MARKS = re.compile(r"[.,;:!?…、，。；：！？؟،]+|[—–]+")
_CLAUSE_MARKS = ",;:、，；：،—–"
_SENTENCE_MARKS = ".!?…。！？؟"
_OPENING = "\"'“‘„«‹([（「『¿¡"
_CLOSING = "\"'”’»›)]）」』.,;:!?…、，。；：！？"


class _Spoken:
    """The text said so far, in parts none of which is empty, and its length."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.length = 0

    def text(self) -> str:
        return "".join(self._parts)

    def last(self) -> str:
        return self._parts[-1][-1] if self._parts else ""

    def add(self, part: str) -> None:
        if part:
            self._parts.append(part)
            self.length += len(part)

    def drop_last(self) -> None:
        self.add(self._pop()[:-1])

    def strip_blanks(self) -> bool:
        """Take the blanks (not the line ends) off the end; whether there were any."""
        found = False
        while self.last() and self.last() in _BLANK:
            self.add(self._pop().rstrip(_BLANK))
            found = True
        return found

    def _pop(self) -> str:
        part = self._parts.pop()
        self.length -= len(part)
        return part


def _close_gap(spoken: _Spoken, text: str, position: int) -> int:
    """Tidy the seam of a removal: trims the end of `spoken` and returns where to go on in the text."""
    left_blank = spoken.strip_blanks()
    left = spoken.last()
    at_start = not left or left in _LINE_ENDS or (left in _OPENING and not left_blank)
    pause = _PAUSE.match(text, position)
    if pause:
        mark = pause["mark"]
        if at_start or left in _SENTENCE_MARKS or (left in _CLAUSE_MARKS and mark in _CLAUSE_MARKS):
            marks = _MARKS.match(text, pause.start("mark"))
            position = marks.end() if marks else pause.end()
        elif left in _CLAUSE_MARKS:
            spoken.drop_last()
            spoken.strip_blanks()
    rest = _past_blanks(text, position)
    right = text[rest : rest + 1]
    right_blank = rest > position
    if not right or right in _LINE_ENDS or at_start:
        return rest
    if right in _CLOSING and not (right in _OPENING and right_blank):
        return rest
    glues_words = bool(re.match(_LETTER, left) and re.match(_LETTER, right))
    if left_blank or right_blank or glues_words:
        spoken.add(" ")
    return rest


def _past_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position
