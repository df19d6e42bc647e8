"""Cuts a text into the chunks that an engine speaks one at a time, without losing a character of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from itertools import zip_longest

import sentencex

from utils.text.normalize import is_paragraph_break

# A sentence shorter than this leaves the model too little to find its rhythm in ("Hi.", "No!").
SHORT_SENTENCE = 20

# sentencex takes quadratic time over a run of opening quotes (4 to 10 s for 100,000), so it sees this much at once.
_WINDOW = 2000
# A boundary this close to a window's end is decided by the next window, which sees what follows it.
_MARGIN = 64


class Pause(Enum):
    """What separates a chunk from the next one: NONE inside a clause, and after the last chunk."""

    NONE = auto()
    CLAUSE = auto()
    SENTENCE = auto()
    PARAGRAPH = auto()


class Grouping(Enum):
    """EACH: a chunk per sentence. SHORT: the same, but a short sentence shares its neighbour's chunk.
    FULL: as many sentences of a paragraph as fit."""

    EACH = auto()
    SHORT = auto()
    FULL = auto()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the text with the white space that follows it, and the pause that belongs there."""

    text: str
    pause: Pause


def split(text: str, *, language: str, max_characters: int, grouping: Grouping) -> list[Chunk]:
    """Chunks whose texts join to exactly `text`; none is blank unless the whole text is.

    `max_characters` counts a chunk without its outer white space; only a single grapheme may exceed it. A longer
    sentence is cut at the end of an inner sentence, a clause or a word, in pieces of similar length. A piece without a
    letter or digit ("...", "***") goes with a neighbour where it fits. `language` is a tag such as "en", "pt-BR" or
    "zh_Hans"; an unknown one gets the rules that most languages share. Takes time linear in the text.
    Raises ValueError if `max_characters` is below 1.
    """
    if max_characters < 1:
        raise ValueError(f"a chunk cannot hold {max_characters} characters")
    if not text or text.isspace():
        return [Chunk(text, Pause.NONE)] if text else []
    pieces = list(_pieces(text, _base_language(language), max_characters))
    groups = _grouped(_with_unspoken_attached(pieces, max_characters), max_characters, grouping)
    groups[-1] = replace(groups[-1], pause=Pause.NONE)
    return [Chunk(text[group.start : group.end], group.pause) for group in groups]


def with_short_first(chunks: list[Chunk], *, language: str, max_characters: int) -> list[Chunk]:
    """The same text, its first chunk in two where that is longer: the first of them as `split` would cut it."""
    first = chunks[0]
    if len(first.text.strip()) <= max_characters:
        return chunks
    short = split(first.text, language=language, max_characters=max_characters, grouping=Grouping.FULL)[0]
    rest = first.text[len(short.text) :]
    return [short, replace(first, text=rest), *chunks[1:]] if rest else chunks


