"""Japanese for eSpeak NG, which reads kana but calls every kanji "Chinese letter"."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from resilience.errors import GenerationFailed, UnreadableText

KANJI = re.compile(r"[々〆㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff]")

# Where a part of speech (IPADIC's first two columns) continues the word before it: particles and endings are
# spoken in one breath with it, and a geminate (カッ + タ) needs the sound that follows.
JOINED_KINDS = frozenset({"助詞", "助動詞", "記号"})
JOINED_SUBKINDS = frozenset({"接尾", "非自立"})

# Readings that the word list has only for one word at a time.
READINGS_OF_PAIRS = {("一", "人"): "ヒトリ", ("二", "人"): "フタリ"}
READINGS_AFTER_DIGITS = {"月": "ガツ"}

PHONETIC = 8  # IPADIC's column with the reading as it is spoken: particles as ワ and エ, long vowels as ー


class Morpheme(Protocol):
    @property
    def surface(self) -> str: ...
    @property
    def details(self) -> Sequence[str]: ...


class KanaReader:
    """Reads Japanese, from any thread. The first kanji costs 0.3 s and some 85 MB, for the dictionary that it keeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokenizer: Any = None

    def kana_of(self, text: str) -> str:
        """The text with each kanji replaced by its reading, words apart; text without kanji comes back as it is.

        Raises UnreadableText for a kanji without a known reading, GenerationFailed without a dictionary: silence or a
        "Chinese letter" in its place would drop what the client asked to hear.
        """
        if not KANJI.search(text):
            return text
        # Digits of full width would be read one by one, so compatibility forms go first.
        normal = unicodedata.normalize("NFKC", text)
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _load_tokenizer()
            morphemes = self._tokenizer.tokenize(normal)
        spoken = "".join(_words(morphemes)).lstrip()
        unread = KANJI.search(spoken)
        if unread:
            raise UnreadableText(f"the embedded engine knows no reading for the Japanese character {unread.group()}")
        return spoken


def _words(morphemes: Sequence[Morpheme]) -> Iterator[str]:
    """The spoken form of each morpheme, a space before those that begin a word."""
    skip = False
    for index, morpheme in enumerate(morphemes):
        if skip:
            skip = False
            continue
        before = morphemes[index - 1] if index else None
        after = morphemes[index + 1].surface if index + 1 < len(morphemes) else ""
        follows_digits = before is not None and before.surface.isascii() and before.surface[-1:].isdigit()
        # Inside a longer number the pair is a numeral and a counter: 十一人 is jūichinin.
        pair = None if before and before.details[1:2] == ["数"] else READINGS_OF_PAIRS.get((morpheme.surface, after))
        if pair:
            skip = True
            yield " " + pair
        else:
            reading = _reading(morpheme, follows_digits)
            yield reading if follows_digits or _continues(morpheme) else " " + reading


def _reading(morpheme: Morpheme, follows_digits: bool) -> str:
    if follows_digits and morpheme.surface in READINGS_AFTER_DIGITS:
        return READINGS_AFTER_DIGITS[morpheme.surface]
    details = morpheme.details
    if len(details) > PHONETIC and details[PHONETIC] != "*":
        return details[PHONETIC]
    return morpheme.surface


def _continues(morpheme: Morpheme) -> bool:
    kind, subkind = (*morpheme.details, "", "")[:2]
    return kind in JOINED_KINDS or subkind in JOINED_SUBKINDS


def _load_tokenizer() -> Any:
    try:
        import lindera
    except ImportError as error:
        raise GenerationFailed(
            "the embedded engine needs the package lindera-python-ipadic to read kanji; kana alone works without it"
        ) from error
    builder = lindera.TokenizerBuilder()
    builder.set_mode("normal")
    builder.set_dictionary("embedded://ipadic")
    return builder.build()
