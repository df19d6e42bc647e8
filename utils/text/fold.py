"""Texts as they are compared when case and accents do not count."""

from __future__ import annotations

import unicodedata

FIRST_POINT = 10  # combining classes from here on are accents and vowel points; below it they are parts of letters


def fold(text: str) -> str:
    """Lower case, without accents and points, each run of blanks one space: `Früh  ÉTÉ` → `fruh ete`.

    What Unicode calls compatible is the same (full-width letters, ligatures). Marks that make another letter, in
    Japanese or Devanagari, stay. What no database could store is left out.
    """
    storable = text.encode("utf-8", "replace").decode().replace("\0", " ")
    decomposed = unicodedata.normalize("NFKD", storable)
    bare = "".join(character for character in decomposed if unicodedata.combining(character) < FIRST_POINT)
    return " ".join(unicodedata.normalize("NFKC", bare.casefold()).split())