def _base_language(tag: str) -> str:
    # sentencex knows "de" but takes "DE" and "de_DE" for English.
    return re.split("[-_]", tag.strip().lower(), maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class _Piece:
    """text[start:end], of which [first, last) is what remains without its outer white space."""

    start: int
    first: int
    last: int
    end: int
    pause: Pause
    is_spoken: bool

    def __len__(self) -> int:
        return self.last - self.first

    def joined(self, right: _Piece) -> _Piece:
        return _Piece(self.start, self.first, right.last, right.end, right.pause, self.is_spoken or right.is_spoken)

    def fits(self, right: _Piece, max_characters: int) -> bool:
        return right.last - self.first <= max_characters


_SPACE = re.compile(r"\s+")
_SPOKEN = re.compile(r"[^\W_]")


def _pieces(text: str, language: str, max_characters: int) -> Iterator[_Piece]:
    for start, end, pause in _sentences(text, language):
        first, last = _core(text, start, end)
        begun = start
        for cut, inner_pause in _cuts_within(text, first, last, max_characters):
            yield _piece(text, begun, cut, inner_pause)
            begun = cut
        yield _piece(text, begun, end, pause)


def _piece(text: str, start: int, end: int, pause: Pause) -> _Piece:
    return _Piece(start, *_core(text, start, end), end, pause, _SPOKEN.search(text, start, end) is not None)


def _core(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _past_space(text: str, position: int) -> int:
    run = _SPACE.match(text, position)
    return run.end() if run else position


# --- sentences

# What sentencex cuts and should not: where `before` ends and `after` begins, the sentence goes on. One row, one habit.
_UPPER = "[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĘĚŁŃŇÓŘŚŠŤŮŹŻŽΑ-ΩА-ЯЁІЇЄҐ]"
_NUMBERED = "no|nos|nr|nº|n|vol|vols|fig|figs|p|pp|pag|pág|art|ch|sec|eq|pt|cap|num|núm|str|ca|सं"
_GOES_ON: list[tuple[str, str, str]] = [  # language ("" is any), before, after
    ("", rf"(?<!\w){_UPPER}\.\s+", rf"{_UPPER}\.\s"),  # J. | R. R. Tolkien
    ("", rf"(?<!\w){_UPPER}\.\s+{_UPPER}\.\s+", _UPPER),  # J. R. | Tolkien
    ("", rf"(?<!\w)(?i:{_NUMBERED})\.\s+", r"\d"),  # Vol. | 3
    ("", r"\A\s*\(?(?:\d{1,3}|[^\W\d_])[.)]\s+", r"\S"),  # 2. | Second point
    ("", "[」』”’]", "(?:と|って|など)"),  # 「行こう。」 | と言った
    ("", "[」』”’]", r"[^\s。！？，、“「『]{1,6}?[说說道问問喊叫答]"),  # “走。” | 他说
    ("es", r"(?<!\w)(?:D|Dña|Dª)\.\s+", _UPPER),
    ("fr", r"(?<!\w)(?:M|MM|Mme|Mmes|Mlle|Mlles|Me|Dr|Pr|St|Ste)\.\s+", _UPPER),
    ("hi", r"(?:डॉ|श्री|प्रो)\.\s+", r"\S"),
    ("it", r"(?<!\w)S\.\s+", _UPPER),
    ("nl", r"(?<!\w)(?:[Mm]evr|[Dd]hr)\.\s+", _UPPER),
    ("pl", r"(?<!\w)(?:[Dd]r|[Pp]rof)\.\s+", _UPPER),
    ("ru", r"(?<!\w)т\.\s?е\.\s+", r"\S"),
]
_CONTEXT = 40


@lru_cache(maxsize=32)
def _rules(language: str) -> list[tuple[re.Pattern[str], re.Pattern[str]]]:
    rows = [(before, after) for known, before, after in _GOES_ON if known in ("", language)]
    return [(re.compile(rf"(?:{before})\Z"), re.compile(after)) for before, after in rows]


# Closing marks that sentencex left at the head of the next sentence; the ambiguous ones only where a blank follows.
_STRAY_CLOSERS = re.compile(r"[”’»›)\]）］】」』》〉]*(?:[\"'*_~]+(?=\s|\Z))?")


def _sentences(text: str, language: str) -> Iterator[tuple[int, int, Pause]]:
    """(start, end, pause after) of each sentence, the white space behind it included; they cover the text."""
    # sentencex panics (a BaseException) where a white space of several bytes stands beside an initial ("M\xa0."),
    # and takes no lone surrogates; this copy has the same positions.
    shadow = re.sub(r"[\ud800-\udfff]", "\ufffd", re.sub(r"\s", " ", text))
    for start, end in _paragraphs(text):
        sentence = start
        for cut in _sentence_starts(text, start, end, _boundaries(shadow[start:end], language), language):
            yield sentence, cut, Pause.SENTENCE
            sentence = cut
        yield sentence, end, Pause.PARAGRAPH


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for space in _SPACE.finditer(text):
        if space.start() > 0 and space.end() < len(text) and is_paragraph_break(space[0]):
            yield start, space.end()
            start = space.end()
    yield start, len(text)


def _sentence_starts(text: str, start: int, end: int, boundaries: Iterable[int], language: str) -> Iterator[int]:
    """The places in [start, end) where a sentence follows another, put right where sentencex is known to miss."""
    sentence = start
    seen = _past_space(text, start)
    for boundary in boundaries:
        if start + boundary <= seen:
            continue
        seen = start + boundary
        if not text[seen - 1].isspace() and (closers := _STRAY_CLOSERS.match(text, seen, end)):
            seen = closers.end()
        seen = _past_space(text, seen)
        if seen >= end:
            return
        if not _goes_on(text, sentence, seen, language):
            yield seen
            sentence = seen


def _goes_on(text: str, sentence: int, cut: int, language: str) -> bool:
    before = text[max(sentence, cut - _CONTEXT) : cut]
    after = text[cut : cut + _CONTEXT]
    return any(head.match(after) and tail.search(before) for tail, head in _rules(language))


def _boundaries(line: str, language: str) -> Iterator[int]:
    """Where sentencex would cut, ascending; read a window at a time, which keeps the whole linear."""
    start = 0
    while start < len(line):
        window = line[start : start + _WINDOW]
        ends = _window_boundaries(window, language)
        if start + len(window) == len(line):
            yield from (start + end for end in ends)
            return
        decided = [end for end in ends if end <= len(window) - _MARGIN]
        yield from (start + end for end in decided)
        # Going on from a boundary near the start could find another one there, again and again.
        is_far_on = bool(decided) and decided[-1] > _WINDOW // 2
        start += decided[-1] if is_far_on else len(window) - _MARGIN


def _window_boundaries(window: str, language: str) -> list[int]:
    try:
        found = sentencex.get_sentence_boundaries(language, window)
    except BaseException as panic:
        # A Rust panic is no Exception and cannot be imported; let through, it would take the server's task along.
        if type(panic).__name__ != "PanicException":
            raise
        return []
    return [boundary["end_index"] for boundary in found]


# --- sentences that are too long

_CLOSERS = r"[\"'”’»›)\]）」』》]*"
# Best first. A piece ends where the match ends (white space: where it starts).
_CUTS: list[tuple[re.Pattern[str], Pause]] = [
    # A period after fewer than three letters is likelier an abbreviation than an end.
    (re.compile(rf"(?:(?:(?<=\w{{3}})\.|[!?؟।॥។]+){_CLOSERS}(?=\s)|[。！？]+{_CLOSERS})"), Pause.SENTENCE),
    # Latin marks count before white space only: 1,000 and 12:30 stay whole.
    (re.compile(rf"(?:[;:,،؛–]{_CLOSERS}(?=\s)|[—…、，；：]+{_CLOSERS})"), Pause.CLAUSE),
]
# Zero-width spaces separate words in Khmer or Thai. No break between a mark and the word it belongs to ("« Oui »").
_WORD_GAP = re.compile(r"(?<![\s\u200b«‹(\[“„¿¡])[\s\u200b]++(?![»›!?:;%)\]])")


def _cuts_within(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, Pause]]:
    """Where to cut text[start:end], which has no outer white space, so that each piece has at most `limit` characters.

    Each cut aims at an equal share of what is left and stays within half to one and a half of it: no scrap remains.
    """
    while end - start > limit:
        share = (end - start) / -(-(end - start) // limit)
        stop, pause = _best_stop(text, start, end, share, limit)
        start = _past_space(text, stop)
        if start >= end:
            return
        yield start, pause


def _best_stop(text: str, start: int, end: int, share: float, limit: int) -> tuple[int, Pause]:
    def nearest(stops: Iterable[int], low: float, high: float) -> int | None:
        within = (stop for stop in stops if low <= stop - start <= high and stop < end)
        return min(within, key=lambda stop: abs(stop - start - share), default=None)

    reach = min(end, start + limit + 1)
    narrow = (max(1, share / 2), min(limit, share * 1.5))
    for pattern, pause in _CUTS:
        stop = nearest((match.end() for match in pattern.finditer(text, start, reach)), *narrow)
        if stop is not None:
            return stop, pause
    gaps = [match.start() for match in _WORD_GAP.finditer(text, start, reach)]
    gaps = gaps or [match.start() for match in _SPACE.finditer(text, start, reach)]
    stop = nearest(gaps, *narrow) or nearest(gaps, 1, limit)
    return stop or _grapheme_stop(text, start, end, start + max(1, round(share))), Pause.NONE


def _grapheme_stop(text: str, start: int, end: int, target: int) -> int:
    """The last grapheme boundary in (start, target], or else the first one behind."""
    back = next((stop for stop in range(target, start, -1) if _may_cut(text, stop, start)), None)
    return back or next((stop for stop in range(target + 1, end) if _may_cut(text, stop, start)), end)


# Letters by category that attach like marks: vowels of Thai and Lao, Hangul that continues a syllable, half-width
# voicing signs; and the format characters of emoji sequences.
_ATTACHED = re.compile(
    r"[\u0e33\u0eb3\u1160-\u11ff\ud7b0-\ud7fb\uff9e\uff9f\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
_VIRAMA = 9  # its canonical combining class: the consonant behind it is part of the same syllable


def _may_cut(text: str, position: int, start: int) -> bool:
    """Whether two graphemes meet at `position` (a sufficient part of UAX 29); text[start] is known to begin one."""
    left, right = text[position - 1], text[position]
    if unicodedata.category(right).startswith("M") or _ATTACHED.match(right):
        return False
    if left == "\u200d" or unicodedata.combining(left) == _VIRAMA or left + right == "\r\n":
        return False
    if "\ud800" <= left <= "\udbff" and "\udc00" <= right <= "\udfff":
        return False
    if _is_flag_letter(left) and _is_flag_letter(right):
        before = position
        while before > start and _is_flag_letter(text[before - 1]):
            before -= 1
        return (position - before) % 2 == 0
    return True


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


# --- pieces to chunks


def _with_unspoken_attached(pieces: list[_Piece], max_characters: int) -> list[_Piece]:
    """A piece that holds nothing to say joins the one before it, or the one it is glued to ("...and then")."""
    kept: list[_Piece] = []
    for piece in pieces:
        is_glued_on = piece.last == piece.end and piece is not pieces[-1]
        belongs_left = bool(kept) and (not kept[-1].is_spoken or not (piece.is_spoken or is_glued_on))
        if belongs_left and kept[-1].fits(piece, max_characters):
            kept[-1] = kept[-1].joined(piece)
        else:
            kept.append(piece)
    return kept


def _grouped(pieces: list[_Piece], max_characters: int, grouping: Grouping) -> list[_Piece]:
    groups: list[_Piece] = []
    for piece, following in zip_longest(pieces, pieces[1:]):
        if groups and groups[-1].pause is not Pause.PARAGRAPH and groups[-1].fits(piece, max_characters):
            may_go_right = following and piece.pause is not Pause.PARAGRAPH and piece.fits(following, max_characters)
            is_short = len(groups[-1]) < SHORT_SENTENCE or (len(piece) < SHORT_SENTENCE and not may_go_right)
            if grouping is Grouping.FULL or (grouping is Grouping.SHORT and is_short):
                groups[-1] = groups[-1].joined(piece)
                continue
        groups.append(piece)
    return groups
