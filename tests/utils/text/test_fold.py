from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.text.fold import fold


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Früh", "fruh"),
        ("ÉTÉ à la CRÈME", "ete a la creme"),
        ("Straße", "strasse"),
        ("İstanbul", "istanbul"),
        ("  two\t\n words ", "two words"),
        ("ＦＵＬＬ width", "full width"),
        ("ﬁne", "fine"),
        ("Ångström", "angstrom"),
        ("Việt Nam", "viet nam"),
        ("Ёлка", "елка"),
        ("Άλφα", "αλφα"),
        ("ΣΟΦΟΣ", "σοφοσ"),
        ("שָׁלוֹם", "שלום"),
        ("東京 タワー", "東京 タワー"),
        ("ガギグ", "ガギグ"),
        ("हिन्दी", "हिन्दी"),
        ("한국어", "한국어"),
        ('🎤 100% _x_ "q"', '🎤 100% _x_ "q"'),
        ("", ""),
        (" \u00a0\u3000", ""),
    ],
)
def test_case_accents_and_blanks_do_not_count(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text())
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_the_spelling_of_the_disk_does_not_count(text: str) -> None:
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == fold(text)
