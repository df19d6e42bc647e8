"""Japanese kanji as hiragana, which is how the multilingual model learned them (upstream uses pykakasi)."""

from __future__ import annotations

import re
import threading
import unicodedata
from typing import Any

KANJI = re.compile(r"[々〆㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff]")
READING = 7  # IPADIC's column with the reading as it is spelt, in katakana
KATAKANA_TO_HIRAGANA = {code: code - 0x60 for code in range(ord("ァ"), ord("ヶ") + 1)}


class HiraganaReader:
    """Reads kanji, from any thread. The first one costs 0.3 s and some 85 MB, for the dictionary that it keeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokenizer: Any = None

    def read(self, text: str) -> str:
        """The text with the words that have kanji in hiragana, all else as it was, decomposed (NFKD).

        Kanji stay where no reading is known, and all of them where the dictionary is not installed.
        """
        if KANJI.search(text):
            text = self._in_hiragana(unicodedata.normalize("NFKC", text))
        return unicodedata.normalize("NFKD", text)

    def _in_hiragana(self, text: str) -> str:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _load_tokenizer()
            morphemes = self._tokenizer.tokenize(text) if self._tokenizer else []
        return "".join(_read(morpheme.surface, morpheme.details) for morpheme in morphemes) or text


def _read(surface: str, details: list[str]) -> str:
    if not KANJI.search(surface) or len(details) <= READING or details[READING] == "*":
        return surface
    reading = details[READING].translate(KATAKANA_TO_HIRAGANA)
    # Upstream's mark that these are no particles, which are written the same and spoken otherwise.
    return f" {reading}" if reading[0] in "はへ" else reading


def _load_tokenizer() -> Any:
    try:
        import lindera
    except ImportError:
        return None
    builder = lindera.TokenizerBuilder()
    builder.set_mode("normal")
    builder.set_dictionary("embedded://ipadic")
    return builder.build()
