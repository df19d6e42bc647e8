"""Clean-up of a text before it is cut into chunks: what a page shows but nobody says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from resilience.errors import InvalidRequest
from utils.text.sound_words import UNSPACED, parse_sound_words, replace_sound_words


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Which clean-ups a request asks for. `clean` leaves `to_lowercase` to the caller: see `lowercase`."""

    to_lowercase: bool
    normalize_spacing: bool
    fix_dot_letters: bool
    remove_reference_numbers: bool
    sound_words: str


def clean(text: str, options: CleanUp, max_characters: int) -> str:
    """The text with every clean-up of `options` but `to_lowercase`.

    Raises InvalidRequest for malformed sound words, and TextTooLong if they make more than `max_characters` of the text
    (without outer white space). Without sound words its length is not looked at: that of a request is checked before.
    """
    # Lower case comes last, chunk by chunk: a splitter tells "in the U.S. He left" from "the U.S. army" by its capital.
    rules = parse_sound_words(options.sound_words)
    if options.remove_reference_numbers:
        text = _without_reference_numbers(text)
    if options.fix_dot_letters:
        text = _with_dot_letters_fixed(text)
    text = replace_sound_words(text, rules, max_characters)
    return _with_spacing_normalized(text) if options.normalize_spacing else text


def lowercase(text: str) -> str:
    """The last step of the clean-up, for the text of one chunk, after splitting."""
    return text.lower()


def refuse_control_characters(text: str, field: str = "text") -> None:
    """Raises InvalidRequest for the first control character (Unicode Cc) that is not white space, with its place."""
    found = _CONTROL.search(text)
    if found:
        raise InvalidRequest(
            f"character {found.start() + 1} of {field} is the control character U+{ord(found[0]):04X}", field=field
        )


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")

# --- spacing

_SPACE = re.compile(r"\s+")
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028]")


def is_paragraph_break(white_space: str) -> bool:
    """Whether a run of white space holds a blank line or a paragraph separator (U+2029)."""
    return "\u2029" in white_space or len(_LINE_END.findall(white_space)) > 1


def _with_spacing_normalized(text: str) -> str:
    return _SPACE.sub(lambda space: "\n\n" if is_paragraph_break(space[0]) else " ", text).strip()


# --- dotted letters

_DOT_LETTERS = re.compile(r"(?<![\w.@/])(?:[^\W\d_]\.){2,}")
_AFTER = re.compile(r"(?P<closers>[\"'”’»)\]]*)(?P<gap>\s*)(?P<openers>[\"'“‘„«(\[¿¡]*)(?P<word>\w*)")
_ADDRESS = re.compile(r"[@/]|\.\w\w")
# Words that open a sentence far more often than they follow an abbreviation as part of its name ("U.S. Army").
_OPENERS = frozenset(
    "a after all although an and are as at because before but by can did do does each even every few first for from"
    " had has have he her here his how however i if in is it its just last later many maybe meanwhile more most my"
    " no nobody nor not nothing now of on once one only or our perhaps please she since so some soon still such that"
    " the their then there these they this those though through to today together tomorrow two under until was we"
    " well were what when where whether which while who why will with without yes yesterday yet you your"
    " der die das er sie es ein eine und aber wir ich el la los las él ella un una y pero il elle le les"
    " et mais nous".split()
)


def _with_dot_letters_fixed(text: str) -> str:
    def fixed(found: re.Match[str]) -> str:
        letters = found[0].split(".")[:-1]
        if not all(letter.isupper() for letter in letters):
            return found[0]  # "e.g.", "p.m.": said as they are written
        after = _AFTER.match(text, found.end())
        assert after is not None
        if after["word"] and after.start("word") == found.end():
            # "J.R.R.Tolkien" and "U.S.A" go on; "J.R.example" and "J.R.Doe@example" are addresses.
            is_name = after["word"][0].isupper() and not _ADDRESS.match(text, after.end())
            return " ".join(letters) + " " if is_name else found[0]
        return " ".join(letters) + ("." if _ends_sentence(text, after) else "")

    return _DOT_LETTERS.sub(fixed, text)


def _ends_sentence(text: str, after: re.Match[str]) -> bool:
    if after.end("gap") == len(text) or is_paragraph_break(after["gap"]):
        return True
    if not after["gap"]:
        return text.startswith((".", "…"), after.end("closers")) and not after["closers"]
    if after["openers"].endswith(("¿", "¡")):
        return True
    first = after["word"][:1]  # a digit may open a sentence or go on with one; keeping the period costs only a pause
    return first.isdigit() or (first.isupper() and after["word"].lower() in _OPENERS)


# --- reference numbers

_NUMBER = r"[1-9]\d{0,2}"  # three digits at most: a year in brackets is no reference
_MARK = rf"\[{_NUMBER}(?:\s?[,;–—-]\s?{_NUMBER})*\]"
_MARKS = re.compile(rf"(?:{_MARK})+")
# What would make "name[1]" code: more of an expression behind it, or a name that no prose has.
_EXPRESSION = re.compile(r"\s*[=+*/<>|&%^]|\s*-\s*\d|[\[({]|\.?\w")
_CODE_NAMES = frozenset("arr array args argv buffer dict items list lst map matrix stack tuple values vector".split())
_UNSPACED = re.compile(f"[{UNSPACED}]")

_GLUED_NUMBER = re.compile(
    rf"(?P<word>\b[^\W\d_][\w'’-]{{1,39}}(?<=[^\W\d_]))(?P<end>[.!?][\"”’»)]?){_NUMBER}"
    r"(?P<next>\s+[\"'“„«(¿¡]*(?P<first>\w)|\s*\Z)"
)
# "No.5", "Fig.3": words that stand before a number of their own.
_NUMBERED = frozenset(
    "abb abs app appendix approx art article band bd box cap ch chap chapter col ed eq ex exp fig figs figure id item"
    " kap lesson line lines max min no nos note nr num number op page pages para part pp pt ref room sec sect"
    " section seite seq ser step str tab table tel ver version vol vols volume".split()
)


def _without_reference_numbers(text: str) -> str:
    text = _MARKS.sub(lambda marks: "" if _is_citation(text, marks) else marks[0], text)
    return _GLUED_NUMBER.sub(_without_glued_number, text)


def _is_citation(text: str, marks: re.Match[str]) -> bool:
    before = text[max(0, marks.start() - 40) : marks.start()]
    if not before or before[-1].isspace():
        return False
    following = text[marks.end() : marks.end() + 1]
    if _EXPRESSION.match(text, marks.end()) and not _UNSPACED.match(following):
        return False
    if before[-1].isalnum():
        return _is_prose(_last_token(before))
    return before[-1] in ".,;:!?…\"'”’»)。、，！？」』）"


def _last_token(before: str) -> str:
    found = re.search(r"\w+\Z", before)
    return found[0] if found else ""


def _is_prose(word: str) -> bool:
    if _UNSPACED.search(word) or word.isdigit():
        return True
    is_name_of_code = "_" in word or any(c.isdigit() for c in word) or re.search(r"[a-z][A-Z]", word) is not None
    return len(word) > 1 and not is_name_of_code and word.lower() not in _CODE_NAMES


def _without_glued_number(found: re.Match[str]) -> str:
    is_sentence_end = found["first"] is None or found["first"].isupper()
    if not is_sentence_end or found["word"].lower() in _NUMBERED or len(found["word"]) < 3:
        return found[0]
    return found["word"] + found["end"] + found["next"]
